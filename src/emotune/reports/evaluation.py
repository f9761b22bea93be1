"""An evaluation and what it is written as: metrics.json, predictions.csv, report.md and pictures."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.artifact import write_file, write_json
from emotune.data.records import Record
from emotune.decision import Decision
from emotune.labels import LabelSet, Task
from emotune.reports import tables
from emotune.scoring.metrics import Bools, Floats, Scores


@dataclass(frozen=True)
class Evaluation:
    """One split, scored: targets, decisions and probabilities, each (n, labels), and everything derived from them."""

    labels: LabelSet
    records: Sequence[Record]
    targets: Bools
    decided: Bools
    probabilities: Floats
    scores: Scores
    confusion: npt.NDArray[np.int64]
    model: str = ""
    split: str = ""
    level: str | None = None
    data: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def multi_label(self) -> bool:
        return self.labels.task is Task.MULTI_LABEL

    @property
    def title(self) -> str:
        """What was scored: the split, and the level when it is coarser than the model's labels."""
        return self.split if self.level is None else f"{self.split} at the level {self.level}"

    def to_json(self) -> dict[str, Any]:
        """All figures; an undefined one is null. `confusion` is missed → extra for multi-label."""
        each = self.scores.per_label
        columns = {
            "support": each.support,
            "predicted": each.predicted,
            "precision": each.precision,
            "recall": each.recall,
            "f1": each.f1,
            "f1_low": each.f1_low,
            "f1_high": each.f1_high,
            "average_precision": each.average_precision,
            "auroc": each.auroc,
        }
        return {
            "model": self.model,
            "split": self.split,
            "level": self.level,
            "data": list(self.data),
            "rows": self.scores.num_rows,
            "task": str(self.labels.task),
            "metrics": {name: number(value) for name, value in self.scores.overall.items()},
            "intervals": {name: [number(v) for v in pair] for name, pair in self.scores.intervals.items()},
            "labels": [
                {"label": name} | {key: number(values[i]) for key, values in columns.items()}
                for i, name in enumerate(self.labels.names)
            ],
            "labels_without_positives": list(self.scores.labels_without_positives),
            "confusion": self.confusion.tolist(),
            "warnings": list(self.warnings),
        }


def number(value: Any) -> float | int | None:
    """A number for JSON: None for one that is not defined."""
    if isinstance(value, int | np.integer):
        return int(value)
    return None if math.isnan(value) else float(value)


def write(evaluation: Evaluation, folder: Path, warn: Callable[[str], None]) -> None:
    """Write all reports of an evaluation to a folder; without matplotlib, without pictures, which is said."""
    write_json(folder / "metrics.json", evaluation.to_json())
    write_file(folder / "predictions.csv", predictions_csv(evaluation))
    pictures = _write_pictures(evaluation, folder, warn)
    write_file(folder / "report.md", report_markdown(evaluation, pictures))


def _write_pictures(evaluation: Evaluation, folder: Path, warn: Callable[[str], None]) -> list[tuple[str, str]]:
    try:
        from emotune.reports import figures
    except ImportError:
        warn("no pictures: matplotlib is not installed (pip install 'emotune[reports]')")
        return []
    title = f"F1 by label, {evaluation.title}"
    write_file(folder / "label_f1.png", figures.label_f1(evaluation.scores, evaluation.labels, title))
    multi = evaluation.multi_label
    name, title = ("missed_extra.png", "Missed → said instead") if multi else ("confusion.png", "Confusion matrix")
    drawn = figures.confusion_matrix(
        evaluation.confusion, evaluation.labels, f"{title}, {evaluation.title}", missed_extra=multi
    )
    write_file(folder / name, drawn)
    return [("F1 by label with 95 % intervals", "label_f1.png"), (title, name)]


def predictions_csv(evaluation: Evaluation) -> str:
    """One row a text: its place, id, text, labels as given and as decided, and the score of each label."""
    names = evaluation.labels.names
    decided = Decision.default(evaluation.labels).names(evaluation.decided, evaluation.probabilities)
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["file", "line", "id", "text", "labels", "predicted", *(f"score:{name}" for name in names)])
    for i, record in enumerate(evaluation.records):
        given = [names[j] for j in np.flatnonzero(evaluation.targets[i])]
        scores = (f"{p:.6f}" for p in evaluation.probabilities[i])
        place = [record.path.name, record.line, record.id or "", record.text]
        writer.writerow([*place, "|".join(given), "|".join(decided[i]), *scores])
    return out.getvalue()


def report_markdown(evaluation: Evaluation, pictures: Sequence[tuple[str, str]]) -> str:
    """The report that a reader opens first."""
    scores, multi = evaluation.scores, evaluation.multi_label
    missing = tables.labels_without_positives(scores)
    lines = [f"# Evaluation on {tables.escape(evaluation.title)}", ""]
    lines += [f"- model: `{evaluation.model}`", *(f"- {tables.escape(line)}" for line in evaluation.data)]
    lines += [f"- rows: {scores.num_rows:,}"]
    lines += [f"- **warning:** {tables.escape(warning)}" for warning in evaluation.warnings]
    if missing:
        lines.append(f"- {tables.escape(missing)}")
    lines += ["", "## Overall", "", tables.markdown(tables.overall_table(scores, multi_label=multi)), ""]
    lines += ["Intervals: 95 %, from 1,000 bootstrap draws of the rows.", ""]
    lines += ["## By label", "", tables.markdown(tables.label_table(scores, evaluation.labels)), ""]
    confused = tables.confused_table(evaluation.confusion.tolist(), evaluation.labels, multi_label=multi)
    if confused.rows:
        lines += ["## Most confused", "", tables.markdown(confused), ""]
    for title, name in pictures:
        lines += [f"## {title}", "", f"![{title}]({name})", ""]
    return "\n".join(lines)
