"""Near-duplicate texts, found without comparing all pairs: MinHash signatures and locality-sensitive hashing.

A text is the set of its character 4-grams, without case and punctuation. Two texts are near-duplicates when the Jaccard
similarity of their sets is at least `SIMILARITY`. The smallest value of a random hash over a set is equal for two sets
with the probability of their Jaccard similarity, so texts that agree on whole bands of such values are candidates; only
candidates are compared exactly. Broder 1997; Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
SIMILARITY = 0.8
_NGRAM = 4
# Pairs that agree in two of 20 bands of 5 are compared: 0.996 of those at the limit, 0.13 of those at similarity 0.5
_BANDS, _ROWS = 20, 5
_NEIGHBOURS = 4
_CHUNK_CHARACTERS = 1 << 16
_MARKS = re.compile(r"[\W_]+")
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # of splitmix64


def plain(text: str) -> str:
    """The text without case and punctuation; without case only when it has nothing but punctuation."""
    folded = text.casefold()
    return _MARKS.sub(" ", folded).strip() or " ".join(folded.split())


def similarity(first: str, second: str) -> float:
    """The Jaccard similarity of the character 4-grams of two texts, without case and punctuation."""
    ours, theirs = _ngrams(first), _ngrams(second)
    shared = len(ours & theirs)
    return shared / (len(ours) + len(theirs) - shared)


def near_duplicates(texts: Sequence[str], keys: Hashes) -> list[Ints]:
    """The groups of near-duplicates among texts, each with its texts in ascending order.

    Chains of near pairs link the texts of a group. Texts that differ in case and blanks only, with equal `keys`
    (`records.text_keys`, shape (n,)), are no group.

    Time and memory grow linearly with the texts, even when many are similar: each text is compared with the first text
    of its band and the few before it only. So a pair of a huge group may be missed, but not the group. Blank texts have
    no near-duplicates.
    """
    encoded = (plain(text).encode("utf-8", "surrogatepass") for text in texts)
    digests = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in encoded)
    _, first, node = np.unique(np.frombuffer(digests, dtype="<u8"), return_index=True, return_inverse=True)
    blank = np.array([not texts[i].strip() for i in first], dtype=bool)
    parents = list(range(len(first)))
    for one, other in _candidates(_band_keys([texts[i] for i in first]), ~blank):
        a, b = _root(parents, one), _root(parents, other)
        if a != b and similarity(texts[first[one]], texts[first[other]]) >= SIMILARITY:
            parents[max(a, b)] = min(a, b)
    if not len(texts):
        return []
    root = np.array([_root(parents, i) for i in range(len(parents))], dtype=np.int64)[node]
    several = np.flatnonzero(~blank[node] & (np.bincount(root)[root] > 1))
    order = several[np.argsort(root[several], kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(root[order])) + 1)
    return [group for group in groups if len(np.unique(keys[group])) > 1]


def _root(parents: list[int], node: int) -> int:
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


def _ngrams(text: str) -> set[str]:
    padded = _padded(text)
    return {padded[i : i + _NGRAM] for i in range(len(padded) - _NGRAM + 1)}


def _padded(text: str) -> str:
    """The plain text with a blank at both ends, which mark words, and of the length of at least one 4-gram."""
    return f" {plain(text)} ".ljust(_NGRAM)


def _band_keys(texts: Sequence[str]) -> npt.NDArray[np.uint32]:
    """A hash of the MinHash values of each band, shape (n, bands)."""
    rng = np.random.default_rng(0)
    count = _BANDS * _ROWS
    masks = rng.integers(0, 2**64, size=count, dtype=np.uint64)
    factors = rng.integers(0, 2**64, size=count, dtype=np.uint64) | np.uint64(1)
    keys = np.zeros((len(texts), _BANDS), dtype=np.uint32)
    for start, chunk in _chunks(texts):
        hashes, offsets = _hashed_ngrams(chunk)
        bands = np.zeros((len(chunk), _BANDS), dtype=np.uint64)
        for i, (mask, factor) in enumerate(zip(masks, factors, strict=True)):
            smallest = np.minimum.reduceat((hashes ^ mask) * factor, offsets)
            bands[:, i // _ROWS] = _mixed(bands[:, i // _ROWS] + smallest)
        keys[start : start + len(chunk)] = bands >> np.uint64(32)
    return keys


def _chunks(texts: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Padded texts in chunks of about the same number of characters, with the number of the first text."""
    start, characters = 0, 0
    chunk: list[str] = []
    for i, text in enumerate(texts):
        chunk.append(_padded(text))
        characters += len(chunk[-1])
        if characters >= _CHUNK_CHARACTERS or i == len(texts) - 1:
            yield start, chunk
            start, characters, chunk = i + 1, 0, []


def _hashed_ngrams(padded: Sequence[str]) -> tuple[Hashes, Ints]:
    """The hashes of the 4-grams of the texts, one text after another, and where each text begins."""
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    windows = len(codes) - _NGRAM + 1
    hashes = np.zeros(windows, dtype=np.uint64)
    for i in range(_NGRAM):
        hashes = _mixed(hashes + codes[i : i + windows])
    lengths = np.array([len(text) for text in padded], dtype=np.int64)
    ends = np.cumsum(lengths)
    inside = np.ones(windows, dtype=bool)
    for i in range(1, _NGRAM):  # windows that reach into the next text
        inside[ends[:-1] - i] = False
    counts = lengths - _NGRAM + 1
    return hashes[inside], np.cumsum(counts) - counts


def _mixed(values: Hashes) -> Hashes:
    """Each value mixed by the finalizer of splitmix64, so that similar values become different."""
    values = (values ^ (values >> np.uint64(30))) * _MIX[0]
    values = (values ^ (values >> np.uint64(27))) * _MIX[1]
    return values ^ (values >> np.uint64(31))


def _candidates(keys: npt.NDArray[np.uint32], wanted: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Pairs of wanted texts that agree in two bands, in ascending order.

    Among the texts that agree in a band, each is paired with the first and with the few before it.
    """
    nodes = np.flatnonzero(wanted)
    once = twice = np.zeros(0, dtype=np.int64)
    for band in range(keys.shape[1]):
        order = nodes[np.argsort(keys[nodes, band], kind="stable")]
        key = keys[order, band]
        starts = np.concatenate([[True], key[1:] != key[:-1]]) if len(key) else np.zeros(0, dtype=bool)
        first = np.maximum.accumulate(np.where(starts, np.arange(len(key)), 0))
        found = [_pairs(order[first], order, len(keys))]
        for back in range(1, _NEIGHBOURS + 1):
            same = key[back:] == key[:-back]
            found.append(_pairs(order[:-back][same], order[back:][same], len(keys)))
        pairs = np.unique(np.concatenate(found))
        twice = np.union1d(twice, np.intersect1d(once, pairs, assume_unique=True))
        once = np.union1d(once, pairs)
    for pair in twice:
        yield int(pair) // len(keys), int(pair) % len(keys)


def _pairs(one: Ints, other: Ints, count: int) -> Ints:
    """Pairs of two different numbers below `count`, each encoded as one number."""
    low, high = np.minimum(one, other), np.maximum(one, other)
    pairs: Ints = (low * count + high)[low != high]
    return pairs
