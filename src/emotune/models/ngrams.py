"""Hashed n-grams of words and characters with weights in int8: a linear model that numpy scores by the thousand.

ngrams.json         the settings
model.safetensors   word.keys and char.keys (terms,), sorted hashes; word.weights and char.weights (terms, labels);
                    scale and bias (labels,)

The logits of a text are bias + scale × (sum of the squares of the int8 of its terms, with their signs) / √(its words).
Squares keep small weights precise beside large ones, such as those of "hahahahaha". The terms of a text are its words,
its n-grams of words, and the n-grams of characters of those words that have no weights. The weights of a word include
those of its characters, which were added when the model was fitted. The logits of a text do not depend on other texts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.artifact.safety.directory import WEIGHTS
from emotune.artifact.safety.files import read_arrays, read_json, validated
from emotune.atomic import write_json
from emotune.config.kinds import FitData
from emotune.config.settings import NgramsConfig
from emotune.errors import ConfigError, ModelError, Place
from emotune.models import linear
from emotune.models.hashing import Hashes, Ints, Rows, Words, chunks, words_of
from emotune.models.linear import write_arrays

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Int8s = npt.NDArray[np.int8]
SETTINGS = "ngrams.json"
_MOST = 127  # the largest root of a weight, in int8


@dataclass(frozen=True)
class Terms:
    """The weights of terms: sorted hashes (terms,), and in int8 (terms, labels) the roots of weights, with signs."""

    keys: Hashes
    weights: Int8s

    def table(self) -> tuple[Rows, Floats]:
        """Return the rows of hashes, and the weights by row; row 0, of unknown terms, is zero."""
        table = np.zeros((len(self.keys) + 1, self.weights.shape[1]), dtype=np.float32)
        np.multiply(self.weights, np.abs(self.weights.astype(np.int16)), out=table[1:], dtype=np.float32)
        return Rows(self.keys), table


class NgramsModel:
    """Sums of the weights of terms."""

    def __init__(self, config: NgramsConfig, words: Terms, characters: Terms, scale: Floats, bias: Floats) -> None:
        self._config, self._terms, self._scale, self._bias = config, {"word": words, "char": characters}, scale, bias
        (self._words, self._word_weights), (self._characters, self._char_weights) = words.table(), characters.table()

    def logits(self, texts: Sequence[str], batch_size: int) -> Floats:  # noqa: ARG002 -- by the number of characters
        """Return logits of shape (texts, labels)."""
        found = [self._logits(words_of(part, self._config.lowercase)) for part in chunks(texts)]
        return np.concatenate([np.zeros((0, len(self._bias)), dtype=np.float32), *found])

    def _logits(self, words: Words) -> Floats:
        sums = np.zeros((len(words.number), len(self._bias)), dtype=np.float32)
        sizes = range(1, self._config.word_ngrams + 1)
        rows = np.stack([self._words.find(words.ngrams(size)) for size in sizes], axis=1)
        _add(sums, np.repeat(words.owner, len(sizes)), self._word_weights[rows.ravel()])
        unknown = np.flatnonzero(rows[:, 0] == 0)
        for hashes, owner in _characters(words, unknown, self._config):
            order = np.argsort(owner, kind="stable")
            found = self._characters.find(hashes[order])
            _add(sums, words.owner[unknown[owner[order]]], self._char_weights[found])
        length = np.sqrt(np.maximum(words.number, 1)).astype(np.float32)
        return sums / length[:, None] * self._scale + self._bias

    def divide_logits(self, temperatures: Doubles) -> None:
        """Divide the logits by one temperature per label, shape (labels,), from now on."""
        self._scale = (self._scale / temperatures).astype(np.float32)
        self._bias = (self._bias / temperatures).astype(np.float32)

    def save(self, directory: Path) -> None:
        """Write settings and weights."""
        write_json(directory / SETTINGS, self._config.model_dump(mode="json"))
        arrays: dict[str, npt.NDArray[Any]] = {"scale": self._scale, "bias": self._bias}
        for name, terms in self._terms.items():
            arrays |= {f"{name}.keys": terms.keys, f"{name}.weights": terms.weights}
        write_arrays(directory / WEIGHTS, arrays)


def _add(sums: Floats, at: Ints, weights: Floats) -> None:
    """Add weights, shape (n, labels), to the rows `at` of sums, in place; `at` is in ascending order, with repeats."""
    if len(at):
        starts = np.flatnonzero(np.diff(at, prepend=-1))
        sums[at[starts]] += np.add.reduceat(weights, starts, axis=0)


def _characters(words: Words, which: Ints, config: NgramsConfig) -> Iterator[tuple[Hashes, Ints]]:
    """Yield hashes of n-grams of characters in some words, and the position in `which` of each one's word, by size."""
    if config.char_ngrams is not None and len(which):
        for size in range(config.char_ngrams[0], config.char_ngrams[1] + 1):
            yield words.characters(which, size)


