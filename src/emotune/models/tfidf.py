"""Word and character n-grams with one logistic regression per label; scikit-learn fits it, numpy alone runs it.

tfidf.json          the settings
vocabulary.json     the terms of words and of characters, in the order of the rows of the weights
model.safetensors   idf.word and idf.char (terms,), weights (terms, labels), bias (labels,)
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from emotune.artifact.safety.directory import VOCABULARY, WEIGHTS
from emotune.artifact.safety.json_files import read_object, read_vocabulary, validated
from emotune.config.kinds import FitData, FittedKind
from emotune.config.schema import Number
from emotune.errors import ConfigError, ModelError, Place
from emotune.models.linear import Linear, LogisticConfig, fit, read_arrays, write_arrays, write_json

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Unit = Literal["word", "char"]
WORD = r"\w+|[^\w\s]"
_WORD = re.compile(WORD)


@dataclass(frozen=True)
class Terms:
    """What the terms of a text are: of which unit, from how many of them to how many, and whether capitals count."""

    unit: Unit
    shortest: int
    longest: int
    lowercase: bool

    def of(self, text: str) -> list[str]:
        """The terms of a text, each as often as it stands there."""
        text = text.lower() if self.lowercase else text
        if self.unit == "word":
            words = _WORD.findall(text)
            return [
                " ".join(words[i : i + n])
                for n in range(self.shortest, self.longest + 1)
                for i in range(len(words) - n + 1)
            ]
        return [term for run in text.split() for term in self._within(f" {run} ")]

    def _within(self, run: str) -> list[str]:
        # a run that is shorter than a term is that term, once
        longest = max(self.shortest, min(self.longest, len(run)))
        return [run[i : i + n] for n in range(self.shortest, longest + 1) for i in range(max(1, len(run) - n + 1))]


@dataclass(frozen=True)
class Weighing:
    """How the terms of a vocabulary are weighed: `vocabulary` in the order of the columns, `idf` of each of them."""

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
        """The columns of the terms that a text has, ascending, and their weights; shape (terms,) each."""
        known = [column for term in self.terms.of(text) if (column := self._columns.get(term)) is not None]
        columns, counts = np.unique(np.array(known, dtype=np.int64), return_counts=True)
        weights = ((1.0 + np.log(counts)) if self.sublinear else counts) * self.idf[columns]
        length = np.sqrt(weights @ weights)
        return columns, weights / length if length else weights


def weigh(texts: Sequence[str], terms: Terms, *, min_df: int, most: int | None, sublinear: bool) -> Weighing:
    """The weighing of the terms that stand in at least `min_df` of the texts, and of no more than the `most` frequent.

    Frequent are those in many texts, the first in the alphabet among equals.
    """
    texts_with: Counter[str] = Counter()
    for text in texts:
        texts_with.update(set(terms.of(text)))
    kept = [term for term, count in texts_with.items() if count >= min_df]
    if most is not None and len(kept) > most:
        kept = sorted(kept, key=lambda term: (-texts_with[term], term))[:most]
    vocabulary = tuple(sorted(kept))
    counts = np.array([texts_with[term] for term in vocabulary], dtype=np.float64)
    return Weighing(terms, vocabulary, np.log((1 + len(texts)) / (1 + counts)) + 1, sublinear)


Floats = npt.NDArray[np.float32]
SETTINGS = "tfidf.json"
_MOST_TERMS = 1_000_000  # whose vocabulary is a file that is still read
_UNITS: tuple[Unit, ...] = ("word", "char")
_Range = list[Annotated[int, Field(ge=1, le=10)]]


class TfidfConfig(LogisticConfig):
    """Word and character n-grams with logistic regression."""

    kind: Literal["tfidf"] = "tfidf"
    word_ngrams: _Range | None = Field(default=[1, 2], description="fewest and most words of a term; null: no words")
    char_ngrams: _Range | None = Field(
        default=[3, 4], description="fewest and most characters of a term, which lies within a word; null: none"
    )
    min_df: int = Field(default=2, ge=1, description="a term stands in as many training texts, or is left out")
    max_features: int | None = Field(
        default=30_000, ge=1, le=500_000, description="most terms of words, and as many of characters; null: all"
    )
    sublinear_tf: bool = Field(default=True, description="a term that stands there n times counts 1 + ln n, not n")
    lowercase: bool = True
    C: Number = Field(default=2.0, gt=0, description=str(LogisticConfig.model_fields["C"].description))

    @field_validator("word_ngrams", "char_ngrams")
    @classmethod
    def _is_range(cls, found: list[int] | None) -> list[int] | None:
        if found is not None and (len(found) != 2 or found[0] > found[1]):
            raise ValueError("needs two numbers, the smaller one first")
        return found

    @model_validator(mode="after")
    def _has_terms(self) -> "TfidfConfig":
        if self.word_ngrams is None and self.char_ngrams is None:
            raise ValueError("needs word_ngrams or char_ngrams")
        return self

    def terms(self) -> list[Terms]:
        """What is counted, in the order of the rows of the weights."""
        ranges = zip(_UNITS, (self.word_ngrams, self.char_ngrams), strict=True)
        return [Terms(unit, found[0], found[1], self.lowercase) for unit, found in ranges if found is not None]


class TfidfModel:
    """Weighted terms times weights: each text by itself."""

    def __init__(self, config: TfidfConfig, weighings: Sequence[Weighing], linear: Linear) -> None:
        self._config, self._weighings, self._linear = config, weighings, linear

    def logits(self, texts: Sequence[str], batch_size: int) -> Floats:  # noqa: ARG002 -- each text by itself
        """Logits of shape (texts, labels)."""
        found = np.zeros((len(texts), len(self._linear.bias)), dtype=np.float32)
        for i, text in enumerate(texts):
            rows, values = features(text, self._weighings)
            found[i] = values @ self._linear.weights[rows] + self._linear.bias
        return found

    def divide_logits(self, temperatures: npt.NDArray[np.float64]) -> None:
        """Make the logits those divided by a temperature for each label, shape (labels,)."""
        self._linear.divide(temperatures)

    def save(self, directory: Path) -> None:
        """Write settings, vocabulary and weights."""
        write_json(directory / SETTINGS, self._config.model_dump(mode="json"))
        write_json(directory / VOCABULARY, {w.terms.unit: list(w.vocabulary) for w in self._weighings})
        idf = {_idf(w.terms): w.idf for w in self._weighings}
        write_arrays(directory / WEIGHTS, idf | self._linear.tensors())


def features(text: str, weighings: Sequence[Weighing]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The rows of the weights that a text has a part in, ascending, and the part; shape (terms,) each."""
    rows, values, start = [], [], 0
    for weighing in weighings:
        columns, weights = weighing.row(text)
        rows.append(columns + start)
        values.append(weights)
        start += len(weighing)
    return np.concatenate(rows), np.concatenate(values)


