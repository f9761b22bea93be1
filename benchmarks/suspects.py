"""Suspect labels against the votes of raters, beside cleanlab's measures of the same probabilities.

    emotune train goemotions --data DIR --folds 5 --out runs/five
    python benchmarks/suspects.py --data DIR --raters FILE.csv --model runs/five

DIR has GoEmotions' train.tsv and labels.txt. FILE.csv is a part of its file of raters: a row for each vote, with the
columns text, id, rater_id, example_very_unclear and 0/1 for each label. Each training text that has a vote there is
ranked by how improbable its labels are to the model, out of fold. A suspect is confirmed when a rater of the text gave
other labels than the training data has, which have two raters or more. Prints the precision of the first 100 and 500,
and the average precision, with 95 % bootstrap intervals over the texts, and the paired difference to the best measure
of cleanlab (`pip install cleanlab`; left out without it). The last line is one JSON object.
"""

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

from emotune.artifact.opening import open_model
from emotune.config.loading import config_from
from emotune.data.corpus import load_stored_splits, resolve_data
from emotune.data.quality.suspects import surprisals
from emotune.data.records import targets_of
from emotune.labels import in_order
from emotune.reporter import NullReporter
from emotune.runs.teacher import out_of_fold

FIRST = (100, 500)


def cleanlab_measures(targets: Any, probabilities: Any) -> dict[str, Any]:
    """Return cleanlab's scores of the rows' labels, turned so that the most suspect have the highest."""
    try:
        from cleanlab.multilabel_classification import get_label_quality_scores
    except ImportError:
        print("cleanlab is not installed: its measures are left out")
        return {}
    labels = [np.flatnonzero(row).tolist() for row in targets]
    methods = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
    return {f"cleanlab {method}": -get_label_quality_scores(labels, probabilities, method=method) for method in methods}


def figures(disputed: Any, scores: Any) -> dict[str, float]:
    """Return the precision of the first rows, and the average precision."""
    order = np.argsort(-scores, kind="stable")
    found = {f"precision at {n}": float(disputed[order[:n]].mean()) for n in FIRST}
    return found | {"average precision": float(average_precision_score(disputed, scores))}


def interval(values: list[float]) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return round(float(low), 3), round(float(high), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--raters", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--draws", type=int, default=1000)
    options = parser.parse_args()
    corpus = load_stored_splits(resolve_data(config_from({}, [f"data.path={options.data}"]).data), ("train",))
    found = open_model(options.model)
    known = out_of_fold(found, NullReporter())
    with options.raters.open(encoding="utf-8", newline="") as file:
        votes = list(csv.DictReader(file))
    names = corpus.labels.names
    voted: dict[str, list[list[int]]] = {}
    for vote in votes:
        voted.setdefault(vote["id"], []).append([int(vote[name]) for name in names])
    records = [record for record in corpus.splits["train"] if record.id in voted and record.text in known]
    targets = targets_of(records, len(names)) > 0
    probabilities = in_order(np.stack([known[record.text] for record in records]), found.decision.labels, corpus.labels)
    disputed = np.array(
        [
            any((np.array(vote) != row).any() for vote in voted[str(record.id)])
            for record, row in zip(records, targets, strict=True)
        ]
    )
    print(f"{len(records):,} training texts with votes, {disputed.mean():.3f} of them disputed by a rater")
    measures = {"emotune": surprisals(records, probabilities)} | cleanlab_measures(targets, probabilities)
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(records), len(records)) for _ in range(options.draws)]
    summary: dict[str, Any] = {"texts": len(records), "disputed": round(float(disputed.mean()), 3)}
    sampled = {name: [figures(disputed[draw], scores[draw]) for draw in draws] for name, scores in measures.items()}
    for name, scores in measures.items():
        whole = figures(disputed, scores)
        summary[name] = {
            figure: [round(value, 3), *interval([each[figure] for each in sampled[name]])]
            for figure, value in whole.items()
        }
        shown = (f"{figure} {v:.3f} ({low:.3f}–{high:.3f})" for figure, (v, low, high) in summary[name].items())
        print(f"{name}: {', '.join(shown)}")
    precisions = {name: summary[name]["average precision"][0] for name in measures}
    own = precisions.pop("emotune")
    if precisions:
        best = max(precisions, key=precisions.__getitem__)
        pairs = zip(sampled["emotune"], sampled[best], strict=True)
        low, high = interval([a["average precision"] - b["average precision"] for a, b in pairs])
        difference = round(own - precisions[best], 3)
        print(f"emotune minus {best}: average precision {difference:+.3f} ({low:+.3f} to {high:+.3f})")
        summary["difference"] = {"to": best, "average precision": [difference, low, high]}
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
