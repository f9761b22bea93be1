"""Times commands from a cold process to its end: emotune's, and the pipeline of transformers on the same model.

    python benchmarks/start.py MODEL [MODEL ...] --python ENVIRONMENT/bin/python --runs 15

MODEL         a run or model directory for emotune; a network that plain transformers loads is also timed with its
              pipeline, where this Python has transformers
--python      the Python of the environment that is timed, such as one with the base install; default: this one

The commands take turns, so that a change of the machine's speed meets all of them. Prints the median and the least
wall time, and the median CPU time of user and system, in milliseconds. The last line is one JSON object.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

TEXT = "I can't believe I got the job!!"
PIPELINE = "import sys; from transformers import pipeline; pipeline('text-classification', sys.argv[1])(sys.argv[2])"


def commands(python: str, models: Sequence[str]) -> dict[str, list[str]]:
    """Return the command lines by name."""
    found = {
        "python alone": [python, "-c", "pass"],
        "import emotune": [python, "-c", "import emotune"],
        "emotune --version": [python, "-m", "emotune", "--version"],
        "emotune --help": [python, "-m", "emotune", "--help"],
    }
    for model in models:
        found[f"emotune predict -m {model}"] = [python, "-m", "emotune", "predict", "-m", model, TEXT]
        network = next(
            (path for path in (Path(model), Path(model) / "model") if (path / "config.json").is_file()), None
        )
        if network is not None and find_spec("transformers") is not None:
            found[f"transformers pipeline {network}"] = [sys.executable, "-c", PIPELINE, str(network), TEXT]
    return found


def timed(command: Sequence[str]) -> tuple[float, float]:
    """Run a command; return its wall time and its CPU time in milliseconds."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{errors.decode(errors='replace')}")
    return 1000 * seconds, 1000 * (usage.ru_utime + usage.ru_stime)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    todo = commands(options.python, options.models)
    for command in todo.values():  # the files of each are read once before
        timed(command)
    runs = [{name: timed(command) for name, command in todo.items()} for _ in range(options.runs)]
    results = {}
    print("  wall   least     CPU   ms")
    for name in todo:
        walls, cpus = zip(*(run[name] for run in runs), strict=True)
        wall, least, cpu = statistics.median(walls), min(walls), statistics.median(cpus)
        print(f"{wall:6.0f}  {least:6.0f}  {cpu:6.0f}   {name}")
        results[name] = {"wall_ms": round(wall, 1), "least_wall_ms": round(least, 1), "cpu_ms": round(cpu, 1)}
    print(json.dumps({"runs": options.runs, "commands": results}))


if __name__ == "__main__":
    main()
