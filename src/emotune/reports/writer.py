"""A report, described once and written as JSON, Markdown, HTML and pictures.

A verb describes its findings as a `Report`: sections made of blocks. `write_report` writes the files from it, by the
Jinja2 templates of this package. Texts in a description are plain text; the templates escape them, for HTML or for
Markdown. The only markup from outside the templates is our own: the style sheet, tables in Markdown, and the SVG that
`inline_svg` has rebuilt.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from emotune.atomic import write_file, write_json
from emotune.display import clean
from emotune.errors import install
from emotune.reports.tables import Table, escape, markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INLINE = ("report.css", "templates/report.js")
PAGE, TEXT = "report.html", "report.md"
_MAX_BYTES = 500_000  # of one picture in the page: the matrix of hundreds of labels would outweigh all the rest
_MAX_ROWS = 300  # of one table in the page


# --- blocks ----------------------------------------------------------------------------------------------------


class Block:
    """A part of a section; the templates choose by its kind, the name of its class."""

    @property
    def kind(self) -> str:
        return type(self).__name__


@dataclass(frozen=True)
class Paragraph(Block):
    """A paragraph of plain text. `quiet`: small and grey, for notes."""

    text: str
    quiet: bool = False


@dataclass(frozen=True)
class Heading(Block):
    """A heading within a section."""

    text: str


@dataclass(frozen=True)
class Bullets(Block):
    """A list of sentences, each with examples."""

    items: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Facts(Block):
    """Names and values. An empty name continues the value above it."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class CaptionedTable(Block):
    """A table with a caption. `words`: the columns that hold running text. Without rows it is left out."""

    caption: str
    table: Table
    words: tuple[int, ...] = ()

    @property
    def classes(self) -> list[str]:
        """The style of each column in the page."""
        return [
            "number" if number else "words" if i in self.words else "" for i, number in enumerate(self.table.numeric)
        ]


@dataclass(frozen=True)
class Headlines(Block):
    """Key figures in large print: names, values, intervals. The Markdown leaves them out: a table below has them."""

    table: Table


@dataclass(frozen=True)
class Mark:
    """One answer about a text. `right`: whether it is marked ✓ or ✗ (None: not marked)."""

    name: str
    detail: str = ""
    right: bool | None = None

    def __str__(self) -> str:
        sign = "" if self.right is None else "✓ " if self.right else "✗ "
        return f"{sign}{self.name}{self.detail}"


@dataclass(frozen=True)
class Case:
    """One text: its place, a note, and answers about it by name, such as its labels and the predicted ones."""

    place: str
    text: str
    answers: tuple[tuple[str, tuple[Mark, ...]], ...]
    note: str = ""


@dataclass(frozen=True)
class Cases(Block):
    """Single texts."""

    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Piece:
    """A piece of a text. `level`: how strongly it is highlighted, from 1 to 4, below 0 as against; 0: not."""

    text: str
    level: int = 0

    @property
    def style(self) -> str:
        """The name of its style in the page; empty for none."""
        return f"{'for' if self.level > 0 else 'against'}-{abs(self.level)}" if self.level else ""


@dataclass(frozen=True)
class Highlights(Block):
    """One text several times, with other pieces highlighted for each name (such as a label and its score)."""

    rows: tuple[tuple[str, tuple[Piece, ...]], ...]


@dataclass(frozen=True)
class Errors(Block):
    """Wrong predictions. The page shows the first `few` and the others on demand; its script puts filters on them."""

    cases: tuple[Case, ...]
    few: int = 6


@dataclass(frozen=True)
class Code(Block):
    """Preformatted text. `label`: what it is, for screen readers."""

    text: str
    label: str


@dataclass(frozen=True)
class Panel:
    """One part of a picture, as an SVG of its own with a name, a caption and a text that stands in for it.

    `box`: left, top, width and height of its axes, in units of the SVG, for the script of the page.
    """

    name: str
    caption: str
    alt: str
    svg: bytes
    box: tuple[float, ...] = ()


