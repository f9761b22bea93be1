"""Opening a model by name: one of emotune, or a transformers classifier of other software.

A directory or hub repository without a manifest is used as it is: weights from safetensors only, labels from
`id2label`, the task from `problem_type`, thresholds of 0.5. Without `problem_type`, a known label set has its known
task; otherwise one label means multi-label and several mean multi-class, as in plain transformers.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emotune.artifact.exported import require_current
from emotune.artifact.manifest import CARD, MANIFEST, Manifest, find_model, read_decision, read_manifest, verify
from emotune.artifact.safety.directory import (
    CONFIG,
    GRAPH,
    entries,
    label_names,
    require_classifier,
    require_safe_model,
    require_safe_parts,
)
from emotune.artifact.safety.files import read_json
from emotune.artifact.safety.graph import require_safe_graph
from emotune.config.kinds import TrainedKind, find_kind
from emotune.decision import Decision, Floats
from emotune.errors import ConfigError, DataError, MissingInputError, ModelError, Place, UsageError
from emotune.labels import KNOWN, LabelSet, Task, known_set, label_difference

ENSEMBLE, ONNX = "ensemble", "onnx"  # the names of the kinds
WEIGHTS, MEMBERS, MOST_MEMBERS = "ensemble.json", "members", 100
_CARD_BYTES = 1 << 16
_FRONT_MATTER = re.compile(r"---\r?\n(.*?)\n---", re.DOTALL)
# a single language, alone or as a list of one
_LANGUAGE = re.compile(r"^language:\s*(?:-[ ]*)?['\"]?([a-z]{2,3})['\"]?[ ]*\r?$(?!\n[ ]*-)", re.MULTILINE)
_MEMBER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_TASKS = {"multi_label_classification": Task.MULTI_LABEL, "single_label_classification": Task.MULTI_CLASS}
# models whose position ids begin after the padding id, so that two positions are unused
OFFSET_POSITIONS = ("roberta", "camembert")
_UNNAMED = re.compile(r"(LABEL_)?\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Member:
    """A member of an ensemble, with its weights, shape (labels,), in the order of the ensemble's labels."""

    name: str
    model: "FoundModel"
    weights: Floats


@dataclass(frozen=True)
class FoundModel:
    """A valid model, with `notes` for its user.

    manifest: None for a model of other software. rule: how the task was inferred; None if the model names it.
    unnamed: whether its labels are numbers, not names. members: the models of an ensemble.
    """

    name: str
    directory: Path
    manifest: Manifest | None
    decision: Decision
    notes: tuple[str, ...] = ()
    rule: str | None = None
    unnamed: bool = False
    members: tuple[Member, ...] = ()

    @property
    def language(self) -> str | None:
        """The only language of its texts, as its card has it (`language: en`); None if the card names none, or more."""
        try:
            with (self.directory / CARD).open("rb") as file:
                card = file.read(_CARD_BYTES).decode("utf-8", "replace")
        except OSError:
            return None
        matter = _FRONT_MATTER.match(card)
        found = _LANGUAGE.search(matter[1]) if matter else None
        return found[1] if found else None

    @property
    def kind(self) -> str:
        """The name of its kind of model."""
        return "encoder" if self.manifest is None else self.manifest.kind


def open_model(name: str, *, labels: Sequence[str] | None = None, task: Task | None = None) -> FoundModel:
    """Find a model by path or hub id and check all its files; no torch.

    labels, task: label names in the order of the outputs, and the task, for a model of other software that lacks them.
    An export of such a model takes labels too. Raises MissingInputError for a missing model, ModelError for an invalid
    one, UsageError for labels that do not fit the model, or for a model that has its own.
    """
    directory = find_model(name)
    if not (directory / MANIFEST).is_file():
        return _adopted(name, directory, labels, task)
    found = _opened(name, directory, verify(directory))
    numbered = all(_UNNAMED.fullmatch(label) for label in found.decision.labels.names)
    if task is not None or (labels is not None and not (found.kind == ONNX and numbered)):
        raise UsageError("this model was written by emotune: it has its own labels and task")
    return found if labels is None else replace(found, decision=_renamed(found.decision, labels))


