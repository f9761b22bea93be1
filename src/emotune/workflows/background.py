"""What a report tells of a model beside its scores, read from the model directory and the run around it."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from emotune.artifact.manifest import MANIFEST, Manifest, read_json, run_of, verify
from emotune.decision import Decision
from emotune.errors import EmotuneError
from emotune.reports.background import Background
from emotune.runs import layout
from emotune.runs.training_log import TrainingLog, read_training_log
from emotune.scoring.fold_thresholds import FoldThresholds

_LIBRARIES = ("numpy", "tokenizers", "torch", "transformers", "accelerate", "scikit-learn")


def known_of(model: Path, decision: Decision, fingerprint: str) -> Background:
    """All that is kept with a model; `fingerprint` is that of the rows it is scored on.

    Parts of the run that are lost or damaged are left out: they are told of, not relied on.
    """
    manifest = _manifest(model)
    run = run_of(model)
    kept = _kept(run)
    return Background(
        decision=decision,
        encoder=manifest.encoder if manifest else "",
        config=_text(run, layout.CONFIG),
        description=_lines(kept.get("description")),
        findings=_lines(kept.get("findings")),
        data=manifest.data if manifest else {},
        fingerprint=fingerprint,
        trained_with=manifest.versions if manifest else {},
        scored_with=_versions(),
        training=_training(run),
        fold_thresholds=FoldThresholds.from_json(decision.tuning, decision.labels.names),
    )


def _manifest(model: Path) -> Manifest | None:
    """The manifest; None for a model that was taken as it is, without one."""
    return verify(model) if (model / MANIFEST).is_file() else None


def _text(run: Path | None, name: str) -> str:
    try:
        return "" if run is None else (run / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _kept(run: Path | None) -> dict[str, Any]:
    try:
        return {} if run is None else read_json(run / layout.DATA)
    except EmotuneError:
        return {}


def _lines(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _training(run: Path | None) -> TrainingLog | None:
    return read_training_log(_text(run, layout.LOG).splitlines())


def _versions() -> dict[str, str]:
    from emotune import __version__

    found = {"emotune": __version__, "Python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
