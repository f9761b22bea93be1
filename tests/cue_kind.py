"""A kind of model that is fitted by one call, without a library: for each label, how often its texts contain a word."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from emotune.artifact.safety.files import read_json
from emotune.atomic import write_json
from emotune.config.kinds import FitData, FittedKind
from emotune.config.settings import KindConfig

NAME = "cues"


class CueConfig(KindConfig):
    kind: Literal["cues"] = "cues"


class Cues:
    def __init__(self, weights: dict[str, list[float]], num_labels: int) -> None:
        self.weights, self.num_labels = weights, num_labels

    def logits(self, texts: Sequence[str], batch_size: int) -> npt.NDArray[np.float32]:
        rows = [[self.weights[word] for word in text.split() if word in self.weights] for text in texts]
        return np.array([np.sum(row, axis=0) if row else np.zeros(self.num_labels) for row in rows], dtype=np.float32)

    def divide_logits(self, temperatures: npt.NDArray[np.float64]) -> None:
        self.weights = {word: (np.array(each) / temperatures).tolist() for word, each in self.weights.items()}

    def save(self, directory: Path) -> None:
        write_json(directory / "cues.json", {"weights": self.weights, "num_labels": self.num_labels})


def fit(data: FitData, config: CueConfig) -> Cues:
    words = sorted({word for text in data.texts for word in text.split()})
    share = data.targets.mean(axis=0)
    weights = {}
    for word in words:
        of_word = data.targets[[word in text.split() for text in data.texts]]
        weights[word] = (np.log((of_word.sum(axis=0) + 1) / (len(of_word) + 2)) - np.log(share + 0.01)).tolist()
    return Cues(weights, data.targets.shape[1])


def load(directory: Path, device: str) -> Cues:
    content = read_json(directory / "cues.json")
    return Cues(content["weights"], content["num_labels"])


KIND = FittedKind(
    name=NAME,
    about="words that a label's texts hold",
    settings_class="CueConfig",
    portability="emotune",
    module="cue_kind",
)
