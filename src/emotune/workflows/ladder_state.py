"""What a ladder keeps on the disk, so that it can go on.

ladder.json        the rows it began with, the time it has taken, what each rung is expected to cost
runs/RUNG-SEED/    an ordinary run directory for each model: what is trained is told by these alone
report/            report.html, report.md, comparison.json, pictures: once it has come to its end
.lock              which process climbs here
"""

import shutil
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from emotune.artifact.manifest import read_json
from emotune.artifact.safety.json_files import validated
from emotune.atomic import LOCK, write_json, writing
from emotune.config.schema import Config
from emotune.errors import ModelError, OutputError, Place, UsageError
from emotune.runs.resume import require_same_data
from emotune.workflows.ladder_costs import PROBE, Estimate

STATE, RUNS, REPORT = "ladder.json", "runs", "report"
_OURS = {STATE, RUNS, REPORT, LOCK}
_FORMAT_VERSION = 1
_BETWEEN_WRITES = 5.0  # seconds of which a kill may lose the count


Fingerprints = dict[str, dict[str, str | int]]  # of each split: rows and sha256


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Rung(_Strict):
    """What is known of a rung: what it is expected to cost as configured so, and how fast its model reads."""

    config: dict[str, Any]
    fixed: float
    per_step: float
    steps: int
    texts_per_second: float | None = None


class _Content(_Strict):
    format_version: int
    data: Fingerprints
    device: str
    spent: float
    rungs: dict[str, _Rung]


class LadderState:
    """`ladder.json` of a ladder that goes on: `spent` counts the seconds of all its processes until now.

    started: when this process began, by `time.monotonic`. `works` is set where this process estimates or trains: one
    that finds nothing to do adds nothing to what was `used`.
    """

    def __init__(self, out: Path, content: _Content, started: float) -> None:
        self.out, self._content = out, content
        self._before, self._started, self._written = content.spent, started, -_BETWEEN_WRITES
        self.works = False

    @classmethod
    def begin(cls, out: Path, data: Fingerprints, device: str, started: float) -> "LadderState":
        """Go on with the ladder that is there, or begin one.

        Raises DataError when it began with other rows, UsageError when on another device, ModelError when its file is
        not sound.
        """
        path = out / STATE
        if not path.is_file():
            return cls(
                out, _Content(format_version=_FORMAT_VERSION, data=data, device=device, spent=0, rungs={}), started
            )
        content = _read(path)
        require_same_data(content.data, data, Place(path))
        if content.device != device:
            message = (
                f"this is device {device}, and the ladder began on {content.device}: their costs cannot be compared"
            )
            raise UsageError(message, place=Place(path), hint=f"--device {content.device}, or begin anew: --overwrite.")
        return cls(out, content, started)

    @property
    def spent(self) -> float:
        """Seconds of all processes that climbed here."""
        return self._before + time.monotonic() - self._started

    @property
    def used(self) -> float:
        """Seconds of all processes that had something to do here."""
        return self.spent if self.works else self._before

    @property
    def goes_on(self) -> float:
        """Seconds of the processes before this one."""
        return self._before

    def write(self) -> None:
        """Bring it to the disk."""
        self._content.spent = self.used
        write_json(self.out / STATE, self._content.model_dump())
        self._written = time.monotonic()

    def tick(self) -> None:
        """Count the time, when it was long not counted."""
        if time.monotonic() - self._written >= _BETWEEN_WRITES:
            self.write()

    def estimate(self, rung: str, config: Config) -> Estimate | None:
        """What the rung was found to cost as it is configured now; None when that is not known."""
        known = self._content.rungs.get(rung)
        if known is None or known.config != config.model_dump(mode="json"):
            return None
        return Estimate(known.fixed, known.per_step, known.steps)

    def expect(self, rung: str, config: Config, estimate: Estimate) -> None:
        """Keep what a rung will cost."""
        self._content.rungs[rung] = _Rung(
            config=config.model_dump(mode="json"),
            fixed=estimate.fixed,
            per_step=estimate.per_step,
            steps=estimate.steps,
        )
        self.write()

    def speed(self, rung: str) -> float | None:
        """Texts a second; None when not measured."""
        known = self._content.rungs.get(rung)
        return None if known is None else known.texts_per_second

    def measured(self, rung: str, texts_per_second: float | None) -> None:
        """Keep how fast a rung's model reads."""
        if rung in self._content.rungs:
            self._content.rungs[rung].texts_per_second = texts_per_second
            self.write()


def _read(path: Path) -> _Content:
    hint = "Begin anew: --overwrite."
    content = validated(_Content, read_json(path), Place(path), hint)
    if content.format_version != _FORMAT_VERSION:
        message = f"format version {content.format_version}; this emotune reads version {_FORMAT_VERSION}"
        raise ModelError(message, place=Place(path), hint=hint)
    return content


def run_of(out: Path, rung: str, seed: int) -> Path:
    """Where a model's run lies."""
    return out / RUNS / f"{rung}-{seed}"


def require_ladder(out: Path) -> None:
    """Raise OutputError unless nothing is there, or a ladder and nothing else."""
    if not out.exists():
        return
    if not out.is_dir():
        raise OutputError("cannot write: a file stands where a directory should", place=Place(out))
    names = {path.name for path in out.iterdir()}
    ours = {name for name in names if name in _OURS or _is_left(name)}
    if names - ours or (ours - {LOCK} and STATE not in names and not all(map(_is_left, ours - {LOCK}))):
        message = "the output directory exists and is not a ladder of emotune"
        raise OutputError(message, place=Place(out), hint="Choose another place: --out DIR")


def _is_left(name: str) -> bool:
    """Whether a process that was killed left this."""
    return name.startswith(PROBE) or (name.startswith(".") and name.endswith(".part"))


def clear(out: Path, *, overwrite: bool) -> None:
    """Remove what killed processes left in a ladder's directory; to `overwrite`, all of it but the lock."""
    with writing(out):
        for path in out.iterdir():
            if path.name == LOCK or not (overwrite or _is_left(path.name)):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
