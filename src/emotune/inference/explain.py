"""Explanations by occlusion: each word is removed from the text, and the change of a probability is its contribution.

The method is that of Li et al. 2016 (https://arxiv.org/abs/1612.08220), for all labels at once. It needs only the
logits of texts, so it works for a model of any kind.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from emotune.data import emoji
from emotune.decision import Decision
from emotune.display import FrameData, Shown, ShownList, Table

Floats = npt.NDArray[np.float64]
DEFAULT_MAX_PASSES = 128
NOTICEABLE = 0.02  # a smaller contribution is not shown
_TINY = 1e-9  # probabilities are clipped to it before their logarithm
_EMOJI = "[\U0001f000-\U0001faff\u2190-\u21ff\u2300-\u23ff\u2600-\u27bf\u2b00-\u2bff]"
_ATTACHED = "[\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]"  # variants, keycaps, skin tones, tags
_SHOWN_WORDS = 5  # of each label in a notebook
_SILENT = (".", ",")  # they say little about emotions, and each would take a pass


@cache
def _word() -> re.Pattern[str]:
    """Return the pattern of a word."""
    emoticons = "|".join(map(re.escape, emoji.emoticons()))
    return re.compile(
        "[\U0001f1e6-\U0001f1ff]{2}"  # a flag
        rf"|{_EMOJI}{_ATTACHED}*(?:\u200d{_EMOJI}{_ATTACHED}*)*"  # an emoji, with those that are joined to it
        rf"|(?<!\w)(?:{emoticons})(?!\w)"
        r"|\w+(?:['’\-]\w+)*"  # a word, such as don't
        r"|\[\w+\]"  # a placeholder, such as [NAME]
        rf"|(?:(?!{_EMOJI}|\[\w+\])[^\w\s])+"  # punctuation
    )


@dataclass(frozen=True)
class Word:
    """A word, an emoji or a run of punctuation: `text[start:end]`. In a long text, several words in a row.

    A single full stop or comma is no word.
    """

    word: str
    start: int
    end: int


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Shown):
    """The predicted labels and scores of a text, and what each of its words contributes to each score.

    contributions: shape (words, labels), the columns in the order of `scores`: the probability of the label minus that
    without the word. Above 0, the word speaks for the label. A blank text has no words and no scores. windows, unread,
    foreign: as in `Prediction`.
    """

    text: str
    labels: tuple[str, ...]
    scores: dict[str, float]
    words: tuple[Word, ...]
    contributions: Floats
    windows: int = 1
    unread: int = 0
    foreign: bool = False

    @property
    def blank(self) -> bool:
        """Whether the text is empty, or has only blanks and invisible characters."""
        return self.windows == 0

    def of(self, label: str) -> Floats:
        """Return the contributions to a label, shape (words,); raises KeyError for an unknown label."""
        names = list(self.scores)
        if label not in names:
            raise KeyError(label)
        return np.asarray(self.contributions[:, names.index(label)])

    def top(self, label: str, k: int | None = None) -> list[tuple[Word, float]]:
        """Return the k words that contribute most to a label, in either direction, with their contributions."""
        values = self.of(label)
        order = np.argsort(-np.abs(values), kind="stable")[:k]
        return [(self.words[i], float(values[i])) for i in order]

    def shown_labels(self, wanted: Sequence[str] = ()) -> list[str]:
        """Return the wanted labels; without any, those predicted, or else the most probable one."""
        if not self.scores:
            return []
        return list(wanted) or list(self.labels) or [max(self.scores, key=lambda name: self.scores[name])]

    def words_of(self, label: str, k: int) -> str:
        """Return the k words that contribute most to a label, as `scared +0.72, lovely -0.24`."""
        words = [f"{word.word} {value:+.2f}" for word, value in self.top(label, k) if abs(value) >= NOTICEABLE]
        return ", ".join(words) or "no word changes it by itself"

    def __repr__(self) -> str:
        labels = (f"{name} {self.scores[name]:.2f} ({self.words_of(name, 3)})" for name in self.shown_labels())
        return f"<Explanation {', '.join(labels) or 'blank text'}: {self.text!r}>"

    def _lines(self) -> Iterator[str]:
        yield self.text

    def _tables(self) -> Iterator[tuple[str, Table]]:
        yield "", Table(("label", "score", "words that contribute most"), tuple(self._cells()))

    def _cells(self) -> list[tuple[str, str, str]]:
        return [(name, f"{self.scores[name]:.3f}", self.words_of(name, _SHOWN_WORDS)) for name in self.shown_labels()]

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {"text": self.text, "word": word.word, "start": word.start, "end": word.end}
            | dict(zip(self.scores, map(float, row), strict=True))
            for word, row in zip(self.words, self.contributions, strict=True)
        ]

    def _data(self) -> FrameData:
        """Return a row for each word: the text, the word with its place, and its contribution to each label."""
        return self._rows()

    def to_json(self, labels: Sequence[str] | None = None) -> dict[str, Any]:
        """Return a JSON object: that of the prediction, and the words with their places and contributions.

        labels: those whose contributions it has; None for all.
        """
        names = list(self.scores)
        columns = [(name, names.index(name)) for name in (names if labels is None else labels) if name in names]
        words = [
            {
                **{"word": word.word, "start": word.start, "end": word.end},
                "contributions": {name: float(self.contributions[i, j]) for name, j in columns},
            }
            for i, word in enumerate(self.words)
        ]
        read = {"windows": self.windows, "unread": self.unread, "foreign": self.foreign, "blank": self.blank}
        return {"text": self.text, "labels": list(self.labels), "scores": self.scores, **read, "words": words}


class Explanations(ShownList[Explanation]):
    """A list of explanations that shows itself in a notebook; a slice of it does too."""

    def _tables(self) -> Iterator[tuple[str, Table]]:
        blank = [("", "", "blank text")]
        rows = [("" if i else each.text, *row) for each in self for i, row in enumerate(each._cells() or blank)]
        yield "", Table(("text", "label", "score", "words that contribute most"), tuple(rows))

    def _data(self) -> FrameData:
        """Return a row for each word of each text, as of one explanation."""
        return [row for each in self for row in each._rows()]


@dataclass(frozen=True)
class Part:
    """A part of a text that is scored alone: its text, its share of the words, and its words with their spans in it.

    A text that the model reads at once has one part.
    """

    text: str
    share: float
    words: tuple[Word, ...]
    without: tuple[str, ...]


@dataclass(frozen=True)
class Occlusion:
    """The texts that have to be scored to explain a text.

    The model averages the logits of its windows, so a word of a long text changes only those of its own part.
    """

    parts: tuple[Part, ...]

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of all parts."""
        return tuple(word for part in self.parts for word in part.words)

    @property
    def texts(self) -> Iterator[str]:
        """Yield the texts to score: those without a word and, of a text of several parts, the parts."""
        for part in self.parts:
            yield from part.without
            if len(self.parts) > 1:
                yield part.text

    def contributions(
        self, probabilities: Floats, logits: Mapping[str, npt.NDArray[Any]], decision: Decision
    ) -> Floats:
        """Return contributions of shape (words, labels).

        probabilities: of the whole text, shape (labels,). logits: of each of `texts`, shape (labels,).
        """
        if not self.parts:
            return np.zeros((0, len(probabilities)))
        without = [np.stack([logits[text] for text in part.without]) for part in self.parts]
        if len(self.parts) > 1:
            # the text's logits up to a constant, which cancels out in a softmax
            p = np.clip(probabilities, _TINY, 1 - _TINY)
            whole = np.log(p) if decision.labels.task == "multi_class" else np.log(p) - np.log1p(-p)
            without = [
                whole - part.share * (logits[part.text] - rows) for part, rows in zip(self.parts, without, strict=True)
            ]
        return np.asarray(probabilities - decision.probabilities(np.concatenate(without)))


