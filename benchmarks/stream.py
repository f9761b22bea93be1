"""Many lines through `emotune predict --json`: time of the first answer, memory over time, texts per second.

    python benchmarks/stream.py --model MODEL --data FILE [--pipeline DIR] [--lines 100000] [--sample 2000]

FILE has one text per line, or is a TSV file with the text in its first column (GoEmotions); it is repeated until there
are enough lines. The command reads them from a file and writes to a pipe. Memory is the resident memory of the command,
sampled 10 times a second: the peak until a tenth of the answers has arrived, and the peak afterwards. Then the Python
interface and the pipeline of transformers score a sample of the same texts in this process, in turns, at batch 32 and
one by one. The pipeline runs MODEL or, for an export, the trained model in DIR. The last line is one JSON object.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

BATCH, TURNS, SINGLES = 32, 3, 100
SAMPLES_PER_SECOND = 10
MIB = 2**20


def read_texts(path: Path, number: int) -> list[str]:
    """Return that many non-blank lines of a file, which is repeated as needed."""
    lines = [line.split("\t")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return list(itertools.islice(itertools.cycle([line for line in lines if line]), number))


def run_command(model: str, texts: Sequence[str]) -> dict[str, float]:
    """Measure `emotune predict --json` on the texts; its answers must be those of the texts, in order."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        file.writelines(f"{text}\n" for text in texts)
        file.seek(0)
        command = [sys.executable, "-m", "emotune", "predict", "-m", model, "--json"]
        started = time.perf_counter()
        with subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
            memory = Memory(process.pid)
            assert process.stdout is not None
            for i, line in enumerate(process.stdout):
                if i == 0:
                    first = time.perf_counter() - started
                if i == len(texts) // 10:
                    memory.next_part()
                assert json.loads(line)["text"] == texts[i], f"line {i + 1}"
        seconds = time.perf_counter() - started
    assert process.returncode == 0
    assert i + 1 == len(texts)
    until, after = memory.peaks
    return {
        "lines": len(texts),
        "first_line_seconds": round(first, 2),
        "texts_per_second": round((len(texts) - 1) / (seconds - first), 1),
        "peak_mib_first_tenth": round(until / MIB, 1),
        "peak_mib_afterwards": round(after / MIB, 1),
        "growth_percent": round(100 * (after / until - 1), 2),
    }


class Memory:
    """The peak resident memory of a process in each part of its run, in bytes."""

    def __init__(self, pid: int) -> None:
        self.peaks = [0]
        self._process = psutil.Process(pid)
        threading.Thread(target=self._sample, daemon=True).start()

    def next_part(self) -> None:
        self.peaks.append(0)

    def _sample(self) -> None:
        while True:
            try:
                self.peaks[-1] = max(self.peaks[-1], self._process.memory_info().rss)
            except psutil.Error:
                return
            time.sleep(1 / SAMPLES_PER_SECOND)


def compare(model: str, trained: Path | None, texts: Sequence[str]) -> dict[str, float]:
    """Measure the Python interface and the pipeline of transformers, in turns; the median of the turns counts."""
    from transformers import pipeline

    import emotune

    classifier = emotune.load(model, device="cpu")
    directory = str(trained or classifier.directory)
    theirs = pipeline("text-classification", model=directory, device="cpu", top_k=None)
    sides: dict[str, Callable[[Sequence[str], int], Any]] = {
        "emotune": lambda some, batch: list(classifier.stream(some, batch_size=batch)),
        "pipeline": lambda some, batch: theirs(list(some), batch_size=batch),
    }
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    singles: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(TURNS):
        for name, score in sides.items():
            score(texts[:BATCH], BATCH)
            started = time.perf_counter()
            score(texts, BATCH)
            speeds[name].append(len(texts) / (time.perf_counter() - started))
            for text in texts[:SINGLES]:
                started = time.perf_counter()
                score([text], 1)
                singles[name].append(1000 * (time.perf_counter() - started))
    found = {f"{name}_texts_per_second": round(statistics.median(speed), 1) for name, speed in speeds.items()}
    found |= {f"{name}_single_ms": round(statistics.median(times), 2) for name, times in singles.items()}
    ratios = [ours / other for ours, other in zip(speeds["emotune"], speeds["pipeline"], strict=True)]
    return found | {"times_the_pipeline": round(statistics.median(ratios), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--pipeline", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--sample", type=int, default=2000)
    options = parser.parse_args()
    texts = read_texts(options.data, options.lines)
    found = run_command(options.model, texts)
    print(json.dumps(found, indent=2), flush=True)
    print(json.dumps(found | compare(options.model, options.pipeline, texts[: options.sample])))


if __name__ == "__main__":
    main()