def fit(data: FitData, config: NgramsConfig) -> NgramsModel:
    """Count terms, fit logistic regression and round it to int8; raises ConfigError for no term that is common enough.

    Raises ImportError without scipy.
    """

    def parts() -> Iterator[Words]:
        return (words_of(part, config.lowercase) for part in chunks(data.texts))

    word_keys = _frequent(parts(), lambda words: _word_terms(words, config), config)
    char_keys = _frequent(parts(), lambda words: _char_terms(words, config), config)
    if not len(word_keys):
        message = f"no word occurs in {config.min_df} training texts or more (model.min_df)"
        raise ConfigError(message, hint="Lower it: --set model.min_df=1")
    data.info(
        f"{len(word_keys):,} words and n-grams of words, {len(char_keys):,} of characters; "
        f"fitting {len(data.labels)} labels to {len(data.texts):,} texts"
    )
    matrix = _matrix(parts(), Rows(word_keys), Rows(char_keys), (len(word_keys), len(char_keys)), config)
    fitted = linear.fit_together(matrix, data.targets, data.labels.task, config.C, config.iterations)
    words, characters = np.split(fitted.weights, [len(word_keys)])
    characters *= np.float32(config.char_weight)
    _add_characters(words, Rows(word_keys), characters, Rows(char_keys), parts(), config)
    largest = np.maximum(np.abs(words).max(axis=0), np.abs(characters).max(axis=0, initial=0))
    scale = (np.where(largest > 0, largest, 1) / _MOST**2).astype(np.float32)
    terms = [
        Terms(keys, np.rint(np.sign(weights) * np.sqrt(np.abs(weights) / scale)).astype(np.int8))
        for keys, weights in ((word_keys, words), (char_keys, characters))
    ]
    return NgramsModel(config, terms[0], terms[1], scale, fitted.bias)


_Found = Callable[[Words], tuple[Hashes, Ints]]


def _word_terms(words: Words, config: NgramsConfig) -> tuple[Hashes, Ints]:
    """Return the hashes of words and their n-grams, and the text of each, shape (terms,)."""
    sizes = range(1, config.word_ngrams + 1)
    return np.concatenate([words.ngrams(size) for size in sizes]), np.tile(words.owner, len(sizes))


def _char_terms(words: Words, config: NgramsConfig) -> tuple[Hashes, Ints]:
    """Return the hashes of all n-grams of characters, and the text of each, shape (terms,)."""
    found = list(_characters(words, np.arange(len(words.hashes)), config))
    hashes = [np.zeros(0, dtype=np.uint64), *(each for each, _ in found)]
    return np.concatenate(hashes), words.owner[np.concatenate([np.zeros(0, np.int64), *(owner for _, owner in found)])]


def _frequent(parts: Iterator[Words], terms: _Found, config: NgramsConfig) -> Hashes:
    """Return the sorted hashes of the terms in at least `min_df` texts; at most `max_features`, those in the most."""
    keys, counts = np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)
    for words in parts:
        hashes, owner = terms(words)
        order = np.lexsort((owner, hashes))
        hashes, owner = hashes[order], owner[order]
        new = np.ones(len(hashes), dtype=bool)
        new[1:] = (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1])
        found, number = np.unique(hashes[new], return_counts=True)
        keys, where = np.unique(np.concatenate([keys, found]), return_inverse=True)
        counts = np.bincount(where, np.concatenate([counts, number]), len(keys)).astype(np.int64)
    keys, counts = keys[counts >= config.min_df], counts[counts >= config.min_df]
    most = config.max_features
    return keys if most is None else np.sort(keys[np.lexsort((keys, -counts))[:most]])


