"""Label sets, and mappings to coarser ones. Labels are identified by name, never by position."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from unicodedata import category, normalize

import numpy as np
import numpy.typing as npt

from emotune.errors import DataError, UsageError, did_you_mean

NEUTRAL = "neutral"
_LONGEST = 200
POSITIVE = 0.5
_MOST_LISTED = 8
_DIRECTION_MARKS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_MARKUP = re.compile(r"<[A-Za-z/!?]")
# Characters that nobody sees and that change no other character: soft hyphen, zero-width blank, byte order mark, …
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u034f\u180e\u200b\u2060\u2061\u2062\u2063\u2064\ufeff"))
# Those that change how their neighbours look: joiners and variation selectors
_SHAPING = dict.fromkeys([0x200C, 0x200D, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)])
_WHOLE = re.compile(r"(-?[0-9]{1,9})\.0+")
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of surrogate pairs, line and paragraph separators


class Task(StrEnum):
    """Whether a text has any number of labels, or exactly one."""

    MULTI_LABEL = "multi_label"
    MULTI_CLASS = "multi_class"


@dataclass(frozen=True)
class LabelSet:
    """Ordered label names, and whether a text has any number of them or exactly one.

    Raises DataError for too few names, and for an invalid or repeated one.
    """

    names: tuple[str, ...]
    task: Task = Task.MULTI_LABEL

    def __post_init__(self) -> None:
        if len(self.names) < (2 if self.task is Task.MULTI_CLASS else 1):
            raise DataError(f"a {self.task} label set needs more labels than {list(self.names)}")
        for name in self.names:
            if error := label_name_error(name):
                raise DataError(error)
        if twice := sorted(name for name, n in Counter(self.names).items() if n > 1):
            raise DataError(f"repeated label names: {', '.join(twice[:5])}{', …' if len(twice) > 5 else ''}")

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def index(self, name: str) -> int:
        """Return the position of `name`; raises DataError, with the nearest label, when it is unknown."""
        try:
            return self.names.index(name)
        except ValueError:
            raise DataError(f"unknown label {name!r}", hint=did_you_mean(name, self.names)) from None

    @property
    def neutral(self) -> int | None:
        """The position of the label `neutral`; None without it."""
        return self.names.index(NEUTRAL) if NEUTRAL in self.names else None


def label_name_error(name: str) -> str | None:
    """Return what is wrong with a label name; None for a valid one."""
    if len(name) > _LONGEST:
        return f"label name {name[:40]!r}… has {len(name):,} characters; allowed are {_LONGEST}"
    if not name or name != name.strip() or any(category(c) in _UNPRINTABLE or c in _DIRECTION_MARKS for c in name):
        return f"label name {name!r} is empty, has blanks around it, or contains control characters"
    return f"label name {name!r} looks like HTML" if _MARKUP.search(name) else None


def clean_label(name: str) -> str:
    """Return a label name in Unicode's form NFC, without invisible characters."""
    return name if name.isascii() else normalize("NFC", name).translate(_INVISIBLE).strip()


def label_key(name: str) -> str:
    """Return the key of a label name: names with equal keys are one label.

    They are equal up to case, Unicode form, characters that cannot be seen, and the decimals of a whole number.
    """
    if not name.isascii():
        return clean_label(name).translate(_SHAPING).casefold()
    whole = _WHOLE.fullmatch(name)
    return whole[1] if whole else name.casefold()


@dataclass(frozen=True)
class LabelMapping:
    """A mapping from a fine label set to a coarser one (its `level`).

    `members`: the fine labels of each coarse label. A fine label that belongs to none is dropped, and so is a coarse
    label without members.
    """

    level: str
    members: Mapping[str, tuple[str, ...]]

    def label_set(self, fine: LabelSet) -> LabelSet:
        """Return the coarse labels: multi-class when `fine` is and none of its labels is dropped."""
        covered = {name for members in self.members.values() for name in members}
        task = fine.task if covered.issuperset(fine.names) else Task.MULTI_LABEL
        return LabelSet(tuple(self.members), task)

    def coarsen(self, values: npt.NDArray[Any], fine: LabelSet) -> npt.NDArray[Any]:
        """Map values over `fine`, shape (n, fine), to (n, coarse), by the maximum over the members.

        For 0/1 or boolean decisions that is the union.
        """
        columns = [[fine.index(name) for name in members] for members in self.members.values()]
        return np.stack([values[:, column].max(axis=1) for column in columns], axis=1)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


GOEMOTIONS = LabelSet(
    _names(
        "admiration amusement anger annoyance approval caring confusion curiosity desire disappointment disapproval "
        "disgust embarrassment excitement fear gratitude grief joy love nervousness optimism pride realization relief "
        "remorse sadness surprise neutral"
    )
)
EKMAN = LabelSet(_names("anger disgust fear joy sadness surprise neutral"))
SENTIMENT = LabelSet(_names("positive negative ambiguous neutral"))
DAIR = LabelSet(_names("sadness joy love anger fear surprise"), Task.MULTI_CLASS)
SEMEVAL = LabelSet(_names("anger fear joy sadness surprise"))
KNOWN: dict[str, LabelSet] = {
    "goemotions": GOEMOTIONS,
    "ekman": EKMAN,
    "sentiment": SENTIMENT,
    "emotion": DAIR,
    "semeval2025": SEMEVAL,
}

