"""The columns that a prediction adds to a table: `labels`, and the scores of all labels or of the k highest.

In delimited files and in Arrow tables every score has a column of its own. A row of JSON lines gets the keys `labels`
(a list) and `scores` (an object), as `emotune predict --json` writes them.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from emotune.errors import DataError, Place, UsageError
from emotune.inference.classifier import Scores
from emotune.labels import LabelSet

ALL, NONE, JSON = "all", "none", "json"
DEFAULT_SEPARATOR = ";"
_DIGITS = 8  # bytes of a score: 0.123456
_MILLION = 1_000_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet computes a cell that begins so
_T = TypeVar("_T")


@dataclass(frozen=True)
class OutputColumns:
    """The columns of predictions of these labels.

    scores: `all`, `none`, or the number of the highest scores. prefix: the beginning of all their names. separator:
    what joins the labels in a cell; `json` for a JSON list.
    """

    labels: LabelSet
    scores: str | int = ALL
    prefix: str = ""
    separator: str = DEFAULT_SEPARATOR

    def __post_init__(self) -> None:
        if self.scores not in (ALL, NONE) and not (type(self.scores) is int and self.scores >= 1):
            raise UsageError(f"scores is 'all', 'none' or a number from 1 on, not {self.scores!r}")
        if not self.separator or not self.separator.isprintable() or '"' in self.separator:
            raise UsageError(f"the separator is printable characters without quotation marks, not {self.separator!r}")
        inside = next((name for name in self.labels.names if self.separator in name), None)
        if inside is not None and self.separator != JSON:
            message = f"the label {inside!r} contains the separator {self.separator!r}"
            raise UsageError(message, hint="Choose another: --separator '|', or --separator json for a JSON list.")
        twice = {name for name in self.names if self.names.count(name) > 1}
        if twice:
            message = f"a label of this model is called {min(twice)!r}, like another column of the output"
            raise UsageError(message, hint="Leave the scores out: --scores none, or write JSON lines: --format jsonl")

    @property
    def k(self) -> int:
        """The number of highest scores; 0 for all or none."""
        return min(self.scores, len(self.labels)) if isinstance(self.scores, int) else 0

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that a delimited file or an Arrow table gets, in order."""
        ranks = [name for i in range(1, self.k + 1) for name in (f"top{i}_label", f"top{i}_score")]
        scores = self.labels.names if self.scores == ALL else ranks
        return tuple(self.prefix + name for name in ("labels", *scores))

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that a row of JSON lines gets, in order."""
        return tuple(self.prefix + name for name in (("labels",) if self.scores == NONE else ("labels", "scores")))

    def require_free(self, columns: Iterable[str], place: Place | None = None, *, keys: bool = False) -> None:
        """Raise DataError when the input has a column of such a name. keys: the output is JSON lines."""
        taken = [name for name in (self.keys if keys else self.names) if name in set(columns)]
        if taken:
            listed = ", ".join(map(repr, taken[:5])) + (", …" if len(taken) > 5 else "")
            message = f"the input already has {'columns' if len(taken) > 1 else 'a column'} named {listed}"
            raise DataError(message, place=place, hint="Give the new columns a prefix: --prefix predicted_")

    def arrays(self, scores: Scores, *, joined: bool = False) -> dict[str, Any]:
        """Return the columns of an Arrow table or a data frame by name, in the order of `names`.

        The labels of a row are a list, the most probable first, or one text when `joined`. Scores are float32, shape
        (texts,), NaN for blank texts; the labels of the highest scores are None for these.
        """
        cell = self._cell if joined else self._listed
        values: list[Any] = [label_cells(scores, lambda found: cell(found))]
        if self.scores == ALL:
            values += list(scores.probabilities.astype(np.float32).T)
        elif self.k:
            order, highest = self._highest(scores)
            names = np.array([*self.labels.names, None], dtype=object)
            order = np.where((scores.windows == 0)[:, None], len(self.labels), order)
            for rank in range(self.k):
                values += [names[order[:, rank]].tolist(), highest[:, rank].astype(np.float32)]
        return dict(zip(self.names, values, strict=True))

    def cells(self, scores: Scores, delimiter: str, *, quoted: bool = True, safe: bool = False) -> list[bytes]:
        """Return the end of each row of a delimited file: a delimiter before each cell, no line break, in UTF-8.

        Scores have six decimals; those of blank texts are empty. quoted: cells with a delimiter or a quotation mark in
        them are quoted. safe: a label that a spreadsheet would compute begins with an apostrophe.
        """

        def shown(text: str) -> bytes:
            text = spreadsheet_safe(text) if safe else text
            if quoted and (delimiter in text or '"' in text):
                text = '"' + text.replace('"', '""') + '"'
            return (delimiter + text).encode()

        labels = label_cells(scores, lambda found: shown(self._cell(found)))
        by = delimiter.encode()
        if self.scores == ALL:
            numbers = _filled([by] * len(self.labels), scores.probabilities)
            return _joined(labels, numbers, scores, by * len(self.labels))
        if not self.k:
            return labels
        order, highest = self._highest(scores)
        names = [shown(name) for name in self.labels.names]
        rows = zip(order.tolist(), _filled([by] * self.k, highest), strict=True)
        size = len(by) + _DIGITS
        ends = [b"".join(names[j] + end[i * size : (i + 1) * size] for i, j in enumerate(row)) for row, end in rows]
        return _joined(labels, ends, scores, 2 * by * self.k)

    def members(self, scores: Scores) -> list[bytes]:
        """Return the end of each row of JSON lines: `, "labels": [...], "scores": {...}`, without the last brace.

        The scores of a blank text are null.
        """

        def text(value: Any) -> bytes:
            return json.dumps(value, ensure_ascii=False).encode()

        keys = [b", %b: " % text(key) for key in self.keys]
        labels = label_cells(scores, lambda found: keys[0] + text(self._listed(found)))
        if self.scores == NONE:
            return labels
        names = [b"%b: " % text(name) for name in self.labels.names]
        blank = b"%bnull" % keys[1]
        if self.scores == ALL:
            before = [keys[1] + b"{" + names[0], *(b", " + name for name in names[1:])]
            return _joined(labels, _filled(before, scores.probabilities, b"}"), scores, blank)
        order, highest = self._highest(scores)
        ends = [
            keys[1] + b"{%b}" % b", ".join(names[j] + end[_DIGITS * i : _DIGITS * (i + 1)] for i, j in enumerate(row))
            for row, end in zip(order.tolist(), _filled([b""] * self.k, highest), strict=True)
        ]
        return _joined(labels, ends, scores, blank)

    def _listed(self, found: Sequence[int]) -> list[str]:
        return [self.labels.names[j] for j in found]

    def _cell(self, found: Sequence[int]) -> str:
        names = self._listed(found)
        return json.dumps(names, ensure_ascii=False) if self.separator == JSON else self.separator.join(names)

    def _highest(self, scores: Scores) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return the positions of the k highest scores, the highest first, and these scores; shape (texts, k) each."""
        order = np.argsort(-scores.probabilities, axis=1, kind="stable")[:, : self.k]
        return order, np.take_along_axis(scores.probabilities, order, axis=1)