def _matrix(parts: Iterator[Words], words: Rows, characters: Rows, sizes: tuple[int, int], config: NgramsConfig) -> Any:
    """Return the values of the terms of each text, a CSR matrix of shape (texts, words + characters)."""
    from scipy.sparse import csr_matrix, vstack

    found = []
    for part in parts:
        (hashes, owner), (chars, its) = _word_terms(part, config), _char_terms(part, config)
        rows, columns = words.find(hashes), characters.find(chars)
        values = np.concatenate(
            [np.ones(np.count_nonzero(rows)), np.full(np.count_nonzero(columns), config.char_weight)]
        )
        owner, its = owner[rows > 0], its[columns > 0]
        columns = np.concatenate([rows[rows > 0] - 1, columns[columns > 0] - 1 + sizes[0]])
        owners = np.concatenate([owner, its])
        values /= np.sqrt(part.number[owners])
        shape = (len(part.number), sum(sizes))
        found.append(csr_matrix((values.astype(np.float32), (owners, columns)), shape=shape))
    return vstack(found, format="csr")


def _add_characters(
    words: Floats, word_rows: Rows, characters: Floats, char_rows: Rows, parts: Iterator[Words], config: NgramsConfig
) -> None:
    """Add to the weights of each word, in place, those of the n-grams of its characters."""
    done = np.zeros(len(words) + 1, dtype=bool)
    done[0] = True
    for part in parts:
        rows, first = np.unique(word_rows.find(part.hashes), return_index=True)
        new = ~done[rows]
        rows, first = rows[new], first[new]
        done[rows] = True
        for hashes, owner in _characters(part, first, config):
            order = np.argsort(owner, kind="stable")
            columns, places = char_rows.find(hashes[order]), rows[owner[order]] - 1
            _add(words, places[columns > 0], characters[columns[columns > 0] - 1])


def load(directory: Path, device: str) -> NgramsModel:  # noqa: ARG001 -- it runs on the CPU alone
    """Read what `save` wrote; raises ModelError for files that are invalid or do not fit each other."""
    config = validated(NgramsConfig, read_json(directory / SETTINGS), Place(directory / SETTINGS))
    place = Place(directory / WEIGHTS)
    shapes: dict[str, tuple[int | None, ...]] = {"scale": (None,), "bias": (None,)}
    shapes |= {f"{name}.{part}": (None,) * n for name in ("word", "char") for part, n in (("keys", 1), ("weights", 2))}
    types = {f"{name}.keys": ("U64",) for name in ("word", "char")}
    types |= {f"{name}.weights": ("I8",) for name in ("word", "char")}
    arrays = read_arrays(directory / WEIGHTS, shapes, types)
    with np.errstate(over="ignore"):
        scale, bias = (arrays[name].astype(np.float32) for name in ("scale", "bias"))
    terms = []
    for name in ("word", "char"):
        keys, weights = arrays[f"{name}.keys"], arrays[f"{name}.weights"]
        if weights.shape != (len(keys), len(bias)) or scale.shape != bias.shape:
            found = f"{len(keys):,} {name}.keys, {name}.weights of shape {list(weights.shape)}"
            raise ModelError(f"{found}, {len(scale)} scales and a bias of {len(bias)}", place=place)
        if (keys[1:] <= keys[:-1]).any():
            raise ModelError(f"{name}.keys are not sorted, or one occurs twice", place=place)
        terms.append(Terms(keys, weights))
    if not (np.isfinite(scale).all() and np.isfinite(bias).all()):
        raise ModelError("a scale or bias is too large for 32 bits", place=place)
    return NgramsModel(config, terms[0], terms[1], scale, bias)
