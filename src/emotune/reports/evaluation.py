"""An evaluation, and it as metrics.json, predictions.csv and report.md."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.data.records import Record
from emotune.decision import Decision
from emotune.labels import LabelSet, Task
from emotune.reports import tables
from emotune.scoring.metrics import Bools, Floats, Scores
from emotune.scoring.slices import Confusions

_MOST_CONFUSED = 30


@dataclass(frozen=True)
class Evaluation:
    """One split, scored: targets, decisions and probabilities, each (n, labels), and everything derived from them.

    `thresholds`: those that the probabilities were held against; None where there are none (multi-class, coarser
    levels).
    """

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
    thresholds: tuple[float, ...] | None = None

    @property
    def multi_label(self) -> bool:
        return self.labels.task is Task.MULTI_LABEL

    @cached_property
    def confusions(self) -> Confusions:
        """What is taken for what most often."""
        return Confusions.of(self.targets, self.decided, self.labels, _MOST_CONFUSED)

    @property
    def title(self) -> str:
        """What was scored: the split, and the level when it is coarser than the model's labels."""
        return self.split if self.level is None else f"{self.split} at the level {self.level}"

    def to_json(self) -> dict[str, Any]:
        """All figures; an undefined one is null. `confusion` is missed → extra for multi-label, and so are the pairs of
        `most_confused` (see `confusions_json`)."""
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
            **confusions_json(self.confusions, self.labels),
            "warnings": list(self.warnings),
        }


def confusions_json(found: Confusions, labels: LabelSet) -> dict[str, list[dict[str, Any]]]:
    """What is taken for what, by names.

    `most_confused`: one way, with the share of the missed label's support; for multi-class `missed` is what it was and
    `said` what was predicted. `confused_pairs`: both ways together. `two_label_errors`: of texts with two labels of
    which one was found.
    """
    names = labels.names
    return {
        "most_confused": [
            {"missed": names[p.missed], "said": names[p.said], "texts": p.texts, "share": p.share}
            for p in found.one_way
        ],
        "confused_pairs": [
            {
                "first": names[p.first],
                "second": names[p.second],
                "first_for_second": p.forth,
                "second_for_first": p.back,
                "texts": p.total,
            }
            for p in found.pairs
        ],
        "two_label_errors": [
            {"missed": names[e.missed], "said": names[e.said], "texts": e.texts} for e in found.two_labels
        ],
    }


def number(value: Any) -> float | int | None:
    """A number for JSON: None for one that is not defined."""
    if isinstance(value, int | np.integer):
        return int(value)
    return None if math.isnan(value) else float(value)


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
    # JSON can hold halves of surrogate pairs, a file cannot
    return out.getvalue().encode("utf-8", "replace").decode()


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
    for caption, table in tables.confusion_tables(evaluation.confusions.first(10), evaluation.labels):
        lines += [f"## {caption}", "", tables.markdown(table), ""]
    for title, name in pictures:
        lines += [f"## {title}", "", f"![{title}]({name})", ""]
    return "\n".join(lines)
