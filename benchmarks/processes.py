"""Training throughput by the number of processes, on the same rows with the same batches.

    python benchmarks/processes.py starter --processes 1 2
    python benchmarks/processes.py goemotions --data DIR --processes 1 2 4 --set training.batch_size=256

Each number of processes trains once with `torchrun`, on the GPUs of this machine or on its CPUs, which are divided over
the processes. Prints the examples per second of the epochs after the first, without validation; other options are those
of `emotune train`. The last line is one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def throughput(recipe: str, more: list[str], processes: int, out: Path) -> float:
    """Return examples per second of the epochs after the first."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "--module"]
    started = launcher if processes > 1 else ["-m"]
    command = [sys.executable, *started, "emotune", "train", recipe, "--out", str(out), "--quiet", *more]
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    events = map(json.loads, (out / "log.jsonl").read_text(encoding="utf-8").splitlines())
    epochs = [event for event in events if event["event"] == "epoch"][1:]
    seconds = sum(epoch["seconds"] for epoch in epochs)
    return float(sum(epoch["examples_per_second"] * epoch["seconds"] for epoch in epochs) / seconds)


def main() -> None:
    """Train with each number of processes and print the speeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--epochs", type=int, default=2)
    args, more = parser.parse_known_args()
    more += ["--set", f"training.epochs={args.epochs}", "--set", "training.checkpoint_minutes=0"]
    speeds = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in args.processes:
            speeds[number] = throughput(args.recipe, more, number, Path(folder) / str(number))
            ratio = speeds[number] / speeds[args.processes[0]]
            print(f"{number} processes: {speeds[number]:.0f} examples/s ({ratio:.2f} times the first)", flush=True)
    print(json.dumps({"recipe": args.recipe, "examples_per_second": speeds}))


if __name__ == "__main__":
    main()