def _renamed(decision: Decision, names: Sequence[str]) -> Decision:
    """Return a rule with other names of its labels; the record of its tuning, which has the old ones, is dropped."""
    _require_count(names, len(decision.labels))
    return replace(decision, labels=LabelSet(tuple(names), decision.labels.task), tuning={})


def _require_count(names: Sequence[str], number: int) -> None:
    if len(names) != number:
        raise UsageError(f"{len(names)} label names for a model of {number} labels")


def _opened(name: str, directory: Path, manifest: Manifest, *, within: bool = False) -> FoundModel:
    """Check a model of emotune whose files match its manifest.

    within: it is a member of an ensemble, whose checks covered its files too.
    """
    decision = read_decision(directory)
    try:
        is_network = isinstance(find_kind(manifest.kind), TrainedKind)
    except ConfigError:
        is_network = False  # the classifier reports the unknown kind
    if is_network:
        config = read_json(directory / CONFIG) if within else require_safe_model(directory)
        if label_names(config, directory / CONFIG) != decision.labels.names:
            raise ModelError(f"config.json and decision.json of {directory} do not name the same labels")
        _require_fitting_tokens(directory, manifest, config)
    elif not within:
        require_safe_parts(directory)
    if manifest.kind == ONNX:
        require_safe_graph(directory / GRAPH, len(decision.labels))
    notes = () if within else require_current(directory, manifest)
    members = _members(directory, manifest, decision.labels) if manifest.kind == ENSEMBLE else ()
    return FoundModel(name, directory, manifest, decision, notes, members=members)


def _require_fitting_tokens(directory: Path, manifest: Manifest, config: dict[str, Any]) -> None:
    """Raise ModelError for more tokens than the network has positions, or a padding id without an embedding."""
    size, padding, positions = (config.get(key) for key in ("vocab_size", "pad_token_id", "max_position_embeddings"))
    if padding is not None and isinstance(size, int) and not (type(padding) is int and 0 <= padding < size):
        message = f"pad_token_id is {str(padding)[:40]}; the token ids of this model are 0 to {size - 1:,}"
        raise ModelError(message, place=Place(directory / CONFIG))
    if not isinstance(positions, int) or manifest.max_tokens is None:
        return
    if any(family in str(config.get("model_type")) for family in OFFSET_POSITIONS):
        positions -= (padding or 0) + 1
    if manifest.max_tokens > positions:
        message = f"max_tokens is {manifest.max_tokens:,}; the model in {CONFIG} takes {positions:,} tokens at most"
        raise ModelError(message, place=Place(directory / MANIFEST))


def _members(directory: Path, manifest: Manifest, labels: LabelSet) -> tuple[Member, ...]:
    """Return the checked members of an ensemble; raises ModelError for one that does not fit."""
    found = []
    for name, weights in _read_weights(directory, labels).items():
        part = f"{MEMBERS}/{name}"
        inner, place = read_manifest(directory / part), Place(directory / part)
        # the files were verified against the ensemble's manifest; both agree, so that none is hashed twice
        files = {f.removeprefix(f"{part}/"): e for f, e in manifest.files.items() if f.startswith(f"{part}/")}
        files.pop(MANIFEST, None)
        for file in sorted(files.keys() | inner.files.keys()):
            if files.get(file) != inner.files.get(file):
                message = f"it differs from the manifest of the ensemble in {file!r}"
                raise ModelError(message, place=Place(directory / part / MANIFEST))
        if inner.kind == ENSEMBLE:
            raise ModelError("this member is an ensemble itself; members are single models", place=place)
        model = _opened(part, directory / part, inner, within=True)
        if difference := label_difference(model.decision.labels, labels):
            message = f"the labels of a member differ from those of its ensemble: {difference}"
            raise ModelError(message, place=place)
        found.append(Member(name, model, weights))
    return tuple(found)


