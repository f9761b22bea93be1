"""The decision rule: the only place that turns logits into labels.

Training, tuning, evaluation, the command line, the Python API and all backends use it, so that a threshold means the
same everywhere. It needs numpy only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.errors import EmotuneError, ModelError, UsageError
from emotune.labels import LabelSet, Task

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
NEVER = 1.0  # the threshold of a label that is never predicted


class Fallback(StrEnum):
    """The prediction when no label reaches its threshold."""

    NOTHING = "nothing"
    BEST = "best"
    NEUTRAL = "neutral"


@dataclass(frozen=True)
class Decision:
    """The rule by which the labels of a text follow from its logits.

    Multi-label: a label is predicted when its probability is at least its threshold (0 to 1; with 1 it is never
    predicted). `fallback` applies when no label is. With `neutral_excludes`, neutral is removed beside another label.
    Multi-class: the label with the largest probability, the first of equals; thresholds are ignored.
    `tuning` records how the thresholds were chosen and on which rows; it is empty for the default of 0.5.
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
                raise UsageError(f"a threshold is between 0 and 1; that of {name!r} is {threshold}")
        needs_neutral = self.fallback is Fallback.NEUTRAL or self.neutral_excludes
        if needs_neutral and self.labels.neutral is None:
            raise UsageError("the decision rule uses the label 'neutral', which this model does not have")

    @classmethod
    def default(cls, labels: LabelSet, threshold: float = 0.5) -> "Decision":
        """Return a rule with the same threshold for every label."""
        return cls(labels, (threshold,) * len(labels))

    def with_threshold(self, threshold: float) -> "Decision":
        """Return this rule with one threshold for all labels."""
        return replace(self, thresholds=(threshold,) * len(self.labels), tuning={})

    def probabilities(self, logits: npt.ArrayLike) -> Floats:
        """Turn logits of shape (n, labels) into probabilities: a sigmoid per label, or a softmax over the classes."""
        return probabilities(logits, self.labels.task)

    def decide(self, probabilities: npt.ArrayLike) -> Bools:
        """Turn probabilities of shape (n, labels) into decisions of the same shape."""
        p = np.asarray(probabilities, dtype=np.float64)
        if p.ndim != 2 or p.shape[1] != len(self.labels):
            raise ValueError(f"probabilities have shape {p.shape}, not (n, {len(self.labels)})")
        if self.labels.task is Task.MULTI_CLASS:
            return _best(p)
        passed, neutral = passing(p, self._thresholds), self.labels.neutral
        if self.neutral_excludes and neutral is not None:
            passed[np.delete(passed, neutral, axis=1).any(axis=1), neutral] = False
        if self.fallback is not Fallback.NOTHING:
            nothing = ~passed.any(axis=1)
            if self.fallback is Fallback.BEST:
                passed[nothing] = _best(p[nothing])
            elif neutral is not None:
                passed[nothing, neutral] = True
        return passed

    @cached_property
    def _thresholds(self) -> Floats:
        return np.array(self.thresholds)

    def names(self, decided: Bools, probabilities: Floats) -> list[list[str]]:
        """Return the predicted label names of each row, the most probable first (label order among equals)."""
        return ranked_names(self.labels, decided, probabilities)

    def to_json(self) -> dict[str, Any]:
        """Return the content of `decision.json`."""
        return {
            "task": str(self.labels.task),
            "thresholds": dict(zip(self.labels.names, self.thresholds, strict=True)),
            "when_nothing_passes": str(self.fallback),
            "neutral_excludes": self.neutral_excludes,
            "tuning": dict(self.tuning),
        }

    @classmethod
    def from_json(cls, content: Any) -> "Decision":
        """Read the content of `decision.json`; raises ModelError when it is not valid."""
        found = content if isinstance(content, dict) else {}
        for name, kind in _FILE.items():
            if type(found.get(name)) is not kind:
                raise ModelError(f"decision.json is not valid: {name!r} is missing, or not of type {kind.__name__}")
        tuning, thresholds = found["tuning"], found["thresholds"]
        # a tuning on known rows has figures that are shown to users
        for name in ("out_of_fold", "in_sample") if "data_sha256" in tuning else ():
            figures = tuning[name] if isinstance(tuning.get(name), dict) else {}
            numbers = all(type(figure) in (int, float, type(None)) for figure in figures.values())
            if not ({"macro_f1", "micro_f1"} <= figures.keys() and numbers):
                raise ModelError(f"decision.json is not valid: 'tuning' has no figures {name!r}")
        if any(type(t) not in (int, float) for t in thresholds.values()):
            raise ModelError("decision.json is not valid: a threshold is not a number")
        try:
            return cls(
                labels=LabelSet(tuple(thresholds), Task(found["task"])),
                thresholds=tuple(float(t) for t in thresholds.values()),
                fallback=Fallback(found["when_nothing_passes"]),
                neutral_excludes=found["neutral_excludes"],
                tuning=tuning,
            )
        except (EmotuneError, ValueError, OverflowError) as error:
            raise ModelError(f"decision.json is not valid: {error}") from error


_FILE = {"task": str, "thresholds": dict, "when_nothing_passes": str, "neutral_excludes": bool, "tuning": dict}


def probabilities(logits: npt.ArrayLike, task: Task) -> Floats:
    """Turn logits of shape (n, labels) into probabilities: a sigmoid per label, or a softmax over the classes."""
    x = np.asarray(logits, dtype=np.float64)
    if task is Task.MULTI_CLASS:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True))
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def ranked_names(labels: LabelSet, decided: Bools, probabilities: Floats) -> list[list[str]]:
    """Return the predicted label names of each row, the most probable first (label order among equals)."""
    order = np.argsort(-probabilities, axis=1, kind="stable").tolist()
    return [[labels.names[j] for j in best if row[j]] for best, row in zip(order, decided.tolist(), strict=True)]


def logit(probabilities: Floats, clip: float) -> Floats:
    """Return log(p / (1 - p)) of probabilities clipped to `clip` and 1 - `clip`."""
    p = np.clip(probabilities, clip, 1 - clip)
    return np.asarray(np.log(p / (1 - p)))


def passing(probabilities: Floats, thresholds: Floats) -> Bools:
    """Return which probabilities, shape (n, labels), are at least the threshold of their label, before any policy.

    None passes the threshold NEVER, not even a probability that float64 rounds to 1 (of a logit above 37).
    """
    return (probabilities >= thresholds) & (thresholds < NEVER)


def _best(p: Floats) -> Bools:
    decided = np.zeros(p.shape, dtype=bool)
    decided[np.arange(len(p)), p.argmax(axis=1)] = True
    return decided
