"""Models by name, ours and those of others.

A directory or hub repository without our manifest is adopted as it is, read-only: weights from safetensors only, labels
from `id2label`, the task from `problem_type`, thresholds of 0.5. Where `problem_type` is missing, a set of labels that
emotune knows has the task it is known for; otherwise a label alone is a yes or no, and of several a text has exactly
one, as in plain transformers.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotune.artifact import ensemble
from emotune.artifact.manifest import MANIFEST, Manifest, find_model, read_decision, verify
from emotune.artifact.safety.directory import (
    CONFIG,
    label_names,
    require_classifier,
    require_regular,
    require_safe_model,
    require_safe_parts,
)
from emotune.artifact.safety.json_files import read_object
from emotune.config.kinds import TrainedKind, find_kind
from emotune.decision import Decision, Floats
from emotune.errors import ConfigError, DataError, MissingInputError, ModelError, Place, UsageError
from emotune.labels import KNOWN, LabelSet, Task, known_set, label_difference

_TASKS = {"multi_label_classification": Task.MULTI_LABEL, "single_label_classification": Task.MULTI_CLASS}
_UNNAMED = re.compile(r"(LABEL_)?\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Member:
    """A model in an ensemble: its name there, and what its logits count, shape (labels,), in the ensemble's order."""

    name: str
    model: "FoundModel"
    weights: Floats


@dataclass(frozen=True)
class FoundModel:
    """A sound model: its directory, how it decides, and what its user should know of it (`notes`).

    `manifest` is None for a model of somebody else. `rule`: by which rule it was given a task, when it told none.
    `unnamed`: its labels are numbers, not names. `members`: the models that an ensemble is made of.
    """

    name: str
    directory: Path
    manifest: Manifest | None
    decision: Decision
    notes: tuple[str, ...] = ()
    rule: str | None = None
    unnamed: bool = False
    members: tuple[Member, ...] = ()


def open_model(name: str, *, labels: Sequence[str] | None = None, task: Task | None = None) -> FoundModel:
    """Find a model by path or hub id and check all that it consists of; no torch.

    labels, task: names in the order of the outputs, and the task, for a model of somebody else that does not tell.
    Raises MissingInputError when nothing is there, ModelError for what is not sound, UsageError for labels that do not
    fit the model or a model that has its own.
    """
    directory = find_model(name)
    if not (directory / MANIFEST).is_file():
        return _adopted(name, directory, labels, task)
    if labels is not None or task is not None:
        raise UsageError("this model was written by emotune: it knows its labels and its task")
    return _ours(name, directory, verify(directory))


def _ours(name: str, directory: Path, manifest: Manifest, *, within: bool = False) -> FoundModel:
    """A model of ours whose files are those of its manifest, when they are sound.

    within: it lies in an ensemble, whose files have been looked into, those of its members too.
    """
    decision = read_decision(directory)
    if _is_network(manifest.kind):
        config = read_object(directory / CONFIG) if within else require_safe_model(directory)
        if label_names(config, directory / CONFIG) != decision.labels.names:
            raise ModelError(f"config.json and decision.json of {directory} do not name the same labels")
    elif not within:
        require_safe_parts(directory)
    members = _members(directory, manifest, decision.labels) if manifest.kind == ensemble.KIND else ()
    return FoundModel(name, directory, manifest, decision, members=members)


def _members(directory: Path, manifest: Manifest, labels: LabelSet) -> tuple[Member, ...]:
    """The models that an ensemble is made of, each as sound as any; raises ModelError for one that does not fit."""
    found = []
    for name, weights in ensemble.read_weights(directory, labels).items():
        part = f"{ensemble.MEMBERS}/{name}"
        inner = ensemble.verify_member(directory, name, manifest)
        if inner.kind == ensemble.KIND:
            raise ModelError("an ensemble within an ensemble: members are single models", place=Place(directory / part))
        model = _ours(part, directory / part, inner, within=True)
        if difference := label_difference(model.decision.labels, labels):
            raise ModelError(
                f"a member with other labels than its ensemble: {difference}", place=Place(directory / part)
            )
        found.append(Member(name, model, weights))
    return tuple(found)


def _is_network(kind: str) -> bool:
    try:
        return isinstance(find_kind(kind), TrainedKind)
    except ConfigError:
        return False  # which whoever runs it refuses


def _adopted(name: str, directory: Path, names: Sequence[str] | None, task: Task | None) -> FoundModel:
    require_regular(directory)
    config = require_safe_model(directory)
    place = Place(directory / CONFIG)
    require_classifier(config, place.path)
    found = label_names(config, place.path) or ("LABEL_0", "LABEL_1")  # what transformers makes of a missing id2label
    unnamed = names is None and all(_UNNAMED.fullmatch(label) for label in found)
    if names is not None and len(names) != len(found):
        raise UsageError(f"{len(names)} label names for a model of {len(found)} labels")
    known, rule = _task(config, tuple(names or found), place)
    try:
        labels = LabelSet(tuple(names or found), task or known)
    except DataError as error:
        raise ModelError(f"id2label: {error.message}", place=place) from None
    told = None if rule is None or task is not None else _told(rule, labels)
    note = _note(name, labels, told, unnamed=unnamed)
    return FoundModel(name, directory, None, Decision.default(labels), (note,), told, unnamed)


def _task(config: dict[str, Any], names: tuple[str, ...], place: Place) -> tuple[Task, str | None]:
    """The task of a model, and by which rule when it does not tell."""
    problem = config.get("problem_type")
    if problem in _TASKS:
        return _TASKS[problem], None
    if problem is not None:
        allowed = " or ".join(_TASKS)
        raise ModelError(f"problem_type is {str(problem)[:40]!r}; a model of emotions has {allowed}", place=place)
    known = known_set(names)
    if known is not None:
        return KNOWN[known].task, f"its labels are those of {known}, so it is taken to be"
    task = Task.MULTI_LABEL if len(names) == 1 else Task.MULTI_CLASS
    return task, "it does not say its problem_type, so it is taken to be, as in plain transformers,"


def _told(rule: str, labels: LabelSet) -> str:
    other = "multi_class" if labels.task is Task.MULTI_LABEL else "multi_label"
    return f"{rule} {str(labels.task).replace('_', '-')} (if that is wrong: emotune tune --task {other})"


def _note(name: str, labels: LabelSet, rule: str | None, *, unnamed: bool) -> str:
    """What to know of a model of somebody else, in one sentence."""
    parts = [f"{name} was not written by emotune (it has no {MANIFEST}) and is used as it is"]
    if rule is not None:
        parts.append(rule)
    if unnamed:
        parts.append("its labels have numbers and no names (give them, one a line: emotune tune --labels FILE)")
    if labels.task is Task.MULTI_LABEL:
        parts.append("its thresholds are untuned, 0.5 for every label")
        parts.append(f"tune them on data of yours: emotune tune {name} --data DATA --out DIR")
    return "; ".join(parts)


def read_label_names(path: Path) -> list[str]:
    """The label names in a file, one a line; raises MissingInputError, or DataError with the line of a bad one."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise MissingInputError(f"cannot read the label names: {error.strerror}", place=Place(path)) from None
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8: byte {error.start}", place=Place(path)) from None
    names = [line.strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    seen: set[str] = set()
    for number, name in enumerate(names, start=1):
        if not name or name in seen:
            what = f"the label {name!r} stands twice" if name else "an empty line where a label name should be"
            raise DataError(what, place=Place(path, number))
        seen.add(name)
    return names