def label_cells(scores: Scores, cell: Callable[[Sequence[int]], _T]) -> list[_T]:
    """Return what `cell` makes of the predicted labels of each row: their positions, the most probable first."""
    counts = scores.predicted.sum(axis=1)
    single = [cell([j]) for j in range(len(scores.labels))]
    found = [single[j] for j in scores.predicted.argmax(axis=1).tolist()]
    rows = np.flatnonzero(counts != 1)
    ranked = np.argsort(-np.where(scores.predicted[rows], scores.probabilities[rows], -1.0), axis=1, kind="stable")
    known: dict[tuple[int, ...], _T] = {}
    for i, count, order in zip(rows.tolist(), counts[rows].tolist(), ranked, strict=True):
        labels = tuple(order[:count].tolist())
        if labels not in known:
            known[labels] = cell(labels)
        found[i] = known[labels]
    return found


def spreadsheet_safe(cell: str) -> str:
    """Return a cell that no spreadsheet computes: one that looks like a formula begins with an apostrophe."""
    return "'" + cell if cell.startswith(_FORMULA) else cell


def parse_scores(text: str) -> str | int:
    """Read `all`, `none` or `top-3`; raises UsageError for anything else."""
    number = text.removeprefix("top-")
    if text in (ALL, NONE):
        return text
    if number != text and number.isascii() and number.isdecimal() and int(number):
        return int(number)
    raise UsageError(f"--scores is all, none or top-K such as top-3, not {text!r}")


@lru_cache(maxsize=1)
def _millionths() -> npt.NDArray[np.uint64]:
    """Return the eight bytes of 0.000000, 0.000001, … 1.000000, each as one number, shape (1,000,001,)."""
    thousand = np.arange(1000)
    digits = np.stack([thousand // 100, thousand // 10 % 10, thousand % 10], axis=1).astype(np.uint8) + ord("0")
    found = np.empty((_MILLION + 1, _DIGITS), np.uint8)
    found[:, 0], found[:, 1] = ord("0"), ord(".")
    found[:-1, 2:5] = np.repeat(digits, 1000, axis=0)
    found[:-1, 5:] = np.tile(digits, (1000, 1))
    found[-1] = np.frombuffer(b"1.000000", np.uint8)
    return found.view(np.uint64)[:, 0]


def _filled(before: Sequence[bytes], values: npt.NDArray[np.float64], after: bytes = b"") -> list[bytes]:
    """Return the numbers of each row with six decimals, each after its text in `before`. NaN becomes any number."""
    numbers = np.rint(np.nan_to_num(values) * _MILLION).astype(np.int64)
    texts = np.ascontiguousarray(_millionths()[numbers]).view(np.uint8).reshape(len(values), _DIGITS * len(before))
    template = b"".join(text + bytes(_DIGITS) for text in before) + after
    rows = np.tile(np.frombuffer(template, np.uint8), (len(values), 1))
    at = 0
    for column, text in enumerate(before):
        at += len(text)
        rows[:, at : at + _DIGITS] = texts[:, column * _DIGITS : (column + 1) * _DIGITS]
        at += _DIGITS
    flat, size = rows.tobytes(), len(template)
    return [flat[i : i + size] for i in range(0, len(flat), size)] if size else [b""] * len(values)


def _joined(labels: Sequence[bytes], ends: Sequence[bytes], scores: Scores, blank: bytes) -> list[bytes]:
    """Return labels and scores of each row in one; a blank text gets `blank` as its scores."""
    found = [label + end for label, end in zip(labels, ends, strict=True)]
    for i in np.flatnonzero(scores.windows == 0).tolist():
        found[i] = labels[i] + blank
    return found
