"""Words in place of emoji and emoticons, for tokenizers that have no token for them.

The words come from normalizers of the tokenizer, so that `tokenizer.json` alone gives the same tokens everywhere:

    emoticons           `:(`, `¯\\_(ツ)_/¯`, `<3` become the emoji that they stand for, by one regular expression each
    emoji.tsv           one table of single characters, in the format of SentencePiece's `precompiled_charsmap`
    the tokenizer's own normalizer

Joined sequences such as 👩‍💻 or 👍🏽 are read part by part; skin tones, gender signs and joiners are removed. A flag
becomes the letters of its country's code.
"""

import json
import struct
from collections import deque
from collections.abc import Mapping
from functools import cache
from importlib import resources
from itertools import count
from typing import Any

from tokenizers import Regex, Tokenizer, normalizers

_START, _END = r"(?<![\w:;=<>])", r"(?!\w)"
_AFTER = rf"(?:{_START}|(?<=[^\W\d_]{{2}}))"  # also directly after a word, as in "thanks:)"
_ALONE, _ALONE_END = r"(?<!\S)", r"(?!\S)"
# In this order: a longer emoticon before one that it contains.
_EMOTICONS = (
    ("😠", rf"{_START}>[:;=]'?-?[(\[{{<|/\\@]+{_END}|ಠ益ಠ|{_ALONE}D[:=]<{_ALONE_END}"),
    ("😤", r"[(（]?[╯ノ╰][^\s]{0,8}\s*[︵彡]?\s*┻━*┻"),
    ("😈", rf"{_START}[>}}][:;=]-?[)\]D]+{_END}"),
    ("💔", rf"{_AFTER}</3+{_END}"),
    ("❤", rf"{_AFTER}<3+{_END}(?![.,]\d)"),
    ("😢", rf"{_START}[:;=]['`,]-?[(\[]+{_END}|(?<!\w)T[_.]+T{_END}|(?<!\w);_+;{_END}|ಥ[_﹏益]*ಥ"),
    ("🥲", rf"{_START}[:;=]['`,]-?[)\]D]+{_END}"),
    ("🙂", rf"{_AFTER}[:=]-?o?[)\]}}]+{_END}|{_ALONE}[(]+[:=]{_ALONE_END}|\(?\^[_.\-]+\^\)?|ʘ‿ʘ|◕‿◕"),
    ("😆", rf"{_START}[:=]-?D+{_END}|(?<!\w)[xX]D+{_END}"),
    ("🙁", rf"(?:{_AFTER}:|{_START}=)-?[(\[{{]+(?![\w)\]}}])|{_ALONE}[)]+[:=]{_ALONE_END}"),
    ("😉", rf"{_START};-?[)\]DpP]+{_END}"),
    ("😛", rf"{_START}[:=]-?[pP]+{_END}"),
    ("😘", rf"{_ALONE}[:;=]-?\*+{_ALONE_END}"),
    ("😮", rf"{_START}[:=]-?[oO0]+{_END}|(?<!\w)(?:[oO][_.]+[oO]|0_+0|°[_.]+°){_END}"),
    ("😧", rf"{_ALONE}D[:=]{_ALONE_END}"),
    ("🫤", rf"{_START}[:=]-?[/\\sS]{_END}(?!/)"),
    ("😐", rf"(?<![|\-]){_START}[:=]-?\|+(?![\w:])"),
    ("😑", r"(?<![\w\-])-[_.]+-(?![\w\-])"),
    ("🤨", r"[(（]?ಠ[_‿⌣╭╮]*ಠ[)）]?"),
    ("😣", rf"{_START}>[_.]+<|(?<!\w)[xX]_+[xX]{_END}"),
    ("🤷", r"¯\\*_*[(（]ツ[)）]_*/?¯"),
    ("😏", r"[(（]?\s?͡[°ʘ]\s?͜ʖ\s?͡[°ʘ]\s?[)）]?"),
    ("🐻", r"ʕ.ᴥ.ʔ"),
    ("😺", rf"{_START}[:=]3{_END}"),
    ("🙌", rf"{_ALONE}\\[oO]/{_END}"),
)


EMOTICON = "|".join(f"(?:{pattern})" for _, pattern in _EMOTICONS)  # a regular expression for all of them


@cache
def words() -> Mapping[str, str]:
    """Return the words for each emoji, a single character; none for one that is removed."""
    lines = (resources.files("emotune") / "data" / "emoji.tsv").read_text(encoding="utf-8").splitlines()
    rows = (line.split("\t") for line in lines if not line.startswith("#"))
    return {chr(int(code, 16)): found for code, _, found in rows}


def with_words(tokenizer: Tokenizer) -> Tokenizer:
    """Return a tokenizer that reads emoji and emoticons as words; itself if it has a token for every emoji."""
    token = unknown_token(tokenizer)
    unknown = [char for char in words() if not knows(tokenizer, char, token)]
    if not unknown:
        return tokenizer
    reading = Tokenizer.from_str(tokenizer.to_str())
    emoticons = [normalizers.Replace(Regex(pattern), char) for char, pattern in _EMOTICONS]
    table = normalizers.Precompiled(_charsmap({char: f" {words()[char]} ".replace("  ", " ") for char in unknown}))
    own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
    reading.normalizer = normalizers.Sequence([*emoticons, table, *own])
    return reading


def unknown_token(tokenizer: Tokenizer) -> str | None:
    """Return the token for what is not in the vocabulary; None for a tokenizer that has none."""
    if (token := getattr(tokenizer.model, "unk_token", None)) is not None:
        return str(token)
    number = json.loads(tokenizer.to_str())["model"].get("unk_id")
    return None if number is None else tokenizer.id_to_token(number)


def knows(tokenizer: Tokenizer, char: str, unknown: str | None) -> bool:
    """Whether the tokenizer has a token for a character, or removes it; `unknown`: its `unknown_token`."""
    return unknown not in tokenizer.encode(char, add_special_tokens=False).tokens


# The table of characters: a double-array trie over the UTF-8 bytes of the keys, and the values after it. A unit has its
# label in the bits 0 to 7, whether it ends a key in bit 8, and in the bits from 10 on the offset to its children: the
# unit for byte b below the unit at p is at (p ^ offset ^ b). Byte 0 is the end of a key: the position of its value.

_VALUE = 1 << 31


def _charsmap(values: Mapping[str, str]) -> bytes:
    """Return the `precompiled_charsmap` of a replacement for each character."""
    blob, positions = bytearray(), {}
    for value in dict.fromkeys(values.values()):
        positions[value] = len(blob)
        blob += value.encode() + b"\0"
    trie: dict[int, Any] = {}
    for key, value in values.items():
        node = trie
        for byte in key.encode():
            node = node.setdefault(byte, {})
        node[0] = positions[value]
    units, used, bases = [0] * 256, {0}, {0}
    todo = deque([(0, trie)])
    while todo:
        at, node = todo.popleft()
        # two units with one base would take each other's children for their own
        base = next(b for b in count(len(bases)) if b not in bases and all(b ^ byte not in used for byte in node))
        bases.add(base)
        units += [0] * (256 * (base // 256 + 1) - len(units))
        units[at] |= (base ^ at) << 10 | (0 in node) << 8
        used.update(base ^ byte for byte in node)
        for byte, below in node.items():
            if byte == 0:
                units[base] = _VALUE | below
            else:
                units[base ^ byte] = byte
                todo.append((base ^ byte, below))
    packed = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(packed)) + packed + bytes(blob)
