"""Hashes of the words and n-grams of many texts at once: numpy operations on one array of all their characters.

A prefix sum of characters times powers of a base gives the hash of any substring by one subtraction and one product
(Rabin-Karp, modulo 2**64). A hash depends on the characters of its n-gram alone, never on its place or on other texts.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
_CODE_POINTS = 0x110000
_BLANK, _LETTER, _MARK = 0, 1, 2
_CHUNK = 1 << 18  # characters that are hashed together, or one longer text
_BASE = 0x9E3779B97F4A7C15  # odd, so it has an inverse modulo 2**64
_INVERSE = pow(_BASE, -1, 1 << 64)
_MIXER = np.uint64(0xD6E8FEB86659FD93)
_PREVIOUS = np.uint64(0xC2B2AE3D27D4EB4F)  # factor of the words before the last one of an n-gram
_START = np.uint64(0x165667B19E3779F9)  # the hash of the start of a text, as if it were a word
_INSIDE, _PREFIX, _SUFFIX = (np.uint64(salt) for salt in (1 << 40, 2 << 40, 3 << 40))


@dataclass(frozen=True)
class Words:
    """The words of some texts: runs of letters, digits and underscores, and single other characters that are no blanks.

    number: of words of each text, shape (texts,). hashes: of each word, and `owner`, the text that it is in, shape
    (words,). `sums` are the prefix sums of the characters; `starts` and `ends` are positions in them.
    """

    number: Ints
    hashes: Hashes
    owner: Ints
    starts: Ints
    ends: Ints
    sums: Hashes

    def ngrams(self, size: int) -> Hashes:
        """Return the hash of the n-gram of words that ends at each word, shape (words,); a text has a start before it.

        A text with fewer words before it than the n-gram needs is extended by starts.
        """
        found = self.hashes
        for back in range(1, size):
            before = np.full_like(self.hashes, _START)
            same = self.owner[back:] == self.owner[:-back]
            before[back:][same] = self.hashes[:-back][same]
            found = _mixed(before * _PREVIOUS + found)
        return found

    def characters(self, which: Ints, size: int) -> tuple[Hashes, Ints]:
        """Return the hashes of the n-grams of characters in some words, and for each the position in `which`.

        Both have the shape (n-grams,). Beside those inside of a word, its first and its last `size` - 1 characters are
        n-grams of their own.
        """
        starts, lengths = self.starts[which], (self.ends - self.starts)[which]
        number = np.maximum(lengths - size + 1, 0)
        owner = np.repeat(np.arange(len(which)), number)
        at = np.arange(len(owner)) - np.repeat(np.cumsum(number) - number, number)
        found, owners = [self._substrings(starts[owner] + at, size, _INSIDE)], [owner]
        if size > 1:
            long_enough = np.flatnonzero(lengths >= size - 1)
            ends = self.ends[which][long_enough]
            found.append(self._substrings(starts[long_enough], size - 1, _PREFIX))
            found.append(self._substrings(ends - size + 1, size - 1, _SUFFIX))
            owners += [long_enough, long_enough]
        return np.concatenate(found), np.concatenate(owners)

    def _substrings(self, starts: Ints, size: int, salt: np.uint64) -> Hashes:
        return _hash(self.sums, starts, starts + size) ^ salt


def words_of(texts: Sequence[str], lowercase: bool) -> Words:
    """Return the words of texts that fit in memory together (`chunks`)."""
    texts = [text.lower() for text in texts] if lowercase else texts
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    # each text ends in a blank, so no word reaches into the next one
    joined = " ".join([*texts, ""]) if len(texts) else ""
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    kinds = _kinds()[codes]
    before = np.concatenate([[np.uint8(_BLANK)], kinds[:-1]]) if len(kinds) else kinds
    within = (kinds == _LETTER) & (before == _LETTER)
    starts = np.flatnonzero((kinds != _BLANK) & ~within)
    ends = np.flatnonzero((before != _BLANK) & ~within)
    sums = np.zeros(len(codes) + 1, dtype=np.uint64)
    np.cumsum((codes + np.uint32(1)) * _powers(_BASE, len(codes)), out=sums[1:])
    first = np.searchsorted(starts, np.concatenate([[0], np.cumsum(lengths + 1)]))
    number = np.diff(first)
    return Words(number, _hash(sums, starts, ends), np.repeat(np.arange(len(texts)), number), starts, ends, sums)


def chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the texts in order, in parts of a bounded number of characters; a longer text is a part of its own."""
    start = size = 0
    for end, text in enumerate(texts):
        if size + len(text) >= _CHUNK and end > start:
            yield texts[start:end]
            start, size = end, 0
        size += len(text) + 1
    if start < len(texts):
        yield texts[start:]


class Rows:
    """The rows of sorted, distinct hashes in a table, from 1 on; row 0 stands for all other hashes."""

    def __init__(self, keys: Hashes) -> None:
        bits = len(keys).bit_length() + 2
        self._shift = np.uint64(64 - bits)
        self._first = np.searchsorted(keys, np.arange(1 << bits, dtype=np.uint64) << self._shift).astype(np.int64)
        self._keys = np.append(keys, np.uint64(0))
        self._number = len(keys)

    def find(self, hashes: Hashes) -> Ints:
        """Return the row of each hash; the first bits lead to the first of the few keys that begin with them."""
        at = self._first[hashes >> self._shift]
        found = self._keys[at]
        late = np.flatnonzero((found < hashes) & (at < self._number))
        at[late] = np.searchsorted(self._keys[:-1], hashes[late])
        found[late] = self._keys[at[late]]
        return np.where((found == hashes) & (at < self._number), at + 1, 0)


def _hash(sums: Hashes, starts: Ints, ends: Ints) -> Hashes:
    """Return the hashes of the characters from `starts` to `ends`."""
    return _mixed((sums[ends] - sums[starts]) * _powers(_INVERSE, len(sums))[starts])


def _mixed(hashes: Hashes) -> Hashes:
    """Spread hashes over all 64 bits: the high bits of a sum of powers are good, its low bits are not."""
    hashes = (hashes ^ (hashes >> np.uint64(32))) * _MIXER
    return hashes ^ (hashes >> np.uint64(32))


_POWERS: dict[int, Hashes] = {}


def _powers(base: int, number: int) -> Hashes:
    """Return the first powers of a base modulo 2**64, shape (number,) or more."""
    found = _POWERS.get(base)
    if found is None or len(found) < number:
        found = np.full(max(number, _CHUNK + 1), base, dtype=np.uint64)
        found[0] = 1
        np.cumprod(found, out=found)
        if number <= _CHUNK + 1:  # the powers of one huge text are not kept
            _POWERS[base] = found
    return found[:number]


@cache
def _kinds() -> npt.NDArray[np.uint8]:
    """Return the kind of each code point: blank, part of a word, or a word by itself; as in `tfidf.WORD`."""
    kinds = np.full(_CODE_POINTS, _MARK, dtype=np.uint8)
    characters = np.arange(_CODE_POINTS, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    for pattern, kind in ((r"\w+", _LETTER), (r"\s+", _BLANK)):
        for match in re.finditer(pattern, characters):
            kinds[match.start() : match.end()] = kind
    return kinds
