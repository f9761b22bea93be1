"""Texts as weighted counts of n-grams (tf-idf), as scikit-learn's `TfidfVectorizer` weighs them; numpy alone.

A term is 1 to n words joined by a blank (a word is letters and digits; any other visible character, such as `!` or an
emoji, is a word of its own), or 1 to n characters within a run of what is not blank, with a blank before and after it.
A text has tf · idf of each term that the vocabulary knows, scaled to length 1: tf is the term's count or 1 + ln(count),
and idf is ln((1 + texts) / (1 + texts with the term)) + 1.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

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