def _idf(terms: Terms) -> str:
    return f"idf.{terms.unit}"


def _fit(lesson: FitData, config: TfidfConfig) -> TfidfModel:
    from scipy.sparse import csr_matrix

    weighings = [
        weigh(lesson.texts, terms, min_df=config.min_df, most=config.max_features, sublinear=config.sublinear_tf)
        for terms in config.terms()
    ]
    size = sum(map(len, weighings))
    if not size:
        message = f"no term stands in {config.min_df} training texts or more (model.min_df)"
        raise ConfigError(message, hint="Lower it: --set model.min_df=1")
    if size > _MOST_TERMS:
        message = f"{size:,} terms stand in {config.min_df} training texts or more; a model has up to {_MOST_TERMS:,}"
        raise ConfigError(message, hint="Choose the most frequent ones: --set model.max_features=100000")
    counted = " and ".join(f"{len(w):,} {w.terms.unit}" for w in weighings)
    lesson.info(f"{counted} n-grams; fitting {len(lesson.labels)} labels to {len(lesson.texts):,} texts")
    # in the smaller integers that scipy needs: of many texts, this is what memory is taken by
    rows = [(columns.astype(np.int32), values) for columns, values in (features(t, weighings) for t in lesson.texts)]
    ends = np.cumsum([0, *(len(columns) for columns, _ in rows)])
    columns, values = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    matrix = csr_matrix((values, columns, ends), shape=(len(rows), size))
    return TfidfModel(config, weighings, fit(matrix, lesson.targets, lesson.labels.task, config, lesson.info))


def _load(directory: Path, device: str) -> TfidfModel:  # noqa: ARG001 -- there is but one
    """Read what `save` wrote; raises ModelError for whatever does not fit."""
    config = validated(TfidfConfig, read_object(directory / SETTINGS), Place(directory / SETTINGS))
    found = read_vocabulary(directory / VOCABULARY)
    vocabularies = [_vocabulary(found, terms, Place(directory / VOCABULARY)) for terms in config.terms()]
    sizes: dict[str, tuple[int | None, ...]] = {
        _idf(terms): (len(vocabulary),) for terms, vocabulary in zip(config.terms(), vocabularies, strict=True)
    }
    total = sum(map(len, vocabularies))
    arrays = read_arrays(directory / WEIGHTS, sizes | Linear.shapes(total))
    linear = Linear.of(arrays, Place(directory / WEIGHTS))
    weighings = [
        Weighing(terms, vocabulary, arrays[_idf(terms)].astype(np.float64), config.sublinear_tf)
        for terms, vocabulary in zip(config.terms(), vocabularies, strict=True)
    ]
    return TfidfModel(config, weighings, linear)


def _vocabulary(content: dict[str, Any], terms: Terms, place: Place) -> tuple[str, ...]:
    found = content.get(terms.unit)
    if not isinstance(found, list) or not all(isinstance(term, str) for term in found):
        raise ModelError(f"it has no list of terms {terms.unit!r}", place=place)
    if len(set(found)) < len(found):
        raise ModelError(f"a term stands twice among those of {terms.unit!r}", place=place)
    return tuple(found)


KIND = FittedKind(
    name="tfidf",
    about="word and character n-grams with logistic regression",
    settings=TfidfConfig,
    portability="emotune",
    fit=_fit,
    load=_load,
)