def _read_weights(directory: Path, labels: LabelSet) -> dict[str, Floats]:
    """Return the weights of each member, shape (labels,); raises ModelError for invalid ones."""
    place = Place(directory / WEIGHTS)
    found = read_json(directory / WEIGHTS).get("weights")
    if not isinstance(found, dict) or not 0 < len(found) <= MOST_MEMBERS:
        raise ModelError(f"it has no weights for 1 to {MOST_MEMBERS} members", place=place)
    for name in found:
        if not _MEMBER_NAME.fullmatch(name):
            raise ModelError(f"{name[:80]!r} cannot be the name of a member", place=place)
    present = {path.name for path in (directory / MEMBERS).iterdir()} if (directory / MEMBERS).is_dir() else set()
    if present != found.keys():
        name = sorted(present ^ found.keys())[0]
        what = "has no weights" if name in present else f"is not in {MEMBERS}/"
        raise ModelError(f"the member {name[:80]!r} {what}", place=place)
    for name, values in found.items():
        if not isinstance(values, dict) or values.keys() != set(labels.names):
            raise ModelError(f"the weights of {name!r} are not one for each label", place=place)
        if any(type(value) not in (int, float) or not 0 < value < 1e9 for value in values.values()):
            raise ModelError(f"a weight of {name!r} is not a number above 0", place=place)
    return {name: np.array([own[label] for label in labels.names], np.float64) for name, own in found.items()}


def _adopted(name: str, directory: Path, names: Sequence[str] | None, task: Task | None) -> FoundModel:
    list(entries(directory, below=False))  # raises ModelError for links, pipes, devices and sparse files
    config = require_safe_model(directory)
    place = Place(directory / CONFIG)
    require_classifier(config, place.path)
    found = label_names(config, place.path) or ("LABEL_0", "LABEL_1")  # as transformers does without id2label
    unnamed = names is None and all(_UNNAMED.fullmatch(label) for label in found)
    if names is not None:
        _require_count(names, len(found))
    known, rule = _task(config, tuple(names or found), place)
    try:
        labels = LabelSet(tuple(names or found), task or known)
    except DataError as error:
        raise ModelError(f"id2label: {error.message}", place=place) from None
    inferred = None
    if rule is not None and task is None:
        other = "multi_class" if labels.task is Task.MULTI_LABEL else "multi_label"
        inferred = f"{rule} {str(labels.task).replace('_', '-')} (if that is wrong: emotune tune --task {other})"
    parts = [f"{name} was not written by emotune (it has no {MANIFEST}) and is used as it is"]
    if inferred is not None:
        parts.append(inferred)
    if unnamed:
        parts.append("its labels are numbers (name them, one per line: emotune tune --labels FILE)")
    if labels.task is Task.MULTI_LABEL:
        parts.append("its thresholds are untuned, 0.5 for every label")
        parts.append(f"tune them on your data: emotune tune {name} --data DATA --out DIR")
    return FoundModel(name, directory, None, Decision.default(labels), ("; ".join(parts),), inferred, unnamed)


def _task(config: dict[str, Any], names: tuple[str, ...], place: Place) -> tuple[Task, str | None]:
    """Return the task of a model, and how it was inferred; None if the model names it."""
    problem = config.get("problem_type")
    if problem in _TASKS:
        return _TASKS[problem], None
    if problem is not None:
        allowed = " or ".join(_TASKS)
        raise ModelError(f"problem_type is {str(problem)[:40]!r}; a classifier of emotions has {allowed}", place=place)
    known = known_set(names)
    if known is not None:
        return KNOWN[known].task, f"its labels are those of {known}, so emotune treats it as"
    task = Task.MULTI_LABEL if len(names) == 1 else Task.MULTI_CLASS
    return task, "it has no problem_type, so emotune treats it, like plain transformers, as"


def read_label_names(path: Path) -> list[str]:
    """Read label names from a file, one per line; raises as `read_lines`, and DataError with the line."""
    names = [line.strip() for line in read_lines(path, "the label names")]
    while names and not names[-1]:
        names.pop()
    seen: set[str] = set()
    for number, name in enumerate(names, start=1):
        if not name or name in seen:
            fault = f"the label {name!r} occurs twice" if name else "an empty line instead of a label name"
            raise DataError(fault, place=Place(path, number))
        seen.add(name)
    return names


def read_lines(path: Path, what: str) -> list[str]:
    """Return the lines of a text file; raises MissingInputError that names `what` they are, DataError if not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise MissingInputError(f"cannot read {what}: {error.strerror}", place=Place(path)) from None
    except UnicodeDecodeError as error:
        place = Place(path, error.object.count(b"\n", 0, error.start) + 1)
        raise DataError("not UTF-8 text", place=place, hint="Save it as UTF-8.") from None
