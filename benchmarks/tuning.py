"""The effect of thresholds and temperatures: cached validation logits of runs, decided in several ways.

    emotune train goemotions --data DIR --set tuning.calibrate=false --out RUN
    python benchmarks/tuning.py RUN [RUN …]

Each threshold and each temperature is chosen on other rows than those it decides (five stratified folds, as in
quality.py). Prints a line for each way, the mean over the runs: macro- and micro-F1, micro-averaged precision and
recall, the number of labels that are ever predicted and that reach the requested precision; then the calibration before
and after temperatures. With --markdown, prints tables for docs/results.md. The last line is one JSON object.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.artifact.manifest import find_model, read_decision
from emotune.config.schema import TuningConfig
from emotune.decision import Decision
from emotune.labels import LabelSet, Task, positives
from emotune.runs import layout
from emotune.scoring.calibration import calibrate
from emotune.scoring.folds import stratified_folds
from emotune.scoring.metrics import Counts, counting_metrics, f_beta_metrics, interval
from emotune.scoring.thresholds import precision_and_recall
from emotune.scoring.tuning import FOLD_SEED, JUDGING_FOLDS, decide_out_of_fold
from methods import laid_out

AT_LEAST, RESAMPLES = 0.8, 1000
WAYS: dict[str, dict[str, Any]] = {
    "0.5 everywhere": {"method": "none"},
    "--method global": {"method": "global"},
    "--method per_label": {"method": "per_label"},
    "--method shrunk": {"method": "shrunk"},
    "--method auto": {"method": "auto"},
    "--objective micro_f1": {"method": "auto", "objective": "micro_f1"},
    "--objective f_beta --beta 0.5": {"method": "auto", "objective": "f_beta", "beta": 0.5},
    "--objective f_beta --beta 2": {"method": "auto", "objective": "f_beta", "beta": 2.0},
    f"--objective precision --at-least {AT_LEAST}": {"objective": "precision", "at_least": AT_LEAST},
}
FIGURES = ("macro_f1", "micro_f1", "macro_f0.5", "macro_f2", "precision", "recall", "labels_given", "labels_precise")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run of a multi-label model")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    kept = [_kept(run) for run in args.runs]
    ways = {way: _mean([_decided(*each, TuningConfig(**settings)) for each in kept]) for way, settings in WAYS.items()}
    header = ("thresholds", *FIGURES)
    rows = [(way, *(f"{figures[name]:.3f}".removesuffix(".000") for name in FIGURES)) for way, figures in ways.items()]
    print(laid_out([header, *rows], markdown=args.markdown))
    print(f"macro_f1: 95 % interval of the rows ± {ways['--method auto']['half_interval']:.3f} (--method auto)\n")
    calibrations = _mean_calibrations(kept)
    names = tuple(next(iter(calibrations.values())))
    cells = [(how, *(f"{figures[name]:.4f}" for name in names)) for how, figures in calibrations.items()]
    print(laid_out([("temperatures", *names), *cells], markdown=args.markdown))
    print(json.dumps({"runs": len(kept), "rows": len(kept[0][1]), "ways": ways, "calibration": calibrations}))


def _kept(run: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], LabelSet]:
    labels = read_decision(find_model(str(run))).labels
    if labels.task is not Task.MULTI_LABEL:
        raise SystemExit(f"{run}: a multi-class model has no thresholds")
    return *layout.read_valid(run, labels), labels


def _decided(
    logits: npt.NDArray[np.float32], targets: npt.NDArray[np.float32], labels: LabelSet, tuning: TuningConfig
) -> dict[str, float]:
    """Return the scores of decisions whose thresholds were chosen on other rows."""
    decided, positive = decide_out_of_fold(logits, targets, Decision.default(labels), tuning), positives(targets)
    counted = counting_metrics(positive, decided)
    by_label, _ = precision_and_recall(decided, positive)
    draws = Counts.of(positive, decided).bootstrap(RESAMPLES, 0).metrics()["macro_f1"]
    low, high = interval(draws)
    return {
        "macro_f1": counted["macro_f1"],
        "micro_f1": counted["micro_f1"],
        "macro_f0.5": f_beta_metrics(positive, decided, 0.5)["f_beta"],
        "macro_f2": f_beta_metrics(positive, decided, 2.0)["f_beta"],
        "precision": counted["micro_precision"],
        "recall": counted["micro_recall"],
        "labels_given": float(decided.any(axis=0).sum()),
        "labels_precise": float((by_label >= AT_LEAST).sum()),
        "half_interval": (high - low) / 2,
    }


def _mean_calibrations(
    kept: Sequence[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], LabelSet]],
) -> dict[str, dict[str, float]]:
    found: dict[str, list[dict[str, float]]] = {"none": [], "one": [], "per_label": []}
    for logits, targets, labels in kept:
        folds = stratified_folds(targets, JUDGING_FOLDS, FOLD_SEED)
        for how in ("one", "per_label"):
            made = calibrate(logits, targets, labels.task, folds, per_label=how == "per_label")
            found[how].append(made.after)
        found["none"].append(made.before)
    return {how: _mean(each) for how, each in found.items()}


def _mean(each: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.fmean(figures[name] for figures in each) for name in each[0]}


if __name__ == "__main__":
    main()
