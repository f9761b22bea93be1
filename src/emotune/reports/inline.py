"""The pictures of an evaluation as parts of its HTML report. Works without matplotlib: then there are none."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from emotune.reports import theme
from emotune.reports.html import h, said
from emotune.reports.svg import inlined

if TYPE_CHECKING:
    from emotune.reports.figures import LabelCurve
    from emotune.reports.pictures import Named

_MOST_BYTES = 500_000  # of one picture: the matrix of hundreds of labels would outweigh all the rest
_WIDE = {"missed_extra", "confusion"}
_PANELS = "precision_recall"
_CROP = 0.7  # of the margin around a picture: a page has its own


@dataclass(frozen=True)
class Inlined:
    """Figures by their stems, the panels of the precision–recall curves, and the colours that counts are shown in."""

    figures: dict[str, Element] = field(default_factory=dict)
    panels: Element | None = None
    heat: tuple[str, ...] = ()

    def figure(self, stem: str) -> Element | None:
        """The figure of that name, if it was drawn."""
        return self.figures.get(stem)


def inline(pictures: "Sequence[Named]", curves: "Sequence[LabelCurve]") -> Inlined:
    """The pictures as elements of a page."""
    from emotune.reports.figures import HEAT, MARGIN, POINTS, TITLE, TITLE_LINE, precision_recall_panel

    def element(svg: bytes, prefix: str, alt: str, crop: float = 0) -> Element:
        colors, cut = theme.colors(HEAT), TITLE_LINE * POINTS
        return inlined(svg, prefix=prefix, alt=alt, colors=colors, drop=TITLE, cut=cut, crop=crop)

    figures = {}
    for picture in pictures:
        if picture.stem == _PANELS:
            continue  # panel by panel below: they flow, and a phone shows two beside each other
        if len(picture.picture.svg) > _MOST_BYTES:
            figures[picture.stem] = h(
                "p", f"{picture.title}: too large for this page; see {picture.stem}.svg beside it."
            )
            continue
        prefix = picture.stem.replace("_", "-")
        drawn = element(picture.picture.svg, prefix, picture.alt, crop=_CROP * MARGIN * POINTS)
        if picture.stem in _WIDE:
            box = h("div", drawn, class_="wide scroll", tabindex="0", role="region", aria_label=picture.title)
            figures[picture.stem] = h("figure", box, h("figcaption", picture.title))
        else:
            figures[picture.stem] = h("figure", drawn, h("figcaption", picture.title))
    panels = [
        h(
            "figure",
            h("figcaption", h("b", said(curve.name, 60)), curve.caption),
            element(precision_recall_panel(curve), f"pr-{i}", f"Precision and recall of {curve.name}"),
        )
        for i, curve in enumerate(curves)
    ]
    return Inlined(figures, h("div", panels, class_="panels") if panels else None, HEAT)
