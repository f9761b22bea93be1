"""A report, described once and written as JSON, Markdown, HTML and pictures.

A verb describes its findings as a `Report`: sections made of blocks. `write_report` writes the files from it. Texts in
a description are plain text; they are escaped when they are written.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from markupsafe import Markup

from emotune.atomic import write_file, write_json
from emotune.reports import rendering
from emotune.reports.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from emotune.reports.figures import Drawing

PAGE, TEXT = "report.html", "report.md"
_MAX_BYTES = 500_000  # of one picture in the page: the matrix of hundreds of labels would outweigh all the rest
_MAX_ROWS = 300  # of one table in the page


# --- blocks ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of plain text. `quiet`: small and grey, for notes."""

    text: str
    quiet: bool = False
    kind: ClassVar[str] = "paragraph"


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str
    kind: ClassVar[str] = "heading"


@dataclass(frozen=True)
class Bullets:
    """A list of sentences, each with examples."""

    items: tuple[tuple[str, tuple[str, ...]], ...]
    kind: ClassVar[str] = "bullets"


@dataclass(frozen=True)
class Facts:
    """Names and values. An empty name continues the value above it."""

    pairs: tuple[tuple[str, str], ...]
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class CaptionedTable:
    """A table with a caption. `words`: the columns that hold running text. Without rows it is left out."""

    caption: str
    table: Table
    words: tuple[int, ...] = ()
    kind: ClassVar[str] = "table"

    @property
    def classes(self) -> list[str]:
        """The style of each column in the page."""
        return [
            "number" if number else "words" if i in self.words else "" for i, number in enumerate(self.table.numeric)
        ]


@dataclass(frozen=True)
class Headline:
    """A key figure with its interval ("" where there is none)."""

    name: str
    value: str
    interval: str


@dataclass(frozen=True)
class Headlines:
    """Key figures in large print. The Markdown leaves them out: the table below them has them all."""

    items: tuple[Headline, ...]
    kind: ClassVar[str] = "headlines"


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
class Cases:
    """Single texts."""

    cases: tuple[Case, ...]
    kind: ClassVar[str] = "cases"


@dataclass(frozen=True)
class Code:
    """Preformatted text. `label`: what it is, for screen readers."""

    text: str
    label: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Panel:
    """One part of a picture, as a figure of its own with a name, a caption and a text that stands in for it."""

    name: str
    caption: str
    alt: str
    figure: "Figure"


@dataclass(frozen=True)
class Picture:
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
    kind: ClassVar[str] = "picture"


@dataclass(frozen=True)
class Details:
    """Blocks that the page shows on demand. `again`: they repeat others, so that paper and Markdown leave them out."""

    summary: str
    blocks: "tuple[Block, ...]"
    again: bool = False
    kind: ClassVar[str] = "details"


@dataclass(frozen=True)
class Columns:
    """Blocks beside each other where there is room, a tuple for each column."""

    columns: "tuple[tuple[Block, ...], ...]"
    kind: ClassVar[str] = "columns"


Block = Paragraph | Heading | Bullets | Facts | CaptionedTable | Headlines | Cases | Code | Picture | Details | Columns


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
    the paragraphs at the top. `page`: whether there is an HTML page too.
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

    @property
    def pictures(self) -> "Iterator[Picture]":
        """All pictures of all sections."""
        return (block for section in self.sections for block in _all(section.blocks) if isinstance(block, Picture))

    def with_pictures(self, stems: Iterable[str]) -> "Report":
        """The report with these pictures only, and without what is empty."""
        kept = frozenset(stems)
        sections = [replace(section, blocks=_filled(section.blocks, kept)) for section in self.sections]
        return replace(self, sections=tuple(section for section in sections if section.blocks))


def _all(blocks: Sequence[Block]) -> Iterator[Block]:
    """The blocks and those in their columns."""
    for block in blocks:
        yield block
        if isinstance(block, Columns):
            for column in block.columns:
                yield from _all(column)


def _filled(blocks: Sequence[Block], stems: frozenset[str]) -> tuple[Block, ...]:
    kept: list[Block] = []
    for block in blocks:
        if isinstance(block, Columns):
            columns = tuple(filter(None, (_filled(column, stems) for column in block.columns)))
            kept += [Columns(columns)] if columns else []
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
    drawings = _write_pictures(report, folder, warn)
    shown = report.with_pictures(drawings)
    write_file(folder / TEXT, report_markdown(shown))
    if not report.page:
        return folder / TEXT
    write_file(folder / PAGE, report_html(shown, drawings))
    return folder / PAGE


def _write_pictures(report: Report, folder: Path, warn: Callable[[str], None]) -> "dict[str, Drawing]":
    """Write the pictures as PNG and SVG, and return them by their stems."""
    try:
        from emotune.reports.figures import rendered
    except ImportError:
        warn("no pictures: matplotlib is not installed (pip install 'emotune[reports]')")
        return {}
    drawings = {}
    for picture in report.pictures:
        drawn = drawings[picture.stem] = rendered(picture.draw())
        write_file(folder / f"{picture.stem}.png", drawn.png)
        write_file(folder / f"{picture.stem}.svg", drawn.svg)
    return drawings


def report_html(report: Report, drawings: "Mapping[str, Drawing]") -> str:
    """The page of a report, whose `drawings` are all its pictures: one file that loads nothing and runs nothing."""
    svgs: dict[str, Markup | None] = {}
    panels: dict[str, list[tuple[Panel, Markup]]] = {}
    for picture in report.pictures:
        svg, prefix = drawings[picture.stem].svg, picture.stem.replace("_", "-")
        if picture.panels is not None:
            panels[picture.stem] = _panels(picture.panels(), prefix)
        else:
            fits = len(svg) <= _MAX_BYTES
            svgs[picture.stem] = rendering.inline_svg(svg, prefix=prefix, alt=picture.alt, crop=True) if fits else None
    return rendering.render_page("report.html", report=report, svgs=svgs, panels=panels, max_rows=_MAX_ROWS)


def _panels(panels: Sequence[Panel], prefix: str) -> list[tuple[Panel, Markup]]:
    from emotune.reports.figures import svg_of

    svgs = (
        rendering.inline_svg(svg_of(each.figure), prefix=f"{prefix}-{i}", alt=each.alt) for i, each in enumerate(panels)
    )
    return list(zip(panels, svgs, strict=True))


def report_markdown(report: Report) -> str:
    """The report as Markdown, its pictures as links to their files."""
    return rendering.render_markdown("report.md", report=report).rstrip() + "\n"
