"""How much thresholds depend on the rows that they were chosen on."""

import numpy as np
import numpy.typing as npt

from emotune.scoring.metrics import Bools, Floats
from emotune.scoring.thresholds import Method, choose


def fold_thresholds(probabilities: Floats, targets: Bools, method: Method, folds: npt.NDArray[np.int64]) -> Floats:
    """The thresholds that a method chooses without each fold in turn: those by which that fold is decided out of fold.

    probabilities, targets: (n, labels); folds: (n,). Shape (folds, labels).
    """
    rest = [folds != fold for fold in np.unique(folds)]
    chosen = [choose(probabilities[others], targets[others], method, folds[others]) for others in rest]
    return np.array(chosen).reshape(len(chosen), targets.shape[1])
