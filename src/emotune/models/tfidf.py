"""TF-IDF of word and character n-grams with one logistic regression per label. numpy alone runs a fitted model.

tfidf.json          the settings
vocabulary.json     the terms of words and of characters, in the order of the rows of the weights
model.safetensors   idf.word and idf.char (terms,), weights (terms, labels), bias (labels,)
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from emotune.artifact.safety.directory import VOCABULARY, WEIGHTS
from emotune.artifact.safety.files import read_arrays, read_json, read_vocabulary, validated
from emotune.atomic import write_json
from emotune.config.kinds import FitData
from emotune.config.settings import TfidfConfig
from emotune.errors import ConfigError, ModelError, Place
from emotune.models import linear
from emotune.models.linear import Linear, write_arrays

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Unit = Literal["word", "char"]
WORD = r"\w+|[^\w\s]"
SETTINGS = "tfidf.json"
_WORD = re.compile(WORD)
_MAX_TERMS = 1_000_000  # `read_vocabulary` still reads that many


@dataclass(frozen=True)
class Terms:
    """The n-grams of a text: of words or of characters, from `shortest` to `longest`."""

    unit: Unit
    shortest: int
    longest: int
    lowercase: bool

    def of(self, text: str) -> list[str]:
        """Return the terms of a text, repeated ones too."""
        text = text.lower() if self.lowercase else text
        if self.unit == "word":
            words = _WORD.findall(text)
            return [
                " ".join(words[i : i + n])
                for n in range(self.shortest, self.longest + 1)
                for i in range(len(words) - n + 1)
            ]
        found = []
        for word in text.split():
            run = f" {word} "
            # a run that is shorter than the shortest term is one term itself
            longest = max(self.shortest, min(self.longest, len(run)))
            for n in range(self.shortest, longest + 1):
                found += [run[i : i + n] for i in range(max(1, len(run) - n + 1))]
        return found


@dataclass(frozen=True)
class Weighting:
    """TF-IDF weights of terms: `vocabulary` in the order of the columns, `idf` of each column."""

    terms: Terms
    vocabulary: tuple[str, ...]
    idf: Doubles
    sublinear: bool
    _columns: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_columns", {term: column for column, term in enumerate(self.vocabulary)})

    def __len__(self) -> int:
        return len(self.vocabulary)

    def row(self, text: str) -> tuple[Ints, Doubles]:
        """Return the columns of the text's known terms, ascending, and their weights; shape (terms,) each."""
        known = [column for term in self.terms.of(text) if (column := self._columns.get(term)) is not None]
        columns, counts = np.unique(np.array(known, dtype=np.int64), return_counts=True)
        weights = ((1.0 + np.log(counts)) if self.sublinear else counts) * self.idf[columns]
        length = np.sqrt(weights @ weights)
        return columns, weights / length if length else weights


def weighting(texts: Sequence[str], terms: Terms, *, min_df: int, most: int | None, sublinear: bool) -> Weighting:
    """Return the TF-IDF weights of the terms that occur in at least `min_df` texts.

    most: the maximum number of terms. Those in the most texts are kept, the alphabetically first of equals.
    """
    texts_with: Counter[str] = Counter()
    for text in texts:
        texts_with.update(set(terms.of(text)))
    kept = [term for term, count in texts_with.items() if count >= min_df]
    if most is not None and len(kept) > most:
        kept = sorted(kept, key=lambda term: (-texts_with[term], term))[:most]
    vocabulary = tuple(sorted(kept))
    counts = np.array([texts_with[term] for term in vocabulary], dtype=np.float64)
    return Weighting(terms, vocabulary, np.log((1 + len(texts)) / (1 + counts)) + 1, sublinear)


class TfidfModel:
    """TF-IDF features times weights. Each text is scored by itself."""

    def __init__(self, config: TfidfConfig, weightings: Sequence[Weighting], linear: Linear) -> None:
        self._config, self._weightings, self._linear = config, weightings, linear

    def logits(self, texts: Sequence[str], batch_size: int) -> Floats:  # noqa: ARG002 -- each text by itself
        """Return logits of shape (texts, labels)."""
        found = np.zeros((len(texts), len(self._linear.bias)), dtype=np.float32)
        for i, text in enumerate(texts):
            rows, values = _features(text, self._weightings)
            found[i] = values @ self._linear.weights[rows] + self._linear.bias
        return found

    def divide_logits(self, temperatures: Doubles) -> None:
        """Divide the logits by one temperature per label, shape (labels,), from now on."""
        self._linear.divide(temperatures)

    def save(self, directory: Path) -> None:
        """Write settings, vocabulary and weights."""
        write_json(directory / SETTINGS, self._config.model_dump(mode="json"))
        write_json(directory / VOCABULARY, {w.terms.unit: list(w.vocabulary) for w in self._weightings})
        idf = {f"idf.{w.terms.unit}": w.idf for w in self._weightings}
        write_arrays(directory / WEIGHTS, idf | self._linear.tensors())


