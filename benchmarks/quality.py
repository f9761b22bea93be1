"""The scores of a recipe over seeds; thresholds are never chosen on the rows they are scored on.

    python benchmarks/quality.py goemotions --data DIR --seeds 3
    python benchmarks/quality.py semeval2025 --data DIR --seeds 1 --folds 5    # cross-validation on the training rows

Multi-label: 5 stratified folds of the validation rows, seed 0; thresholds are chosen on four and decide the fifth; F1
is computed once over all decisions, micro and macro from the same. With `tuning.rows` teacher, the thresholds of the
model decide, which no validation row has chosen. With --folds, a model is trained without each fold
of the training rows, and its logits of that fold replace the validation logits. Nothing is then chosen on these rows:
the weights of the last epoch are scored, without a temperature.

A recipe with `data.teacher_folds` trains a teacher with each seed; for all seeds: --set data.teacher=RUN/teacher

Prints a line for each seed, then mean, spread and a 95 % interval; the last line is one JSON object.
"""

import argparse
import json
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emotune.artifact.manifest import read_decision
from emotune.config.loading import load_config
from emotune.config.schema import Config
from emotune.data.corpus import folds_of, load_corpus, resolve_data
from emotune.data.records import Corpus
from emotune.decision import Decision
from emotune.labels import LabelSet, positives
from emotune.reporter import NullReporter
from emotune.runs import layout
from emotune.scoring.metrics import score
from emotune.scoring.tuning import decide_out_of_fold
from emotune.workflows.cross_train import train_configured

METRICS = ("macro_f1", "micro_f1", "weighted_f1", "accuracy")


@dataclass(frozen=True)
class Result:
    """One seed: metrics of the out-of-fold decisions, their bootstrap intervals, and the training time in seconds."""

    seed: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--data", help="default: the data of the recipe")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=0, help="cross-validate on the training rows")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C")
    args = parser.parse_args()
    overrides = [*args.set, *([f"data.path={args.data}"] if args.data else [])]
    results = []
    if args.folds:
        overrides += ["training.keep=last", "training.patience=null", "tuning.calibrate=false"]
    for seed in range(args.seeds):
        config = load_config(args.recipe, [*overrides, f"training.seed={seed}"])
        result = one_seed(config, seed, args.folds)
        results.append(result)
        shown = "  ".join(f"{m} {result.metrics[m]:.4f}" for m in METRICS)
        print(f"seed {seed}: {shown}  ({result.seconds:.0f} s)", flush=True)
    report(args.recipe, args.folds, results)


def one_seed(config: Config, seed: int, folds: int) -> Result:
    """Train with one seed, or once for each fold, and score the logits out of fold."""
    start = time.perf_counter()
    corpus = load_corpus(resolve_data(config.data))
    with tempfile.TemporaryDirectory() as folder:
        if folds:
            logits, targets = cross_validated(config, corpus, folds, Path(folder))
        else:
            logits, targets = trained(config, Path(folder) / "run", corpus.labels)
        seconds = time.perf_counter() - start
        rule = Decision.default(corpus.labels)
        probabilities = rule.probabilities(logits)
        if config.tuning.rows == "teacher" and not folds:
            decided = read_decision(Path(folder) / "run" / "model").decide(probabilities)
        else:
            decided = decide_out_of_fold(logits, targets, rule, config.tuning)
    scores = score(positives(targets), decided, probabilities, corpus.labels)
    return Result(seed, {m: scores.overall[m] for m in METRICS}, scores.intervals, seconds)


def trained(config: Config, run: Path, labels: LabelSet) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Train a run; return its validation logits and targets."""
    train_configured(config, run, reporter=NullReporter(), device="auto")
    return layout.read_valid(run, labels)


def cross_validated(
    config: Config, corpus: Corpus, folds: int, folder: Path
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the logits of all training rows, each from the model trained without its fold, and the targets."""
    targets = corpus.targets("train")
    parts = folds_of(corpus.splits["train"], len(corpus.labels), folds)
    logits = np.zeros(targets.shape, dtype=np.float32)
    for fold in range(1, folds + 1):
        logits[parts == fold], _ = trained(without(config, fold, folds), folder / f"run-{fold}", corpus.labels)
        print(f"  fold {fold} done", file=sys.stderr, flush=True)
    return logits, targets


def without(config: Config, fold: int, folds: int) -> Config:
    """Return the configuration with one fold (from 1) of the training rows as validation split."""
    return config.model_copy(update={"data": config.data.model_copy(update={"fold": [fold, folds]})})


def report(recipe: str, folds: int, results: Sequence[Result]) -> None:
    """Print the mean, the sd over seeds, and the mean ends of the bootstrap intervals."""
    summary: dict[str, object] = {}
    for name in METRICS:
        values = [r.metrics[name] for r in results]
        spread = statistics.stdev(values) if len(values) > 1 else None
        low, high = (statistics.fmean(r.intervals[name][end] for r in results) for end in (0, 1))
        shown = "" if spread is None else f" ± {spread:.4f} (sd over seeds)"
        print(f"{name:12} {statistics.fmean(values):.4f}{shown}, 95 % interval of the rows {low:.4f} to {high:.4f}")
        summary[name] = {"mean": statistics.fmean(values), "sd": spread, "interval": [low, high], "seeds": values}
    seconds = [r.seconds for r in results]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"seconds a seed {statistics.fmean(seconds):.0f}, peak memory {peak:.2f} GiB")
    about = {"recipe": recipe, "folds": folds, "seeds": len(results), "machine": platform.machine()}
    print(json.dumps({**about, "seconds": seconds, "peak_gib": peak, "metrics": summary}))


if __name__ == "__main__":
    main()
