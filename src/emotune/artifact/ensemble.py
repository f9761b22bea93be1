"""Ensembles: models whose logits are the weighted sum of their members' logits. No torch.

    members/NAME/   each a complete model directory of emotune, with its own manifest
    ensemble.json   {"weights": {NAME: {label: weight}}}
    decision.json  README.md  emotune.json   as in any model; the manifest lists the members' files too

The logit of a label is the sum over members of weight × logit, labels matched by name. Weights of 1/n give the mean.
Temperatures divide the weights. An ensemble within an ensemble is replaced by its members, with the products of the
weights, so a member is always a single model. `emotune.artifact.opening` reads and checks them.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emotune.artifact.manifest import DECISION, MANIFEST, copy_files, seal, versions
from emotune.artifact.opening import ENSEMBLE, MEMBERS, MOST_MEMBERS, WEIGHTS, FoundModel, Member
from emotune.atomic import write_file, write_json
from emotune.config.kinds import find_kind
from emotune.decision import Decision, Floats
from emotune.errors import UsageError
from emotune.labels import LabelSet, in_order


def free_name(wanted: str, taken: Mapping[str, object]) -> str:
    """Return a free folder name for a member, close to `wanted`. Names that differ only in case count as equal."""
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted)[:80].lstrip(".-") or "member"
    known = {name.casefold() for name in taken}
    candidates = (base if i == 1 else f"{base}-{i}" for i in range(1, MOST_MEMBERS + 2))
    return next(name for name in candidates if name.casefold() not in known)


def combined(weights: Sequence[Floats], logits: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Return the logits of an ensemble from its members' weights (labels,) and logits (n, labels)."""
    total = np.zeros(logits[0].shape)
    for each, rows in zip(weights, logits, strict=True):
        total += each * rows
    return total.astype(np.float32)


def write_weights(directory: Path, weights: Mapping[str, Floats], labels: LabelSet) -> None:
    """Write the weight of each member for each label; raises OutputError."""
    each = {name: dict(zip(labels.names, values.tolist(), strict=True)) for name, values in weights.items()}
    write_json(directory / WEIGHTS, {"weights": each})


def members_of(models: Mapping[str, FoundModel], labels: LabelSet, temperature: float = 1.0) -> list[Member]:
    """Return the members of the models' mean, its logits divided by a temperature.

    An ensemble among the models is replaced by its own members. Raises UsageError for too many members.
    """
    share = np.full(len(labels), 1 / (len(models) * temperature))
    found: dict[str, Member] = {}
    for name, model in models.items():
        for part in model.members or (Member("", model, np.ones(len(labels))),):
            weights = in_order(part.weights[None], model.decision.labels, labels)[0]
            free = free_name(f"{name}-{part.name}" if part.name else name, found)
            found[free] = Member(free, part.model, share * weights)
    if len(found) > MOST_MEMBERS:
        raise UsageError(f"{len(found)} members; an ensemble has {MOST_MEMBERS} at most")
    return list(found.values())


def compose(
    stage: Path,
    members: Sequence[Member],
    decision: Decision,
    card: str,
    data: dict[str, dict[str, str | int]],
    *,
    link: bool = False,
) -> None:
    """Write an ensemble's model directory; with `link` it shares the files of its members with their own models."""
    for member in members:
        assert member.model.manifest is not None, "members are models of ours"
        target = stage / MEMBERS / member.name
        copy_files(member.model.directory, target, [*member.model.manifest.files, MANIFEST], link=link)
    write_weights(stage, {member.name: member.weights for member in members}, decision.labels)
    write_json(stage / DECISION, decision.to_json())
    write_file(stage / "README.md", card)
    described = {"kind": ENSEMBLE, "portability": find_kind(ENSEMBLE).portability, "encoder": "", "max_tokens": None}
    seal(stage, **described, versions=versions(), data=data)