def _features(text: str, weightings: Sequence[Weighting]) -> tuple[Ints, Doubles]:
    """Return the rows of the weights that a text uses, ascending, and its values there; shape (terms,) each."""
    rows, values, start = [], [], 0
    for each in weightings:
        columns, weights = each.row(text)
        rows.append(columns + start)
        values.append(weights)
        start += len(each)
    return np.concatenate(rows), np.concatenate(values)


def _terms(config: TfidfConfig) -> list[Terms]:
    """Return the n-grams that are counted, in the order of the rows of the weights."""
    ranges: dict[Unit, list[int] | None] = {"word": config.word_ngrams, "char": config.char_ngrams}
    return [Terms(unit, found[0], found[1], config.lowercase) for unit, found in ranges.items() if found is not None]


def fit(data: FitData, config: TfidfConfig) -> TfidfModel:
    """Count n-grams and fit logistic regression; raises ConfigError for no terms or too many."""
    from scipy.sparse import csr_matrix

    weightings = [
        weighting(data.texts, terms, min_df=config.min_df, most=config.max_features, sublinear=config.sublinear_tf)
        for terms in _terms(config)
    ]
    size = sum(map(len, weightings))
    if not size:
        message = f"no n-gram occurs in {config.min_df} training texts or more (model.min_df)"
        raise ConfigError(message, hint="Lower it: --set model.min_df=1")
    if size > _MAX_TERMS:
        message = f"{size:,} n-grams occur in {config.min_df} training texts or more; the maximum is {_MAX_TERMS:,}"
        raise ConfigError(message, hint="Keep the most frequent: --set model.max_features=100000")
    counted = " and ".join(f"{len(w):,} {w.terms.unit}" for w in weightings)
    data.info(f"{counted} n-grams; fitting {len(data.labels)} labels to {len(data.texts):,} texts")
    # int32 indices, as scipy uses them: of many texts they take most of the memory
    rows = [(columns.astype(np.int32), values) for columns, values in (_features(t, weightings) for t in data.texts)]
    ends = np.cumsum([0, *(len(columns) for columns, _ in rows)])
    columns, values = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    matrix = csr_matrix((values, columns, ends), shape=(len(rows), size))
    return TfidfModel(config, weightings, linear.fit(matrix, data.targets, data.labels.task, config, data.info))


def load(directory: Path, device: str) -> TfidfModel:  # noqa: ARG001 -- it runs on the CPU alone
    """Read what `save` wrote; raises ModelError for files that are invalid or do not fit each other."""
    config = validated(TfidfConfig, read_json(directory / SETTINGS), Place(directory / SETTINGS))
    found = read_vocabulary(directory / VOCABULARY)
    vocabularies: dict[Terms, tuple[str, ...]] = {}
    for terms in _terms(config):
        words = found.get(terms.unit)
        if not isinstance(words, list) or not all(isinstance(term, str) for term in words):
            raise ModelError(f"it has no list of terms {terms.unit!r}", place=Place(directory / VOCABULARY))
        if len(set(words)) < len(words):
            raise ModelError(f"a term occurs twice in {terms.unit!r}", place=Place(directory / VOCABULARY))
        vocabularies[terms] = tuple(words)
    idf: dict[str, tuple[int | None, ...]] = {f"idf.{t.unit}": (len(words),) for t, words in vocabularies.items()}
    size = sum(map(len, vocabularies.values()))
    arrays = read_arrays(directory / WEIGHTS, idf | Linear.shapes(size))
    weightings = [
        Weighting(terms, words, arrays[f"idf.{terms.unit}"].astype(np.float64), config.sublinear_tf)
        for terms, words in vocabularies.items()
    ]
    return TfidfModel(config, weightings, Linear.of(arrays, Place(directory / WEIGHTS)))