@dataclass(frozen=True)
class Picture(Block):
    """A picture: the stem of its file's name, its title, a text that stands in for it, and how it is drawn.

    `draw` may import matplotlib. `note`: a sentence above it. `wide`: the page scrolls it instead of shrinking it.
    `panels`: draws the parts that the page shows in place of the whole picture.
    """

    stem: str
    title: str
    alt: str
    draw: "Callable[[], Figure]"
    note: str = ""
    wide: bool = False
    panels: Callable[[], Sequence[Panel]] | None = None


@dataclass(frozen=True)
class Details(Block):
    """Blocks that the page shows on demand, and paper always."""

    summary: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Columns(Block):
    """Blocks beside each other where there is room, a tuple for each column."""

    columns: tuple[tuple[Block, ...], ...]


@dataclass(frozen=True)
class Section:
    """A part of a report: the id that links lead to, a heading, and blocks. Without blocks it is left out."""

    id: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Report:
    """The description of a report.

    `data_name`, `data`: the name and the content of its JSON file. `attachments`: further text files by name. `lead`:
    the paragraphs at the top. `page`: whether there is an HTML page too. `edition`: date and version, for its title;
    `write_report` sets it. `interactive`: JSON for the script of the page.
    """

    title: str
    data_name: str
    data: Mapping[str, Any]
    sections: Sequence[Section]
    facts: tuple[tuple[str, str], ...] = ()
    lead: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    footer: str = ""
    attachments: Mapping[str, str] = field(default_factory=dict)
    page: bool = True
    edition: str = ""
    interactive: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pictures(self) -> Iterator[Picture]:
        """All pictures of all sections, their columns and their details."""
        return _pictures(chain(*(section.blocks for section in self.sections)))

    def with_pictures(self, stems: Iterable[str]) -> "Report":
        """The report with these pictures only, and without what is empty."""
        kept = frozenset(stems)
        sections = [replace(section, blocks=_filled(section.blocks, kept)) for section in self.sections]
        return replace(self, sections=tuple(section for section in sections if section.blocks))


def _pictures(blocks: Iterable[Block]) -> Iterator[Picture]:
    for block in blocks:
        if isinstance(block, Picture):
            yield block
        elif isinstance(block, Columns):
            yield from _pictures(chain(*block.columns))
        elif isinstance(block, Details):
            yield from _pictures(block.blocks)


def _filled(blocks: Sequence[Block], stems: frozenset[str]) -> tuple[Block, ...]:
    kept: list[Block] = []
    for block in blocks:
        if isinstance(block, Columns):
            columns = tuple(filter(None, (_filled(column, stems) for column in block.columns)))
            kept += [Columns(columns)] if columns else []
        elif isinstance(block, Details):
            inner = _filled(block.blocks, stems)
            kept += [replace(block, blocks=inner)] if inner else []
        elif not (
            (isinstance(block, Picture) and block.stem not in stems)
            or (isinstance(block, CaptionedTable) and not block.table.rows)
        ):
            kept.append(block)
    return tuple(kept)


# --- files -----------------------------------------------------------------------------------------------------


def write_report(report: Report, folder: Path, warn: Callable[[str], None]) -> Path:
    """Write all files of a report to a folder, and return the one to open: the page, or the Markdown without one.

    Without matplotlib there are no pictures, which `warn` reports.
    """
    write_json(folder / report.data_name, report.data)
    for name, text in report.attachments.items():
        write_file(folder / name, text)
    report = _dated(report)
    svgs = _write_pictures(report, folder, warn)
    shown = report.with_pictures(svgs)
    write_file(folder / TEXT, report_markdown(shown))
    if not report.page:
        return folder / TEXT
    write_file(folder / PAGE, report_html(shown, svgs))
    return folder / PAGE


