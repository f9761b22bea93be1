"""What a report tells of a model beside its scores, read from the model directory and the run around it."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from emotune import artifact
from emotune.decision import Decision
from emotune.errors import EmotuneError
from emotune.reports.background import Background, FoldThresholds
from emotune.reports.training_log import TrainingLog, read_training_log
from emotune.workflows import run_directory

_LIBRARIES = ("numpy", "tokenizers", "torch", "transformers", "accelerate", "scikit-learn")


def known_of(model: Path, decision: Decision, fingerprint: str) -> Background:
    """All that is kept with a model; `fingerprint` is that of the rows it is scored on.

    Parts of the run that are lost or damaged are left out: they are told of, not relied on.
    """
    manifest = _manifest(model)
    run = artifact.run_of(model)
    kept = _kept(run)
    return Background(
        decision=decision,
        encoder=manifest.encoder if manifest else "",
        config=_text(run, run_directory.CONFIG),
        description=_lines(kept.get("description")),
        findings=_lines(kept.get("findings")),
        data=manifest.data if manifest else {},
        fingerprint=fingerprint,
        trained_with=manifest.versions if manifest else {},
        scored_with=_versions(),
        training=_training(run),
        fold_thresholds=FoldThresholds.from_json(decision.tuning, decision.labels.names),
    )


def _manifest(model: Path) -> artifact.Manifest | None:
    """The manifest; None for a model that was taken as it is, without one."""
    return artifact.verify(model) if (model / artifact.MANIFEST).is_file() else None


def _text(run: Path | None, name: str) -> str:
    try:
        return "" if run is None else (run / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _kept(run: Path | None) -> dict[str, Any]:
    try:
        return {} if run is None else artifact.read_json(run / run_directory.DATA)
    except EmotuneError:
        return {}


def _lines(value: Any) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _training(run: Path | None) -> TrainingLog | None:
    return read_training_log(_text(run, run_directory.LOG).splitlines())


def _versions() -> dict[str, str]:
    from emotune import __version__

    found = {"emotune": __version__, "Python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
