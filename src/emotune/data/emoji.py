"""Tokens for emoji that a tokenizer does not know and for emoticons; training rows of emoji and emoticons alone.

The tokens are added tokens of the tokenizer, so that `tokenizer.json` alone gives the same tokens everywhere. A
normalizer removes skin tones, gender signs and joiners. Sequences such as 👩‍💻, and flags, are read part by part.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, normalizers

from emotune.errors import Place
from emotune.labels import LabelSet, label_key

_FILES = resources.files("emotune") / "data"
_ROWS = "emoji_rows.tsv"
_REPEATS = (1, 2, 3)  # rows of a symbol: 😂, 😂😂 and 😂😂😂, or an emoticon three times
_SHARE = 0.1  # of the training rows: more rows of emoji than that are not added


@cache
def words() -> Mapping[str, str]:
    """Return the words for each emoji, a single character; none for one that is removed."""
    return {chr(int(code, 16)): found for _, (code, _, found) in _rows("emoji.tsv")}


def _rows(name: str) -> list[tuple[int, list[str]]]:
    """Return the rows of a table of this package, with the line of each."""
    lines = (_FILES / name).read_text(encoding="utf-8").splitlines()
    return [(i, line.split("\t")) for i, line in enumerate(lines, start=1) if not line.startswith("#")]


class Origin(NamedTuple):
    """Token ids that a new token replaces: those that it was read as, and those of the words that it stands for."""

    before: list[int]
    words: list[int]


def with_tokens(tokenizer: Tokenizer) -> tuple[Tokenizer, dict[int, Origin]]:
    """Return a tokenizer with a token for each emoji and emoticon, and the origin of each new id.

    The tokenizer itself if it knows every emoji.
    """
    number = unknown_id(tokenizer)
    unknown = [] if number is None else [char for char in words() if not knows(tokenizer, char, number)]
    if number is None or not unknown:
        return tokenizer, {}
    reading = Tokenizer.from_str(tokenizer.to_str())
    if removed := "".join(char for char in unknown if not words()[char]):
        own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
        reading.normalizer = normalizers.Sequence([normalizers.Replace(Regex(f"[{removed}]"), ""), *own])
    said = {char: words()[char] for char in unknown if words()[char]}
    said |= {each: each for each in emoticons()}
    reading.add_tokens([AddedToken(each, normalized=False, single_word=not _is_emoji(each)) for each in said])
    numbers, old = reading.get_vocab(), tokenizer.get_vocab()

    def ids(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids) or [number]

    return reading, {numbers[each]: Origin(ids(each), ids(name)) for each, name in said.items() if each not in old}


def emoticons() -> list[str]:
    """Return the emoticons of the table of rows, the longest first."""
    found = (each for _, (_, symbols) in _rows(_ROWS) for each in symbols.split() if not _is_emoji(each))
    return sorted(found, key=len, reverse=True)


def _is_emoji(text: str) -> bool:
    return all(char in words() for char in text)


def training_rows(labels: LabelSet, num_texts: int) -> list[tuple[str, int, Place]]:
    """Return emoji, single and repeated, and emoticons, each with the position of its label and its place in the table.

    num_texts: the training rows, of which they are at most a tenth; repetitions are left out first.
    """
    names = {label_key(name): i for i, name in enumerate(labels.names)}
    found: list[tuple[str, int, Place]] = []
    for repeats in _REPEATS:
        more = []
        for line, (wanted, symbols) in _rows(_ROWS):
            label = next((names[key] for name in wanted.split(", ") if (key := label_key(name)) in names), None)
            texts = [each * repeats if _is_emoji(each) else each for each in symbols.split()]
            if label is not None:
                more += [(text, label, Place(Path(_ROWS), line)) for text in texts]
        if len(found) + len(more) > _SHARE * num_texts:
            break
        found += more
    return found


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """Return the id of the token for what is not in the vocabulary; None for a tokenizer that has none."""
    if (token := getattr(tokenizer.model, "unk_token", None)) is not None:
        return tokenizer.token_to_id(str(token))
    number: int | None = json.loads(tokenizer.to_str())["model"].get("unk_id")
    return number


def knows(tokenizer: Tokenizer, char: str, unknown: int) -> bool:
    """Whether the tokenizer has a token for a character, or removes it; `unknown`: its `unknown_id`."""
    return unknown not in tokenizer.encode(char, add_special_tokens=False).ids  # Unigram names such a token by its text
