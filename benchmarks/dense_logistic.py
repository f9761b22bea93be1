"""Fitting all labels of a dense matrix together, against one scikit-learn regression for each label.

    emotune features DIR --split train --out EMBEDDINGS.npz
    python benchmarks/dense_logistic.py EMBEDDINGS.npz [--rows 10000]

Both fit the same standardised embeddings, in the same process, one after the other. Prints the seconds of each, their
ratio, and how far logits and decisions at 0.5 differ. Without a file, it makes random features in the shape of
GoEmotions (43,410 rows, 384 features, 28 labels). The last line is one JSON object.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emotune.config.kinds import FeaturesConfig
from emotune.labels import Task
from emotune.models import linear

Floats = npt.NDArray[np.float32]
ROWS, FEATURES, LABELS = 43_410, 384, 28


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, help="written by emotune features, .npz")
    parser.add_argument("--rows", type=int, default=ROWS, help="use only the first rows")
    args = parser.parse_args()
    matrix, targets = _random(args.rows) if args.file is None else _read(args.file, args.rows)
    mean, scale = matrix.mean(axis=0, dtype=np.float64), matrix.std(axis=0, dtype=np.float64)
    scale[scale < np.finfo(np.float32).eps] = 1.0  # as in models/features.py
    matrix = ((matrix - mean) / scale).astype(np.float32)
    together, seconds = _timed(matrix, targets)
    separate, slow = _timed_separately(matrix, targets)
    logits = [matrix @ fitted.weights + fitted.bias for fitted in (together, separate)]
    found = {
        "rows": len(matrix),
        "features": matrix.shape[1],
        "labels": targets.shape[1],
        "seconds_together": round(seconds, 1),
        "seconds_separate": round(slow, 1),
        "ratio": round(slow / seconds, 1),
        "largest_difference_of_weights": float(np.abs(together.weights - separate.weights).max()),
        "largest_difference_of_logits": float(np.abs(logits[0] - logits[1]).max()),
        "decisions_that_differ": float(((logits[0] > 0) != (logits[1] > 0)).mean()),
    }
    for name, value in found.items():
        print(f"{name.replace('_', ' '):32} {value:,.6g}")
    print(json.dumps(found))


def _read(path: Path, rows: int) -> tuple[Floats, Floats]:
    """Return the embeddings (rows, features) and targets (rows, labels) of a file."""
    content = np.load(path, allow_pickle=False)
    return content["embeddings"][:rows], content["labels"][:rows].astype(np.float32)


def _random(rows: int) -> tuple[Floats, Floats]:
    """Return correlated features and targets of 0.3 % to 30 % frequency that depend on them."""
    rng = np.random.default_rng(0)
    scales = np.geomspace(1, 0.05, FEATURES)
    matrix = (rng.normal(size=(rows, FEATURES)) * scales) @ rng.normal(size=(FEATURES, FEATURES))
    matrix /= matrix.std()
    logits = matrix @ rng.normal(size=(FEATURES, LABELS)) / 10
    cuts = [
        np.quantile(column, 1 - share) for column, share in zip(logits.T, np.geomspace(0.3, 0.003, LABELS), strict=True)
    ]
    targets = logits + rng.logistic(size=logits.shape) > np.array(cuts)
    return matrix.astype(np.float32), targets.astype(np.float32)


def _timed(matrix: Floats, targets: Floats) -> tuple[linear.Linear, float]:
    started = time.perf_counter()
    fitted = linear.fit(matrix, targets, Task.MULTI_LABEL, FeaturesConfig(), print)
    return fitted, time.perf_counter() - started


def _timed_separately(matrix: Floats, targets: Floats) -> tuple[linear.Linear, float]:
    """Fit one label at a time, which `linear.fit` leaves to scikit-learn."""
    started = time.perf_counter()
    parts = [
        linear.fit(matrix, targets[:, i : i + 1], Task.MULTI_LABEL, FeaturesConfig(), print)
        for i in range(targets.shape[1])
    ]
    seconds = time.perf_counter() - started
    weights, bias = np.hstack([part.weights for part in parts]), np.concatenate([part.bias for part in parts])
    return linear.Linear(weights, bias), seconds


if __name__ == "__main__":
    main()