def write_page(report: Report, path: Path) -> None:
    """Write the page of a report without pictures, alone."""
    write_file(path, report_html(_dated(report).with_pictures(()), {}))


def _dated(report: Report) -> Report:
    return replace(report, edition=f"{datetime.now().astimezone():%Y-%m-%d %H:%M} · emotune {version('emotune')}")


def _write_pictures(report: Report, folder: Path, warn: Callable[[str], None]) -> dict[str, bytes]:
    """Write the pictures as PNG and SVG, and return each SVG by its stem."""
    try:
        from emotune.reports.figures import rendered
    except ImportError:
        warn(f"no pictures: matplotlib is not installed; {install('reports')}")
        return {}
    svgs = {}
    for picture in report.pictures:
        figure = picture.draw()
        svgs[picture.stem] = rendered(figure, "svg")
        write_file(folder / f"{picture.stem}.png", rendered(figure, "png"))
        write_file(folder / f"{picture.stem}.svg", svgs[picture.stem])
    return svgs


def report_html(report: Report, svgs: Mapping[str, bytes]) -> str:
    """The page of a report, with an SVG for each picture: one file that loads nothing and runs only its own script.

    Its policy allows that one script and its one style sheet, by their digests, and no more.
    """
    shown: dict[str, Markup | None] = {}
    panels: dict[str, list[tuple[Panel, Markup]]] = {}
    for picture in report.pictures:
        svg, prefix = svgs[picture.stem], picture.stem.replace("_", "-")
        if picture.panels is not None:
            panels[picture.stem] = [
                (panel, inline_svg(panel.svg, prefix=f"{prefix}-{i}", alt=panel.alt))
                for i, panel in enumerate(picture.panels())
            ]
        else:
            fits = len(svg) <= _MAX_BYTES
            shown[picture.stem] = inline_svg(svg, prefix=prefix, alt=picture.alt, crop=True) if fits else None
    style, script = (files(__package__).joinpath(name).read_text(encoding="utf-8") for name in _INLINE)
    policy = f"style-src {policy_source(style)}; script-src {policy_source(script)}"
    return _template("report.html", clean).render(
        report=report,
        svgs=shown,
        panels=panels,
        max_rows=_MAX_ROWS,
        style=Markup(style),  # noqa: S704 (part of the package)
        script=Markup(script),  # noqa: S704 (part of the package)
        data=script_json(report.interactive),
        policy=f"default-src 'none'; {policy}; base-uri 'none'; form-action 'none'",
    )


def policy_source(text: str) -> str:
    """Return the source of a Content-Security-Policy that allows this text alone."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def script_json(content: Mapping[str, Any]) -> Markup:
    """JSON for a `script` element: ASCII, and without the characters that could end the element."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 (escaped just now)


def report_markdown(report: Report) -> str:
    """The report as Markdown, its pictures as links to their files."""
    return render_markdown("report.md", report=report).rstrip() + "\n"


# --- templates -------------------------------------------------------------------------------------------------


def render_markdown(template: str, **values: Any) -> str:
    """A text in Markdown, its inserted values escaped; `table` and `verbatim` are for those of the templates' own."""
    tools = {"table": lambda table: Markup(markdown(table)), "verbatim": Markup}  # noqa: S704 (escaped cell by cell)
    return str(clean(_template(template, _escaped).render(**tools, **values)))


def _escaped(value: Any) -> Markup:
    return value if isinstance(value, Markup) else Markup(escape(str(value)))  # noqa: S704 (escaped for Markdown)


