"""Making an ensemble: its members from trained models, and its model directory."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from emotune.artifact.ensemble import KIND, MEMBERS, MOST_MEMBERS, free_name, write_weights
from emotune.artifact.manifest import DECISION, MANIFEST, copy_files, seal, versions
from emotune.artifact.opening import FoundModel, Member
from emotune.atomic import write_file, write_json
from emotune.config.kinds import find_kind
from emotune.decision import Decision
from emotune.errors import UsageError
from emotune.labels import LabelSet, in_order


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
    described = {"kind": KIND, "portability": find_kind(KIND).portability, "encoder": "", "max_tokens": None}
    seal(stage, **described, versions=versions(), data=data)
