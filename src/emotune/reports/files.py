"""The files that an evaluation is written as."""

from collections.abc import Callable, Sequence
from pathlib import Path

from emotune.atomic import write_file, write_json
from emotune.reports.evaluation import Evaluation, predictions_csv, report_markdown
from emotune.reports.inline import Inlined, inline
from emotune.reports.page import report_html
from emotune.reports.provenance import Background

REPORT = "report.html"


def write(
    evaluation: Evaluation,
    background: Background,
    coarser: Sequence[Evaluation],
    folder: Path,
    warn: Callable[[str], None],
    resamples: int,
) -> Path:
    """Write all reports of an evaluation to a folder, and return the one to open: report.html.

    coarser, resamples: as for `report_html`. Without matplotlib there are no pictures, which is said.
    """
    write_json(folder / "metrics.json", evaluation.to_json())
    write_file(folder / "predictions.csv", predictions_csv(evaluation))
    pictures, drawn = _write_pictures(evaluation, background, folder, warn)
    write_file(folder / "report.md", report_markdown(evaluation, pictures))
    write_file(folder / REPORT, report_html(evaluation, background, coarser, drawn, resamples))
    return folder / REPORT


def _write_pictures(
    evaluation: Evaluation, background: Background, folder: Path, warn: Callable[[str], None]
) -> tuple[list[tuple[str, str]], Inlined]:
    """Titles and file names of the pictures, and the pictures for a page."""
    try:
        from emotune.reports import figures  # noqa: F401 (without it there are no pictures to name)
        from emotune.reports.pictures import draw, label_curves
    except ImportError:
        warn("no pictures: matplotlib is not installed (pip install 'emotune[reports]')")
        return [], Inlined()
    drawn = draw(evaluation, background)
    for picture in drawn:
        write_file(folder / f"{picture.stem}.png", picture.picture.png)
        write_file(folder / f"{picture.stem}.svg", picture.picture.svg)
    names = [(picture.title, f"{picture.stem}.png") for picture in drawn]
    return names, inline(drawn, label_curves(evaluation))