_LOVES = "love caring"
_OTHER_JOYS = "joy amusement approval excitement gratitude optimism relief pride admiration desire"
_JOYS = f"{_OTHER_JOYS} {_LOVES}"
_SADS = "sadness disappointment embarrassment grief remorse"
_ANGERS = "anger annoyance disapproval"
_FEARS = "fear nervousness"
_SURPRISES = "surprise realization confusion curiosity"
_EKMAN = {"anger": _ANGERS, "fear": _FEARS, "joy": _JOYS, "sadness": _SADS, "surprise": _SURPRISES}
_SAME = {name: name for name in SEMEVAL.names}
_DAIR = _SAME | {"joy": "joy love"}
_SENTIMENT = {"positive": "joy", "negative": "anger fear sadness", "ambiguous": "surprise"}
# goemotions → ekman and → sentiment are those of GoEmotions (Demszky et al. 2020, ekman_mapping.json and
# sentiment_mapping.json), with neutral kept. The others are ours: a dair or SemEval label is the Ekman group of that
# name, and dair's love is love and caring.
_MEMBERS = {
    ("goemotions", "ekman"): _EKMAN | {"disgust": "disgust", "neutral": "neutral"},
    ("goemotions", "sentiment"): {
        "positive": _JOYS,
        "negative": f"{_ANGERS} disgust {_FEARS} {_SADS}",
        "ambiguous": _SURPRISES,
        "neutral": "neutral",
    },
    ("goemotions", "emotion"): _EKMAN | {"joy": _OTHER_JOYS, "love": _LOVES},
    ("goemotions", "semeval2025"): _EKMAN,
    ("ekman", "sentiment"): _SENTIMENT | {"negative": "anger disgust fear sadness", "neutral": "neutral"},
    ("ekman", "semeval2025"): _SAME,
    ("emotion", "ekman"): _DAIR,
    ("emotion", "sentiment"): {"positive": "joy love", "negative": "sadness anger fear", "ambiguous": "surprise"},
    ("emotion", "semeval2025"): _DAIR,
    ("semeval2025", "ekman"): _SAME,
    ("semeval2025", "sentiment"): _SENTIMENT,
}
# the coarse labels are in the order of their known set
MAPPINGS: dict[tuple[str, str], LabelMapping] = {
    (fine, level): LabelMapping(level, {name: _names(of[name]) for name in KNOWN[level].names if name in of})
    for (fine, level), of in _MEMBERS.items()
}


def label_difference(labels: LabelSet, others: LabelSet) -> str:
    """Return the difference of two label sets in words, ignoring the order; empty when there is none."""
    if labels.task is not others.task:
        return f"{str(labels.task).replace('_', '-')}, not {str(others.task).replace('_', '-')}"
    more = [name for name in labels.names if name not in others]
    lacking = [name for name in others.names if name not in labels]
    parts = [(_listed(more), "in addition"), (_listed(lacking), "missing")]
    return "; ".join(f"{names} {what}" for names, what in parts if names)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_LISTED]) + (f", … ({len(names)})" if len(names) > _MOST_LISTED else "")


def in_order(values: npt.NDArray[Any], labels: LabelSet, order: LabelSet) -> npt.NDArray[Any]:
    """Return the columns of `values`, shape (n, labels), in the order of another set of the same names."""
    return values[:, [labels.index(name) for name in order.names]]


def known_set(names: Iterable[str]) -> str | None:
    """Return the known label set with exactly these names, in any order; None when there is none."""
    wanted = set(names)
    return next((key for key, labels in KNOWN.items() if set(labels.names) == wanted), None)


def levels(labels: LabelSet) -> list[str]:
    """Return the coarser levels at which a model with these labels can be scored."""
    source = known_set(labels.names)
    return [coarse for fine, coarse in MAPPINGS if fine == source]


def mapping_to(level: str, labels: LabelSet) -> LabelMapping:
    """Return the mapping from `labels` to a coarser level; raises UsageError when there is none."""
    source = known_set(labels.names)
    if source is not None and (source, level) in MAPPINGS:
        return MAPPINGS[source, level]
    allowed = levels(labels)
    raise UsageError(
        f"these labels have no level {level!r}",
        hint=did_you_mean(level, allowed) if allowed else "Only models of a known label set have coarser levels.",
    )


def to_matrix(rows: Sequence[Sequence[int]], num_labels: int) -> npt.NDArray[np.float32]:
    """Return the label positions of each row as 0/1 targets, shape (n, num_labels)."""
    targets = np.zeros((len(rows), num_labels), dtype=np.float32)
    for i, row in enumerate(rows):
        targets[i, list(row)] = 1.0
    return targets


def positives(targets: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
    """Return which targets count as positive where soft ones do not serve: those of at least a half."""
    return np.asarray(targets >= POSITIVE)
