"""The start-up time and memory of a training on a million rows: GoEmotions repeated, then 50 steps.

    python benchmarks/million_rows.py --data DIR [--rows 1000000] [--repeat-as-is]

DIR has GoEmotions' train.tsv, dev.tsv and labels.txt. The repeated rows are written to a temporary folder; each
repetition has its own word in front, so that texts differ. Prints the seconds and the peak resident memory of each
part, above that of the imports; the last line is one JSON object.
"""

import argparse
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import psutil

from emotune.config.loading import load_config
from emotune.models import encoder
from emotune.runs import layout, resume
from emotune.training import checkpoint, session
from emotune.training.progress import EpochReport, StepReport
from emotune.workflows import train as workflow

STEPS = 50
GIB = 2**30
SAMPLES_PER_SECOND = 20


class Meter:
    """Seconds and peak resident memory of each part; parts may be nested."""

    def __init__(self) -> None:
        self.parts: dict[str, dict[str, float]] = {}
        self._process, self._peaks = psutil.Process(), [0]
        self.base = self._process.memory_info().rss
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        while True:
            self._note()
            time.sleep(1 / SAMPLES_PER_SECOND)

    def _note(self) -> None:
        used = self._process.memory_info().rss
        self._peaks[:] = [max(peak, used) for peak in self._peaks]

    def timed(self, place: Any, name: str) -> None:
        """Measure all calls of a function of the module or class `place`."""
        function: Callable[..., Any] = getattr(place, name)

        @wraps(function)
        def measured(*args: Any, **options: Any) -> Any:
            started = time.perf_counter()
            self._peaks.append(0)
            try:
                return function(*args, **options)
            finally:
                self._note()
                self.add(name, time.perf_counter() - started, self._peaks.pop())

        setattr(place, name, measured)

    def add(self, name: str, seconds: float, peak: int) -> None:
        part = self.parts.setdefault(name, {"calls": 0, "seconds": 0.0, "peak_gib": 0.0})
        part["calls"] += 1
        part["seconds"] += seconds
        part["peak_gib"] = max(part["peak_gib"], (peak - self.base) / GIB)

    @property
    def peak_gib(self) -> float:
        """The peak since the start."""
        self._note()
        return float(self._peaks[0] - self.base) / GIB


class _FirstStep:
    """A reporter that notes the time of the first step."""

    def __init__(self) -> None:
        self.first_step = 0.0

    def info(self, message: str) -> None:
        print(message[:150])

    def warn(self, message: str) -> None:
        print(f"warning: {message[:150]}")

    def on_step(self, report: StepReport) -> None:
        assert report.step <= STEPS
        self.first_step = self.first_step or time.perf_counter()

    def on_epoch(self, report: EpochReport) -> None:
        """Do nothing: only steps are timed."""

    def on_progress(self, done: int, whole: int) -> None:
        """Do nothing: only steps are timed."""


def write_rows(source: Path, folder: Path, rows: int, *, as_is: bool) -> None:
    """Write `train.tsv` with `rows` rows, and copies of the other files."""
    lines = (source / "train.tsv").read_text(encoding="utf-8").splitlines()
    with (folder / "train.tsv").open("w", encoding="utf-8") as file:
        for i in range(rows):
            time_round = i // len(lines)
            word = f"round{time_round} " if time_round and not as_is else ""
            file.write(f"{word}{lines[i % len(lines)]}\n")
    for name in ("dev.tsv", "labels.txt"):
        shutil.copy(source / name, folder / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeat-as-is", action="store_true", help="repeat the texts unchanged")
    args = parser.parse_args()
    meter, reporter = Meter(), _FirstStep()
    parts = [
        *((workflow, name) for name in ("corpus_of", "check", "Session")),
        *((session, name) for name in ("targets_of", "stratified_folds", "fingerprints")),
        (encoder, "build"),
        (encoder, "start_at_priors"),
        *((layout, name) for name in ("save_train_texts",)),
        (resume, "settings_of"),
        (checkpoint.Checkpoints, "write"),
        (workflow, "finish"),
    ]
    for place, name in parts:
        meter.timed(place, name)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        write_rows(args.data, data, args.rows, as_is=args.repeat_as_is)
        overrides = [f"data.path={json.dumps(str(data))}", f"training.max_steps={STEPS}"]
        config = load_config("goemotions", [*overrides, f"training.checkpoint_steps={STEPS // 2}"])
        started = time.perf_counter()
        workflow.train(config, Path(folder) / "run", reporter=reporter)
    for name, part in meter.parts.items():
        print(f"{name:18} {part['calls']:3.0f} × {part['seconds']:7.2f} s   peak {part['peak_gib']:5.2f} GiB")
    result = {
        "rows": args.rows,
        "start_up_seconds": round(reporter.first_step - started, 1),
        "peak_gib_above_imports": round(meter.peak_gib, 2),
        "parts": meter.parts,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
