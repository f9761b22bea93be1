"""`tokenizer.json` from anybody: bounded in size, and no part of it makes a text explode or run for ever."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotune.artifact.safety.json_files import read_object
from emotune.errors import ModelError, Place

# the largest in use, of 256,000 pieces, take 34 MB and 2 million values
_MAX_BYTES = 40 << 20
_MAX_VALUES = 3_000_000
_MAX_VOCABULARY = 1_000_000
_MAX_ADDED = 20_000
_MAX_TOKEN = 1_000
_MAX_WORD = 1_000
_MAX_STEPS = 200
_MAX_GROWTH = 64
_STEPS = ("normalizer", "pre_tokenizer", "post_processor")


def require_sound_tokenizer(path: Path) -> None:
    """Raise ModelError for a tokenizer that is too large, that grows texts, or whose patterns may never end."""
    content = read_object(path, max_bytes=_MAX_BYTES, max_values=_MAX_VALUES, repeats=True)
    try:
        _check_model(content.get("model"))
        _check_added(content.get("added_tokens"))
        _check_steps([content.get(name) for name in _STEPS])
    except (ValueError, RecursionError) as error:
        raise ModelError(f"not a sound tokenizer: {error}", place=Place(path)) from error


def _check_model(model: Any) -> None:
    if not isinstance(model, dict):
        raise ValueError("it has no model")
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict | list) or not 0 < len(vocabulary) <= _MAX_VOCABULARY:
        found = len(vocabulary) if isinstance(vocabulary, dict | list) else "no"
        raise ValueError(f"{found} tokens in its vocabulary, allowed are 1 to {_MAX_VOCABULARY:,}")
    word = model.get("max_input_chars_per_word", 100)
    if type(word) is not int or not 0 < word <= _MAX_WORD:
        raise ValueError(f"max_input_chars_per_word is a number up to {_MAX_WORD}, not {str(word)[:40]}")
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "unk_token"):
        if len(str(model.get(name) or "")) > _MAX_TOKEN:
            raise ValueError(f"{name} is longer than {_MAX_TOKEN} characters")
    if model.get("dropout"):
        raise ValueError("it drops merges at random (dropout), so that a text would get other scores each time")


def _check_added(tokens: Any) -> None:
    if tokens is None:
        return
    if not isinstance(tokens, list) or len(tokens) > _MAX_ADDED:
        found = f"{len(tokens):,}" if isinstance(tokens, list) else "no list of"
        raise ValueError(f"{found} added tokens, allowed are {_MAX_ADDED:,}")
    for token in tokens:
        text = token.get("content") if isinstance(token, dict) else None
        if not isinstance(text, str) or not 0 < len(text) <= _MAX_TOKEN:
            raise ValueError(f"an added token is a text of 1 to {_MAX_TOKEN} characters, not {str(text)[:40]!r}")


def _check_steps(steps: Any) -> None:
    """What is done to a text before and after it is cut into tokens."""
    growth, count = 1, 0
    for key, value in _parts(steps):
        count += 1
        if key == "Regex":
            reason = why_slow(value) if isinstance(value, str) else "it is no text"
            if reason:
                raise ValueError(f"the pattern {str(value)[:60]!r} is refused: {reason}")
        elif key in ("content", "prepend", "replacement") and isinstance(value, str):
            growth *= max(1, len(value))
        elif key in ("single", "pair", "ids", "tokens") and isinstance(value, list):
            growth = max(growth, len(value))
        if growth > _MAX_GROWTH:
            raise ValueError(f"it may make a text more than {_MAX_GROWTH} times as long ({key})")
    if count > _MAX_STEPS * 10:
        raise ValueError("it has far too many steps")


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value of what is nested in each other."""
    if isinstance(value, list):
        for item in value:
            yield from _parts(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key, item
            yield from _parts(item)


_MAX_LENGTH = 4_000
_MAX_COUNT = 1_000
_MAX_UNLIMITED = 3
_QUANTIFIER = re.compile(r"(?:([*+?])|\{(\d*)(,?)(\d*)\})[?+]?")
_ATOM = re.compile(r"\\[pPk]\{[^}]*\}|\\x\{[^}]*\}|\\.|[^\\]", re.DOTALL)
_GROUP = re.compile(r"\((?:\?(?:[imsx-]*:|[imsx-]+\)|<?[=!]|>|P?<\w+>|#))?")


@dataclass
class _Group:
    """What stands in a group so far: whether its length may vary, and how many unlimited repetitions are in a row.

    `most` are those of the alternatives that have ended.
    """

    varies: bool = False
    unlimited: int = 0
    most: int = 0


def why_slow(pattern: str) -> str | None:
    """Why a pattern could take time out of proportion to the text; None when it could not."""
    if len(pattern) > _MAX_LENGTH:
        return f"longer than {_MAX_LENGTH:,} characters"
    groups = [_Group()]
    at = 0
    while at < len(pattern):
        inside: _Group | None = None
        if pattern[at] == "|":
            group = groups[-1]
            group.varies, group.most, group.unlimited = True, max(group.most, group.unlimited), 0
            at += 1
            continue
        if pattern[at] == "(":
            opened = _GROUP.match(pattern, at)
            assert opened is not None, "every parenthesis opens a group"
            at = opened.end()
            if not opened[0].endswith(")"):
                groups.append(_Group())
            continue
        if pattern[at] == ")" and len(groups) > 1:
            inside = groups.pop()
            at += 1
        elif pattern[at] == "[":
            at = _end_of_class(pattern, at)
        else:
            atom = _ATOM.match(pattern, at)
            if atom is None:
                return "it ends in a backslash"
            if re.fullmatch(r"\\[1-9kg].*", atom[0], re.DOTALL):
                return "it refers back to what was matched"
            at = atom.end()
        at, reason = _repeated(pattern, at, groups[-1], inside)
        if reason:
            return reason
    return None


def _repeated(pattern: str, at: int, around: _Group, inside: _Group | None) -> tuple[int, str | None]:
    """Past the quantifiers of what ends at `at`, and why they are refused; `inside` is that if it was a group."""
    if inside is not None:
        around.varies |= inside.varies
        around.unlimited += max(inside.most, inside.unlimited)
    while found := _QUANTIFIER.match(pattern, at):
        sign, low, comma, high = found.groups()
        if sign is None and not (low or high):
            break  # braces that stand for themselves
        unlimited = sign in ("*", "+") or (sign is None and bool(comma) and not high)
        if max(int(low or 0), int(high or 0)) > _MAX_COUNT:
            return at, f"it repeats more than {_MAX_COUNT:,} times"
        exact = sign is None and not comma
        many = unlimited or (sign is None and int(high or low or 0) > 1)
        if many and inside is not None and inside.varies:
            return at, "it repeats what itself repeats or has alternatives"
        around.varies |= not exact
        around.unlimited += unlimited
        if around.unlimited > _MAX_UNLIMITED:
            return at, "it has too many unlimited repetitions in a row"
        inside = _Group(varies=not exact)
        at = found.end()
    return at, None


def _end_of_class(pattern: str, at: int) -> int:
    """Past the bracket that closes the character class opened at `at`; classes may hold others."""
    depth, at = 1, at + 1
    if pattern[at : at + 1] == "^":
        at += 1
    if pattern[at : at + 1] == "]":
        at += 1
    while at < len(pattern) and depth:
        if pattern[at] == "\\":
            at += 1
        elif pattern[at] == "[":
            depth += 1
        elif pattern[at] == "]":
            depth -= 1
        at += 1
    return at
