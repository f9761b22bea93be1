"""The part of the HTML report that shows single texts: where the model was most wrong."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np
import numpy.typing as npt

from emotune.decision import Bools
from emotune.reports.evaluation import Evaluation
from emotune.reports.html import h, said
from emotune.scoring.slices import Mistake, far_from_threshold, worst_rows

MOST_CASES, MOST_MISTAKES, MOST_CHARACTERS = 30, 12, 600
_MOST_LABELS, _MOST_SCORES = 12, 5


def worst(evaluation: Evaluation) -> list[Element]:
    """The wrong texts with the highest loss, then the labels furthest on the wrong side of their thresholds."""
    e = evaluation
    found = []
    probability = "its probability" if e.thresholds is None else "its probability / its threshold"
    rows = worst_rows(e.targets, e.decided, e.probabilities, e.labels.task, MOST_CASES)
    if rows:
        found += [
            h("p", f"The wrong texts that surprised the model most. Beside each label: {probability}.", class_="quiet"),
            h("h3", "Highest loss"),
            h("ol", [_case(e, row, f"loss {loss:.2f}") for row, loss in rows], class_="cases"),
        ]
    if e.thresholds is not None:
        missed, extra = far_from_threshold(e.targets, e.decided, e.probabilities, e.thresholds, MOST_MISTAKES)
        found += _mistakes(e, "Missed, and far below the threshold", missed)
        found += _mistakes(e, "Given in error, and far above the threshold", extra)
    return found


def _mistakes(evaluation: Evaluation, title: str, mistakes: Sequence[Mistake]) -> list[Element]:
    """A list of single labels that are clearly wrong; those that a policy decided are not."""
    clear = [mistake for mistake in mistakes if mistake.margin > 0]
    if not clear:
        return []
    cases = [_case(evaluation, m.row, f"{evaluation.labels.names[m.label]}: {m.margin:.1f} logits off") for m in clear]
    return [h("h3", title), h("ol", cases, class_="cases")]


def _case(evaluation: Evaluation, row: int, why: str) -> Element:
    record = evaluation.records[row]
    was, given = evaluation.targets[row], evaluation.decided[row]
    place = f"{record.path.name}:{record.line}" + (f" · {record.id}" if record.id else "")
    text = record.text if record.text.strip() else "(empty)"
    cut = text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS].rstrip() + " …"
    highest = np.argsort(-evaluation.probabilities[row], kind="stable")[:_MOST_SCORES]
    pairs = (
        ("was", _labels(evaluation, row, np.flatnonzero(was), given)),
        ("said", _labels(evaluation, row, np.flatnonzero(given), was)),
        ("scores", [_score(evaluation, row, int(j)) for j in highest]),
    )
    return h(
        "li",
        h("div", said(place, 120), " · ", said(why, 120), class_="quiet"),
        h("div", cut, class_="text", dir="auto"),
        h(
            "dl",
            [part for name, spans in pairs for part in (h("dt", name), h("dd", spans or "nothing"))],
            class_="facts",
        ),
    )


def _labels(evaluation: Evaluation, row: int, labels: npt.NDArray[np.intp], other: Bools) -> list[Element]:
    """The labels with their probabilities and thresholds; those that the other side lacks stand out, not by colour
    alone."""
    found = []
    for j in map(int, labels[:_MOST_LABELS]):
        agreed = bool(other[j])
        limit = "" if evaluation.thresholds is None else f"\u00a0/\u00a0{evaluation.thresholds[j]:.2f}"
        value = f" {evaluation.probabilities[row, j]:.2f}{limit}"
        mark = "✓ " if agreed else "✗ "
        found.append(
            h(
                "span",
                mark,
                said(evaluation.labels.names[j], 80),
                value,
                class_=f"label {'right' if agreed else 'wrong'}",
            )
        )
    if len(labels) > _MOST_LABELS:
        found.append(h("span", f"and {len(labels) - _MOST_LABELS:,} more", class_="label"))
    return found


def _score(evaluation: Evaluation, row: int, j: int) -> Element:
    return h("span", said(evaluation.labels.names[j], 80), f" {evaluation.probabilities[row, j]:.2f}", class_="label")
