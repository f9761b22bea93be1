"""The overhead of `emotune predict --engine ray` on one machine, against our own engine.

    python benchmarks/ray_engine.py --data FILE [--model default] [--rows 1000000] [--turns 1]

FILE has one text per line, or is a TSV file with the text in its first column (GoEmotions); it is repeated until there
are enough rows, in a CSV file with a column of numbers. Both commands predict that file to another, in turns, each in
a process of its own; the time of the fastest turn counts, with everything: imports, start of the cluster, joining.
Their outputs must have the same bytes. The last line is one JSON object; `overhead` is the share of time that Ray adds,
and `overhead_without_start` the same when the time of predicting the first 100 rows is subtracted from both.
"""

import argparse
import csv
import hashlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ENGINES = {"own": [], "ray": ["--engine", "ray"]}
FEW = 100


def write_table(source: Path, target: Path, rows: int) -> None:
    """Write a CSV file with so many rows of the texts of a file."""
    lines = [line.split("\t")[0].strip() for line in source.read_text(encoding="utf-8").splitlines()]
    texts = itertools.cycle([line for line in lines if line])
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        writer.writerows(enumerate(itertools.islice(texts, rows)))


def seconds_of(engine: str, model: str, table: Path) -> tuple[float, str]:
    """Return the seconds of a prediction, and the digest of its output."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.csv"
        command = [sys.executable, "-m", "emotune", "predict", "-m", model, "--input", str(table)]
        started = time.perf_counter()
        subprocess.run([*command, "--output", str(output), *ENGINES[engine]], check=True)
        seconds = time.perf_counter() - started
        with output.open("rb") as file:
            return seconds, hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=1)
    args = parser.parse_args()
    fastest: dict[str, float] = {}
    start: dict[str, float] = {}
    digests: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        table, few = Path(folder) / "rows.csv", Path(folder) / "few.csv"
        write_table(args.data, table, args.rows)
        write_table(args.data, few, FEW)
        for turn, engine in itertools.product(range(args.turns), ENGINES):
            start[engine] = min(start.get(engine, float("inf")), seconds_of(engine, args.model, few)[0])
            seconds, digest = seconds_of(engine, args.model, table)
            fastest[engine] = min(fastest.get(engine, float("inf")), seconds)
            digests.add(digest)
            print(f"turn {turn + 1}, {engine}: {seconds:.1f} s, {args.rows / seconds:,.0f} texts/s")
    assert len(digests) == 1, "the engines wrote different bytes"
    steady = {engine: fastest[engine] - start[engine] for engine in ENGINES}
    result = {
        "rows": args.rows,
        "seconds": {engine: round(seconds, 1) for engine, seconds in fastest.items()},
        "start_seconds": {engine: round(seconds, 1) for engine, seconds in start.items()},
        "overhead": round(fastest["ray"] / fastest["own"] - 1, 3),
        "overhead_without_start": round(steady["ray"] / steady["own"] - 1, 3),
        "same_bytes": True,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
