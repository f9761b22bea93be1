"""Transfer from the starter corpus: a model trained on it alone is scored on GoEmotions' development rows.

    python benchmarks/transfer.py --data DIR --seeds 3

For each seed: F1 over 28 labels and over Ekman's 7 with thresholds tuned on the corpus, and over 28 labels with
thresholds chosen out of fold on the scored rows (five stratified folds, thresholds from four, decisions on the fifth).
No row of GoEmotions is trained on. The last line is one JSON object.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import emotune
from emotune.config.loading import load_config
from emotune.config.schema import DataConfig
from emotune.data.corpus import load_corpus, resolve_data
from emotune.data.records import Corpus
from emotune.decision import Decision
from emotune.labels import mapping_to, positives
from emotune.reporter import NullReporter
from emotune.scoring.metrics import score
from emotune.scoring.tuning import decide_out_of_fold
from emotune.workflows.train import train

WAYS = (
    "28 labels, thresholds of the corpus",
    "Ekman's 7, thresholds of the corpus",
    "28 labels, thresholds out of fold",
)
OUT_OF_FOLD = load_config("goemotions").tuning


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder with GoEmotions' train.tsv, dev.tsv and labels.txt")
    parser.add_argument("--corpus", default="emotune:starter", help="another corpus with the same labels")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    goemotions = load_corpus(resolve_data(DataConfig(path=args.data)), splits=("valid",))
    seeds = []
    for seed in range(args.seeds):
        start = time.perf_counter()
        seeds.append(one_seed(args.corpus, seed, goemotions))
        shown = "  ".join(f"{macro:.4f}/{micro:.4f}" for macro, micro in seeds[-1])
        print(f"seed {seed}: macro/micro-F1 {shown}  ({time.perf_counter() - start:.0f} s)", flush=True)
    summary = {}
    for i, way in enumerate(WAYS):
        macros, micros = ([scores[i][j] for scores in seeds] for j in (0, 1))
        spread = statistics.stdev(macros) if len(macros) > 1 else None
        shown = "" if spread is None else f" ± {spread:.4f} (sd over seeds)"
        print(f"{way:36} macro-F1 {statistics.fmean(macros):.4f}{shown}, micro-F1 {statistics.fmean(micros):.4f}")
        summary[way] = {"macro_f1": macros, "micro_f1": micros}
    print(json.dumps({"corpus": args.corpus, "machine": platform.machine(), "scores": summary}))


def one_seed(corpus: str, seed: int, goemotions: Corpus) -> list[tuple[float, float]]:
    """Return macro-F1 and micro-F1 in each way."""
    config = load_config("starter", [f"training.seed={seed}", f"data.path={corpus}"])
    with tempfile.TemporaryDirectory() as folder:
        train(config, Path(folder) / "run", reporter=NullReporter(), device="auto")
        classifier = emotune.load(Path(folder) / "run")
        logits = classifier.logits([record.text for record in goemotions.splits["valid"]], batch_size=64)
    decision, targets = classifier.decision, goemotions.targets("valid")
    labels, positive = decision.labels, positives(targets)
    if labels.names != goemotions.labels.names:
        raise SystemExit(f"the corpus has other labels than GoEmotions: {', '.join(labels.names)}")
    probabilities = decision.probabilities(logits)
    decided = decision.decide(probabilities)
    ekman = mapping_to("ekman", labels)
    coarse = ekman.label_set(labels)
    coarse_positive, coarse_decided, coarse_p = (ekman.coarsen(a, labels) for a in (positive, decided, probabilities))
    chosen = decide_out_of_fold(logits, targets, Decision.default(labels), OUT_OF_FOLD)
    scored = (
        score(positive, decided, probabilities, labels, resamples=0),
        score(coarse_positive, coarse_decided, coarse_p, coarse, resamples=0),
        score(positive, chosen, probabilities, labels, resamples=0),
    )
    return [(scores.overall["macro_f1"], scores.overall["micro_f1"]) for scores in scored]


if __name__ == "__main__":
    main()