@cache
def _template(name: str, finalize: Callable[[Any], Any]) -> Template:
    """A template that escapes; `finalize` comes first, and its markup is not escaped again."""
    environment = Environment(
        loader=PackageLoader("emotune.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)


# --- pictures --------------------------------------------------------------------------------------------------

# the colours of the pictures, by the names that report.css gives them
_COLORS = {
    "#000000": "ink",
    "#222222": "ink",
    "#5f5f5f": "quiet",
    "#dcdcdc": "rule",
    "#e9e9e9": "empty",
    "#ffffff": "paper",
    "#0072b2": "blue",
    "#a6cee3": "light-blue",
    "#d55e00": "vermilion",
    "#b34d00": "rust",
    "#009e73": "green",
    "#cc79a7": "pink",
    "#e69f00": "orange",
    "#56b4e9": "sky",
}
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_LONG_NUMBER = re.compile(r"(\d+\.\d\d)\d+")
_REFERENCE = re.compile(r"#([\w.-]+)")
_NUMBERS = {"d", "x", "y", "transform"}
_CROP = 0.7  # of the margin around a picture: a page has its own


@cache
def variables() -> Mapping[str, str]:
    """From each colour of the pictures to the page's variable."""
    from emotune.reports.figures import HEAT

    names = {color: f"heat-{i}" for i, color in enumerate(HEAT)} | _COLORS
    return {color: f"var(--{name})" for color, name in names.items()}


def inline_svg(svg: bytes, *, prefix: str, alt: str, crop: bool = False) -> Markup:
    """A picture of ours, rebuilt as an `svg` element for a page: no title, no styles, no ids but those with `prefix`.

    The page's policy refuses style attributes, so they become plain attributes; colours of the pictures become the
    page's variables, so that they follow light and dark. alt: a text that stands in for the picture. crop: whether it
    loses most of its margin.
    """
    from emotune.reports.figures import MARGIN, POINTS, TITLE, TITLE_LINE

    root = fromstring(svg)  # noqa: S314 (our own picture, drawn a moment ago)
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    margin = _CROP * MARGIN * POINTS if crop else 0.0
    top = margin
    for parent in list(root.iter()):
        for child in list(parent):
            if child.get("id", "").startswith(TITLE):
                parent.remove(child)
                top += TITLE_LINE * POINTS
    attributes = {
        "viewBox": f"{margin:g} {top:g} {width - 2 * margin:g} {height - top - margin:g}",
        "width": f"{width - 2 * margin:g}pt",
        "role": "img",
        "aria-label": clean(alt),
        "stroke-linejoin": "round",
    }
    copied, used = Element("svg", attributes), set(_REFERENCE.findall(svg.decode()))
    for child in root:
        _copy(child, copied, prefix, used)
    return Markup(tostring(copied, encoding="unicode", method="html"))  # noqa: S704 (rebuilt and escaped just now)


def _copy(element: Element, parent: Element, prefix: str, used: set[str]) -> None:
    """Append what the page needs of an element; `used`: the ids that some element refers to."""
    tag = element.tag.removeprefix(_SVG)
    if tag in ("metadata", "style"):
        return
    attributes = _attributes(element, prefix, used)
    if tag != "g" or attributes:  # else a group without any meaning: its content alone is copied
        parent = SubElement(parent, tag, attributes)
        parent.text = element.text if element.text and element.text.strip() else None
    for child in element:
        _copy(child, parent, prefix, used)


def _attributes(element: Element, prefix: str, used: set[str]) -> dict[str, str]:
    def referring(value: str) -> str:
        return _REFERENCE.sub(lambda m: f"#{prefix}-{m[1]}" if m[1] in used else m[0], value)

    found: dict[str, str] = {}
    for name, value in element.attrib.items():
        if name == "style":
            pairs = (part.partition(":") for part in value.split(";") if ":" in part)
            styles = {key.strip(): content.strip() for key, _, content in pairs}
            styles.pop("font-family", None)
            found |= {key: referring(variables().get(content, content)) for key, content in styles.items()}
        elif name == "id":
            found |= {"id": f"{prefix}-{value}"} if value in used else {}
        elif name in _NUMBERS:
            found[name] = _LONG_NUMBER.sub(r"\1", " ".join(value.split()))
        elif name == _LINK or not name.startswith("{"):
            found["href" if name == _LINK else name] = referring(value)
    return found
