"""The tokenizer of an offline page: `tokenizer.json` of a BERT-like model as tables for a script.

What the tokenizer does to a single character is asked of the tokenizers library, for each character there is. So the
script needs no Unicode data of its own, and old browsers give the same tokens as new ones.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from emotune.artifact.safety.files import read_json
from emotune.artifact.safety.tokenizer import MAX_BYTES, MAX_VALUES
from emotune.errors import ModelError, Place

_SUPPORTED = "WordPiece and WordLevel tokenizers that normalize and split as BERT does"
_MODELS = ("WordPiece", "WordLevel")
_NORMALIZERS = {"BertNormalizer", "Lowercase", "StripAccents", "NFD", "Replace"}
_PRE_TOKENIZERS = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}
_POST_PROCESSORS = {"TemplateProcessing", "BertProcessing"}
_MARK = "|"  # no normalizer changes it
_ONE_CHARACTER = re.compile(r"\[[^\[\]\\^|-]+\]|[^\\|.]", re.DOTALL)  # a pattern that matches single characters alone
_SURROGATES = range(0xD800, 0xE000)
_CHARACTERS = [chr(code) for code in range(sys.maxunicode + 1) if code not in _SURROGATES]
_BLOCK = 4096  # characters that are split together
Run = tuple[int, int, str]


def tables(path: Path, max_tokens: int) -> dict[str, Any]:
    """Return the tables of a `tokenizer.json`; raises as `require_supported`.

    characters, kinds: runs of code points (first, last, value): what a character becomes (`\\0` stands for itself), and
    what it is in a text ("blank", "alone", or "run": one word with its neighbours of that kind), unless it is itself
    and part of a word. before, after: the ids around each text. max_tokens: of a window.
    """
    content = require_supported(path)
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    model = json.loads(tokenizer.to_str())["model"]
    normalize = (lambda text: text) if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str
    encoding = tokenizer.encode("a")
    own = [i for i, special in enumerate(encoding.special_tokens_mask) if not special]
    return {
        "vocabulary": model["vocab"],
        "unknown": model["vocab"][model["unk_token"]],
        "prefix": model.get("continuing_subword_prefix"),
        "longest": model.get("max_input_chars_per_word"),
        "added": [
            {key: token[key] for key in ("id", "content", "single_word", "lstrip", "rstrip")}
            for token in content.get("added_tokens") or ()
        ],
        "characters": _characters(normalize),
        "kinds": _kinds(tokenizer.pre_tokenizer.pre_tokenize_str),
        "before": encoding.ids[: own[0]],
        "after": encoding.ids[own[-1] + 1 :],
        "max_tokens": max_tokens,
    }


def require_supported(path: Path) -> dict[str, Any]:
    """Return the content of a `tokenizer.json`; raises ModelError for an invalid one, or one that no page can have."""
    content = read_json(path, max_bytes=MAX_BYTES, max_values=MAX_VALUES, repeats=True)
    if fault := _fault(content):
        hint = f"A page can have {_SUPPORTED}, such as those of MiniLM, BERT and DistilBERT. Or run: emotune serve"
        raise ModelError(f"a page cannot have this tokenizer: {fault}", place=Place(path), hint=hint)
    return content


def _fault(content: dict[str, Any]) -> str | None:
    """Return what the tables cannot have; None for a supported tokenizer."""
    model = content["model"]
    if model.get("type") not in _MODELS:
        return f"its model is {model.get('type')}"
    if model.get("unk_token") not in model["vocab"]:
        return "it has no token for unknown words"
    steps = [("normalizer", _NORMALIZERS), ("pre_tokenizer", _PRE_TOKENIZERS), ("post_processor", _POST_PROCESSORS)]
    for name, allowed in steps:
        for step in _parts(content.get(name)):
            if step["type"] not in allowed:
                return f"its {name.replace('_', '-')} is {step['type']}"
            if step["type"] == "Replace" and not _ONE_CHARACTER.fullmatch(next(iter(step["pattern"].values()))):
                return "it replaces more than single characters"
    if len(_parts(content.get("pre_tokenizer"))) != 1:
        return "its pre-tokenizer is not a single one"
    if any(token["normalized"] for token in content.get("added_tokens") or ()):
        return "it has added tokens that are looked for in normalized texts"
    return None


def _parts(step: Any) -> list[dict[str, Any]]:
    """Return a step of a tokenizer as single steps."""
    if step is None:
        return []
    inner = next((step[key] for key in ("normalizers", "pretokenizers", "processors") if key in step), None)
    return [step] if inner is None else [part for each in inner for part in _parts(each)]


def _characters(normalize: Callable[[str], str]) -> list[Run]:
    """Return what each character becomes, unless it stays."""
    plain = [character for character in _CHARACTERS if character != _MARK]
    found = normalize(_MARK.join(plain)).split(_MARK)
    return runs((c, text.replace(c, "\0", 1)) for c, text in zip(plain, found, strict=True) if text != c)


def _kinds(split: Callable[[str], list[tuple[str, tuple[int, int]]]]) -> list[Run]:
    """Return the kind of each character that is not part of a word."""
    found = []
    for start in range(0, len(_CHARACTERS), _BLOCK):
        block = _CHARACTERS[start : start + _BLOCK]
        pieces = {place for _, place in split("".join(f"a{c}{c}" for c in block) + "a")}
        starts = {first for first, _ in pieces}
        for i, c in enumerate(block):
            place = 3 * i + 1
            if place in starts:
                found.append((c, "alone" if (place, place + 1) in pieces else "run"))
            elif place + 2 in starts:
                found.append((c, "blank"))
    return runs(found)


def runs(values: Iterable[tuple[str, str]]) -> list[Run]:
    """Return sorted characters and their values as runs of neighbours with equal values."""
    numbered = ((ord(c) - i, value, ord(c)) for i, (c, value) in enumerate(values))
    return [
        ((codes := [code for *_, code in group])[0], codes[-1], value)
        for (_, value), group in groupby(numbered, key=lambda each: each[:2])
    ]