def occlude(text: str, num_parts: int, max_passes: int) -> Occlusion:
    """Return the texts without each word; of more than `max_passes` words, without several words in a row.

    num_parts: the windows in which the model reads the text; 0 for a blank one.
    """
    if not num_parts:
        return Occlusion(())
    spans = [found.span() for found in _word().finditer(text) if found[0] not in _SILENT]
    size = -(-len(spans) // max_passes)  # words of a group
    parts = []
    for part in np.array_split(np.arange(len(spans)), num_parts):
        if len(part):
            first, last = (0, len(text)) if num_parts == 1 else (spans[part[0]][0], spans[part[-1]][1])
            groups = [(spans[group[0]][0], spans[group[-1]][1]) for group in _groups(part.tolist(), size)]
            parts.append(
                Part(
                    text[first:last],
                    len(part) / len(spans),
                    tuple(Word(text[start:end], start, end) for start, end in groups),
                    tuple(removed(text[first:last], start - first, end - first) for start, end in groups),
                )
            )
    return Occlusion(tuple(parts))


def _groups(words: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (words[i : i + size] for i in range(0, len(words), size))


def removed(text: str, start: int, end: int) -> str:
    """Return the text without a span; no blanks are doubled and no words joined."""
    left, right = text[:start], text[end:]
    if not left or not right:
        return (left + right).strip()
    if left[-1].isspace() and right[0].isspace():
        return left + right.lstrip()
    return f"{left} {right}" if left[-1].isalnum() and right[0].isalnum() else left + right
