"""The one place that turns logits into labels.

Training-time evaluation, the tuner, the evaluator, the command line, the Python API and every backend call this, so
that a threshold means the same everywhere. numpy only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.errors import EmotuneError, ModelError, UsageError
from emotune.labels import LabelSet, Task

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
NEVER = 1.0  # the threshold of a label that is never given


class Fallback(StrEnum):
    """What to answer when no label reaches its threshold."""

    NOTHING = "nothing"
    BEST = "best"
    NEUTRAL = "neutral"


@dataclass(frozen=True)
class Decision:
    """How the labels of a text follow from its logits.

    Multi-label: a label is given when its probability is at least its threshold (0 to 1; at 1 never); when none is,
    `fallback` answers; with `neutral_excludes`, neutral is taken away wherever another label stands. Multi-class: the
    label with the largest probability, the first of equals; thresholds play no part.
    `tuning` records how the thresholds were chosen, and on what; empty for the customary 0.5.
    """

    labels: LabelSet
    thresholds: tuple[float, ...]
    fallback: Fallback = Fallback.NOTHING
    neutral_excludes: bool = False
    tuning: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.thresholds) != len(self.labels):
            raise ModelError(f"{len(self.thresholds)} thresholds for {len(self.labels)} labels")
        for name, threshold in zip(self.labels.names, self.thresholds, strict=True):
            if not 0.0 <= threshold <= 1.0:
                raise UsageError(f"a threshold lies between 0 and 1; that of {name!r} is {threshold}")
        needs_neutral = self.fallback is Fallback.NEUTRAL or self.neutral_excludes
        if needs_neutral and self.labels.neutral is None:
            raise UsageError("the decision refers to the label 'neutral', which this model does not have")

    @classmethod
    def default(cls, labels: LabelSet, threshold: float = 0.5) -> "Decision":
        """The same threshold for every label."""
        return cls(labels, (threshold,) * len(labels))

    def with_threshold(self, threshold: float) -> "Decision":
        """This rule with one threshold for all labels."""
        return replace(self, thresholds=(threshold,) * len(self.labels), tuning={})

    def probabilities(self, logits: npt.ArrayLike) -> Floats:
        """Logits of shape (n, labels) to probabilities: a sigmoid per label, or a softmax over the classes."""
        return probabilities(logits, self.labels.task)

    def decide(self, probabilities: npt.ArrayLike) -> Bools:
        """Probabilities of shape (n, labels) to decisions of the same shape."""
        p = np.asarray(probabilities, dtype=np.float64)
        if p.ndim != 2 or p.shape[1] != len(self.labels):
            raise ValueError(f"probabilities have shape {p.shape}, not (n, {len(self.labels)})")
        if self.labels.task is Task.MULTI_CLASS:
            return _best(p)
        return self._with_policies(p, passing(p, np.asarray(self.thresholds)))

    def _with_policies(self, p: Floats, passed: Bools) -> Bools:
        neutral = self.labels.neutral
        if self.neutral_excludes and neutral is not None:
            others = np.delete(passed, neutral, axis=1).any(axis=1)
            passed[others, neutral] = False
        nothing = ~passed.any(axis=1)
        if self.fallback is Fallback.BEST:
            passed[nothing] = _best(p[nothing])
        elif self.fallback is Fallback.NEUTRAL and neutral is not None:
            passed[nothing, neutral] = True
        return passed

    def names(self, decided: Bools, probabilities: Floats) -> list[list[str]]:
        """The names decided for each row, the most probable first (label order among equals)."""
        order = np.argsort(-probabilities, axis=1, kind="stable")
        return [[self.labels.names[j] for j in order[i] if decided[i, j]] for i in range(len(decided))]

    def to_json(self) -> dict[str, Any]:
        """The content of `decision.json`."""
        return {
            "task": str(self.labels.task),
            "thresholds": dict(zip(self.labels.names, self.thresholds, strict=True)),
            "when_nothing_passes": str(self.fallback),
            "neutral_excludes": self.neutral_excludes,
            "tuning": dict(self.tuning),
        }

    @classmethod
    def from_json(cls, content: Any) -> "Decision":
        """Read `decision.json`; raises ModelError when it is not one."""
        found = content if isinstance(content, dict) else {}
        for name, kind in _FILE.items():
            if type(found.get(name)) is not kind:
                raise ModelError(f"decision.json is not sound: {name!r} is missing, or not of type {kind.__name__}")
        _check_tuning(found["tuning"])
        thresholds = found["thresholds"]
        if any(type(t) not in (int, float) for t in thresholds.values()):
            raise ModelError("decision.json is not sound: a threshold is not a number")
        try:
            return cls(
                labels=LabelSet(tuple(thresholds), Task(found["task"])),
                thresholds=tuple(float(t) for t in thresholds.values()),
                fallback=Fallback(found["when_nothing_passes"]),
                neutral_excludes=found["neutral_excludes"],
                tuning=found["tuning"],
            )
        except (EmotuneError, ValueError, OverflowError) as error:
            raise ModelError(f"decision.json is not sound: {error}") from error


def _check_tuning(tuning: dict[str, Any]) -> None:
    """Raise ModelError for a record of the rows tuned on without the figures that readers of it rely on."""
    for name in ("out_of_fold", "in_sample") if "data_sha256" in tuning else ():
        figures = tuning[name] if isinstance(tuning.get(name), dict) else {}
        numbers = all(type(figure) in (int, float, type(None)) for figure in figures.values())
        if not ({"macro_f1", "micro_f1"} <= figures.keys() and numbers):
            raise ModelError(f"decision.json is not sound: 'tuning' has no figures {name!r}")


_FILE = {"task": str, "thresholds": dict, "when_nothing_passes": str, "neutral_excludes": bool, "tuning": dict}


def probabilities(logits: npt.ArrayLike, task: Task) -> Floats:
    """Logits of shape (n, labels) to probabilities: a sigmoid per label, or a softmax over the classes."""
    x = np.asarray(logits, dtype=np.float64)
    if task is Task.MULTI_CLASS:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True))
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0 / (1.0 + e), e / (1.0 + e))


def passing(probabilities: Floats, thresholds: Floats) -> Bools:
    """Which probabilities, shape (n, labels), are at least their label's threshold, before any policy.

    NEVER lets none pass: no probability is 1, though that of a logit above 37 is rounded to it.
    """
    return (probabilities >= thresholds) & (thresholds < NEVER)


def _best(p: Floats) -> Bools:
    decided = np.zeros(p.shape, dtype=bool)
    decided[np.arange(len(p)), p.argmax(axis=1)] = True
    return decided
