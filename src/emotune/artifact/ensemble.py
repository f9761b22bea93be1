"""Ensembles: models whose logits are the weighted sum of their members' logits. No torch.

    members/NAME/   each a complete model directory of emotune, with its own manifest
    ensemble.json   {"weights": {NAME: {label: weight}}}
    decision.json  README.md  emotune.json   as in any model; the manifest lists the members' files too

The logit of a label is the sum over members of weight × logit, labels matched by name. Weights of 1/n give the mean.
Temperatures divide the weights. An ensemble within an ensemble is replaced by its members, with the products of the
weights, so a member is always a single model.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.artifact.manifest import MANIFEST, Manifest, read_json, read_manifest
from emotune.atomic import write_json
from emotune.errors import ModelError, Place
from emotune.labels import LabelSet

KIND = "ensemble"
FILE, MEMBERS = "ensemble.json", "members"
MOST_MEMBERS = 100
Floats = npt.NDArray[np.float64]
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


def verify_member(directory: Path, name: str, manifest: Manifest) -> Manifest:
    """Return the manifest of a member. The ensemble's directory has been verified against `manifest` before.

    Both manifests must agree on the member's files, so that none is hashed twice; raises ModelError if they differ.
    """
    part = f"{MEMBERS}/{name}/"
    inner = read_manifest(directory / part)
    files = {file.removeprefix(part): e for file, e in manifest.files.items() if file.startswith(part)}
    files.pop(MANIFEST, None)
    for file in sorted(files.keys() | inner.files.keys()):
        if files.get(file) != inner.files.get(file):
            message = f"it differs from the manifest of the ensemble in {file!r}"
            raise ModelError(message, place=Place(directory / part / MANIFEST))
    return inner


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
    write_json(directory / FILE, {"weights": each})


def read_weights(directory: Path, labels: LabelSet) -> dict[str, Floats]:
    """Return the weights of each member, shape (labels,); raises ModelError for invalid ones."""
    place = Place(directory / FILE)
    found = read_json(directory / FILE).get("weights")
    if not isinstance(found, dict) or not 0 < len(found) <= MOST_MEMBERS:
        raise ModelError(f"it has no weights for 1 to {MOST_MEMBERS} members", place=place)
    for name in found:
        if not _NAME.fullmatch(name):
            raise ModelError(f"{name[:80]!r} cannot be the name of a member", place=place)
    present = {path.name for path in (directory / MEMBERS).iterdir()} if (directory / MEMBERS).is_dir() else set()
    if present != found.keys():
        name = sorted(present ^ found.keys())[0]
        what = "has no weights" if name in present else f"is not in {MEMBERS}/"
        raise ModelError(f"the member {name[:80]!r} {what}", place=place)
    return {name: _weights(values, labels, name, place) for name, values in found.items()}


def _weights(values: Any, labels: LabelSet, name: str, place: Place) -> Floats:
    if not isinstance(values, dict) or values.keys() != set(labels.names):
        raise ModelError(f"the weights of {name!r} are not one for each label", place=place)
    if any(type(value) not in (int, float) or not 0 < value < 1e9 for value in values.values()):
        raise ModelError(f"a weight of {name!r} is not a number above 0", place=place)
    return np.array([values[label] for label in labels.names], dtype=np.float64)
