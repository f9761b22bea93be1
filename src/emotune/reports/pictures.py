"""Which pictures an evaluation comes with, and what each shows in words. Importing this module needs matplotlib."""

from dataclasses import dataclass

import numpy as np

from emotune.reports import figures
from emotune.reports.evaluation import Evaluation
from emotune.reports.figures import LabelCurve, Picture
from emotune.reports.provenance import Background
from emotune.reports.tables import percent
from emotune.scoring.metrics import precision_recall, reliability

_CURVE_POINTS = 150


@dataclass(frozen=True)
class Named:
    """A picture with the stem of its file's name, its heading, and what it shows in words."""

    stem: str
    title: str
    alt: str
    picture: Picture


def draw(evaluation: Evaluation, background: Background) -> list[Named]:
    """All pictures of an evaluation; those of which nothing is known are left out."""
    found = [_label_f1(evaluation), _confusion(evaluation), _precision_recall(evaluation), _reliability(evaluation)]
    found += [_stability(background), _training(background)]
    return [picture for picture in found if picture is not None]


def _label_f1(evaluation: Evaluation) -> Named:
    f1, names = evaluation.scores.per_label.f1, evaluation.labels.names
    alt = "F1 of each label with its interval; the table by label has the figures."
    if not np.isnan(f1).all():
        best, worst = int(np.nanargmax(f1)), int(np.nanargmin(f1))
        alt += f" Best: {names[best]}, {f1[best]:.2f}; worst: {names[worst]}, {f1[worst]:.2f}."
    picture = figures.label_f1(evaluation.scores, evaluation.labels, f"F1 by label, {evaluation.title}")
    return Named("label_f1", "F1 by label with 95 % intervals", alt, picture)


def _confusion(evaluation: Evaluation) -> Named:
    multi = evaluation.multi_label
    stem, title = ("missed_extra", "Missed → said instead") if multi else ("confusion", "Confusion matrix")
    picture = figures.confusion_matrix(
        evaluation.confusion, evaluation.labels, f"{title}, {evaluation.title}", missed_extra=multi
    )
    return Named(stem, title, f"{title} as a table of counts; the most frequent pairs are listed.", picture)


def label_curves(evaluation: Evaluation) -> list[LabelCurve]:
    """The curve of each label that has positives; of very many labels, those with most."""
    each = evaluation.scores.per_label
    order = np.argsort(-each.support, kind="stable")[: figures.MOST_PANELS]
    kept = sorted(int(j) for j in order if each.support[j] > 0)
    thresholds = evaluation.thresholds
    return [
        LabelCurve(
            evaluation.labels.names[j],
            precision_recall(evaluation.targets[:, j], evaluation.probabilities[:, j]).thinned(_CURVE_POINTS),
            recall=float(each.recall[j]),
            precision=float(each.precision[j]),
            threshold=None if thresholds is None else thresholds[j],
        )
        for j in kept
    ]


def _precision_recall(evaluation: Evaluation) -> Named | None:
    curves = label_curves(evaluation)
    if not curves:
        return None
    picture = figures.precision_recall(curves, f"Precision and recall by label, {evaluation.title}")
    alt = "A precision–recall curve for each label, with the point that the decisions reach."
    return Named("precision_recall", "Precision and recall by label", alt, picture)


def _reliability(evaluation: Evaluation) -> Named | None:
    if not evaluation.scores.num_rows:
        return None
    bins = reliability(evaluation.targets, evaluation.probabilities, evaluation.labels.task)
    overall = evaluation.scores.overall
    picture = figures.reliability_diagram(bins, overall["brier"], f"Reliability, {evaluation.title}")
    alt = (
        "How often what was given a probability was the case, against that probability, with the number of cells in "
        f"each bin. Calibration error {percent(overall['ece'], 4)}, Brier score {percent(overall['brier'], 4)}."
    )
    return Named("reliability", "Reliability", alt, picture)


def _stability(background: Background) -> Named | None:
    folds = background.fold_thresholds
    if folds is None:
        return None
    spread = np.ptp(folds.chosen, axis=0)
    widest = int(spread.argmax())
    names = background.decision.labels.names
    alt = (
        "The threshold of each label as chosen without each fold, and the final one. "
        f"Widest: {names[widest]}, by {spread[widest]:.2f}."
    )
    final = np.array(background.decision.thresholds)
    picture = figures.threshold_stability(final, folds.chosen, folds.positives, names, "Thresholds chosen fold by fold")
    return Named("threshold_stability", "Thresholds chosen fold by fold", alt, picture)


def _training(background: Background) -> Named | None:
    if background.training is None:
        return None
    alt = "Loss, validation metrics and learning rate by step; the table of epochs has the figures."
    return Named("training", "Training", alt, figures.training_curves(background.training, "Training"))
