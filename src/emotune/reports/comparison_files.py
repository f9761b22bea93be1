"""The files that a comparison is written as."""

from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from emotune.atomic import write_file, write_json
from emotune.reports.comparison import ComparisonReport
from emotune.reports.comparison_markdown import comparison_markdown
from emotune.reports.comparison_page import comparison_html
from emotune.reports.files import REPORT
from emotune.reports.inline import Inlined, inline


def write_comparison(
    report: ComparisonReport, folder: Path, warn: Callable[[str], None], more: Sequence[Element | None] = ()
) -> Path:
    """Write comparison.json, report.md, report.html and pictures to a folder, and return the page to open.

    `more`: further sections of the page. Without matplotlib there are no pictures, which is said.
    """
    write_json(folder / "comparison.json", report.to_json())
    titles, drawn = _write_pictures(report, folder, warn)
    write_file(folder / "report.md", comparison_markdown(report, titles))
    write_file(folder / REPORT, comparison_html(report, drawn, more))
    return folder / REPORT


def _write_pictures(
    report: ComparisonReport, folder: Path, warn: Callable[[str], None]
) -> tuple[list[tuple[str, str]], Inlined]:
    """Titles and file names of the pictures, and the pictures for a page."""
    try:
        from emotune.reports.comparison_pictures import draw_comparison
    except ImportError:
        warn("no pictures: matplotlib is not installed (pip install 'emotune[reports]')")
        return [], Inlined()
    pictures = draw_comparison(report)
    for named in pictures:
        write_file(folder / f"{named.stem}.png", named.picture.png)
        write_file(folder / f"{named.stem}.svg", named.picture.svg)
    return [(named.title, f"{named.stem}.png") for named in pictures], inline(pictures, [])
