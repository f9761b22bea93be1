"""LoRA against fine-tuning all weights and against a frozen encoder: scores, time, memory, trained parameters.

    python benchmarks/lora.py --data DIR --seeds 3 --set training.epochs=4

Each seed of each way is trained in a process of its own, with `starter` and the weights of the last epoch, so that no
epoch is chosen on the validation rows. Macro-F1 (of multi-class data, accuracy) has thresholds chosen out of fold; its
intervals, and those of the differences to fine-tuning all weights, are those of `emotune compare`. Seconds are those of
the processor, memory is the peak of the process. The last line is one JSON object.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emotune.config.loading import load_config
from emotune.config.schema import Config
from emotune.data.corpus import load_corpus, resolve_data
from emotune.decision import Decision
from emotune.labels import Task, positives
from emotune.reporter import NullReporter
from emotune.runs import layout
from emotune.scoring.comparison import Comparison, Entry, Outcome, compare
from emotune.scoring.metrics import metric_name
from emotune.scoring.tuning import decide_out_of_fold
from emotune.training import optim
from emotune.workflows.train import train

WAYS = {"full": (), "LoRA": ("model.adapter=lora",), "frozen": ("model.freeze=all",)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder with training and validation rows, or one file")
    parser.add_argument("--encoder", help="default: MiniLM, that of the recipe")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    settings = [f"data.path={args.data}", "training.keep=last", *args.set]
    settings += [f"model.encoder={args.encoder}"] if args.encoder else []
    if args.run is not None:
        print(json.dumps(trained(load_config("starter", settings), args.run)))
        return
    config = load_config("starter", settings)
    with tempfile.TemporaryDirectory() as name:
        costs = {way: [in_process(way, seed, Path(name)) for seed in range(args.seeds)] for way in WAYS}
        report(compared(config, costs, Path(name)), costs)


def in_process(way: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train a seed of a way in a new process; return its costs."""
    more = [part for each in (*WAYS[way], f"training.seed={seed}") for part in ("--set", each)]
    command = [sys.executable, *sys.argv, *more, "--run", str(folder / f"{way}-{seed}")]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    print(f"{way}, seed {seed}: {found['seconds']:.0f} s, {found['gib']:.2f} GiB", flush=True)
    return found


def trained(config: Config, run: Path) -> dict[str, Any]:
    """Train a run; return the processor seconds, the peak of the memory, and the parameters trained and in all."""
    groups_of, counts = optim.parameter_groups, dict[str, int]()

    def counting(model: Any, settings: Any) -> Sequence[optim.Group]:
        groups = groups_of(model, settings)
        counts["trained"] = sum(p.numel() for group in groups for p in group.parameters.values())
        counts["parameters"] = model.num_parameters()
        return groups

    optim.parameter_groups = counting  # type: ignore[assignment]
    start = time.process_time()
    train(config, run, reporter=NullReporter(), device="cpu")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": time.process_time() - start, "gib": peak, **counts}


def compared(config: Config, costs: dict[str, list[dict[str, Any]]], folder: Path) -> Comparison:
    """Compare the ways on the validation rows, with thresholds chosen out of fold."""
    corpus = load_corpus(resolve_data(config.data), ("train", "valid"))
    rule, targets = Decision.default(corpus.labels), corpus.targets("valid")
    entries = []
    for way, seeds in costs.items():
        outcomes = []
        for seed in range(len(seeds)):
            logits, _ = layout.read_valid(folder / f"{way}-{seed}", corpus.labels)
            decided = decide_out_of_fold(logits, targets, rule, config.tuning)
            outcomes.append(Outcome(decided, rule.probabilities(logits), seed))
        seconds = statistics.fmean(each["seconds"] for each in seeds)
        entries.append(Entry(way, tuple(outcomes), training_seconds=seconds))
    metric = "accuracy" if corpus.labels.task is Task.MULTI_CLASS else "macro_f1"
    return compare(corpus.labels, positives(targets), entries, metric=metric, baseline="full")


def report(found: Comparison, costs: dict[str, list[dict[str, Any]]]) -> None:
    """Print a line for each way, and all figures as JSON."""
    metric, summary = found.metric, dict[str, Any]()
    full = statistics.fmean(each["seconds"] for each in costs["full"])
    differences = {d.entry: d for d in found.differences}
    for i, measured in enumerate(found.measured):
        way = measured.entry.name
        seconds, gib = (statistics.fmean(each[key] for each in costs[way]) for key in ("seconds", "gib"))
        score, (low, high) = measured.metrics[metric], measured.intervals[metric]
        share, d = costs[way][0]["trained"] / costs[way][0]["parameters"], differences.get(i)
        minus = "" if d is None else f", minus full {d.value:+.3f} ({d.low:+.3f} to {d.high:+.3f})"
        print(
            f"{way:7} {metric_name(metric)} {score:.3f} ({low:.3f}–{high:.3f}), sd over seeds "
            f"{measured.spread[metric]:.3f}{minus}; {costs[way][0]['trained']:,} parameters trained ({share:.1%}), "
            f"{seconds:.0f} s ({seconds / full:.2f} × full), {gib:.2f} GiB"
        )
        summary[way] = {
            metric: score,
            "interval": [low, high],
            "minus_full": None if d is None else [d.value, d.low, d.high],
            "costs": costs[way],
        }
    print(json.dumps({"machine": platform.machine(), "rows": len(found.targets), "ways": summary}))


if __name__ == "__main__":
    main()
