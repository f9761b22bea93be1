"""The record of an export: the model it was made from, its profile, and its parity with that model. No torch.

export.json   profile, source, parity, limits, bytes, made_with

`source` has digests of the weights and of the decision of the trained model, and its place relative to the export where
both are in the same folder or in neighbouring ones. There, an export is compared with its source when it is opened.
"""

import hashlib
import os
import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from emotune.artifact.manifest import CARD, DECISION, Manifest, read_manifest
from emotune.artifact.safety.files import read_json
from emotune.errors import EmotuneError, ModelError, Place

EXPORT = "export.json"
_NEAR = 2  # folders up: a place further away would reveal names of folders to whoever gets the export


@dataclass(frozen=True)
class Source:
    """The trained model of an export; digests are None for a model that emotune did not write, place if it is far."""

    kind: str
    weights: str | None = None
    decision: str | None = None
    place: str | None = None


@dataclass(frozen=True)
class ExportRecord:
    """The content of `export.json`. parity: `Parity.to_json`; limits: those of its figures; bytes: of both models."""

    profile: str
    source: Source
    parity: dict[str, Any]
    limits: dict[str, float]
    bytes: dict[str, int]
    made_with: dict[str, str]


def source_of(directory: Path, manifest: Manifest | None, kind: str, out: Path) -> Source:
    """Return the record of a model that is exported to `out`."""
    if manifest is None:
        return Source(kind=kind)
    return Source(
        kind=kind,
        weights=_weights_digest(manifest),
        decision=manifest.files[DECISION].sha256,
        place=_relative(directory, out),
    )


def _relative(directory: Path, out: Path) -> str | None:
    try:
        place = Path(os.path.relpath(directory.resolve(), out.resolve()))
    except ValueError:  # another drive
        return None
    return place.as_posix() if place.parts.count("..") <= _NEAR else None


def _weights_digest(manifest: Manifest) -> str:
    """Return one sha256 of all files of a model, except those that `emotune tune` changes."""
    lines = (f"{name} {entry.sha256}\n" for name, entry in sorted(manifest.files.items()))
    return hashlib.sha256("".join(x for x in lines if x.split(" ")[0] not in (DECISION, CARD)).encode()).hexdigest()


def _read(path: Path) -> tuple[Source, str]:
    """Return the source and the profile that an `export.json` names; raises ModelError for an invalid one."""
    record = read_json(path)
    content, profile = record.get("source"), record.get("profile")
    known = {field.name for field in fields(Source)}
    if not isinstance(content, dict) or not isinstance(content.get("kind"), str) or not content.keys() <= known:
        raise ModelError("source: its kind and digests are expected", place=Place(path))
    if key := next((key for key, value in content.items() if not isinstance(value, str | None)), None):
        raise ModelError(f"source.{key}: str or null is expected", place=Place(path))
    if not isinstance(profile, str):
        raise ModelError("profile: str is expected", place=Place(path))
    return Source(**content), profile


def require_current(directory: Path, manifest: Manifest) -> tuple[str, ...]:
    """Raise ModelError for an export whose source, where it is at hand, has been tuned since; return notes about it."""
    if EXPORT not in manifest.files:
        return ()
    source, profile = _read(directory / EXPORT)
    if source.place is None:
        return ()
    try:
        place = _shown(directory / source.place)
        found = read_manifest(place)
    except (EmotuneError, OSError, ValueError, RuntimeError):  # it is not at hand; RuntimeError: a loop of links
        return ()
    if _weights_digest(found) != source.weights:
        return (f"{directory} was exported from another model than the one that is now in {place}",)
    decision = found.files[DECISION].sha256
    if decision not in (source.decision, manifest.files[DECISION].sha256):
        again = ("emotune", "export", str(place), "--out", str(directory), "--profile", profile, "--overwrite")
        raise ModelError(
            f"this export is stale: the model that it was made from ({place}) has been tuned since",
            place=Place(directory),
            hint=f"Export it again: {shlex.join(again)}",
        )
    return ()


def _shown(place: Path) -> Path:
    """Return a path without `..`, relative to the working directory for what is in it."""
    place = place.resolve()
    return place.relative_to(Path.cwd()) if place.is_relative_to(Path.cwd()) else place
