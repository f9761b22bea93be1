"""Checks of `tokenizer.json`: bounded sizes, bounded growth of texts, and no slow regular expressions."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotune.artifact.safety.files import items, read_json
from emotune.errors import ModelError, Place

# the largest in use, with 256,000 tokens, has 34 MB and 2 million values
MAX_BYTES = 40 << 20
MAX_VALUES = 3_000_000
_MAX_VOCABULARY = 1_000_000
_MAX_ADDED = 20_000
_MAX_TOKEN = 1_000
_MAX_WORD = 1_000
_MAX_STEPS = 200
_MAX_GROWTH = 64
_STEPS = ("normalizer", "pre_tokenizer", "post_processor")


def require_safe_tokenizer(path: Path) -> None:
    """Raise ModelError for a tokenizer that is too large, makes texts grow, or has a slow regular expression."""
    content = read_json(path, max_bytes=MAX_BYTES, max_values=MAX_VALUES, repeats=True)
    try:
        _check_model(content.get("model"))
        _check_added(content.get("added_tokens"))
        _check_steps([content.get(name) for name in _STEPS])
    except (ValueError, RecursionError) as error:
        raise ModelError(f"not a valid tokenizer: {error}", place=Place(path)) from error


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
        raise ValueError("it drops merges at random (dropout), so the scores of a text would vary")


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
    """Check what is done to a text before and after it is split into tokens."""
    growth, count = 1, 0
    for key, value in items(steps):
        count += 1
        if key == "Regex":
            reason = why_slow(value) if isinstance(value, str) else "it is not a text"
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


# Regular expressions run in Oniguruma, which backtracks. It gives up after 10 million retries at one place of a text,
# but not before: (?:\w|\w){0,20}\p{N} takes 3.3 s for a text of 200 letters, \w*\w*\w*\w*\p{N} 1.8 s for 120.
_MAX_LENGTH = 4_000
_MAX_COUNT = 1_000
_MAX_UNBOUNDED = 3
_TOKEN = re.compile(
    r"""(?P<reference>\\[1-9kg])
    | \\[pPx]\{[^}]*\} | \\.
    | (?P<class>\[\^?\]?(?:\\.|\[(?:\\.|[^\]\\])*\]|[^\]\\])*\])
    | (?P<flags>\(\?[imsx-]+\))
    | (?P<open>\((?:\?(?:[imsx-]*:|<?[=!]|>|P?<\w+>|\#))?)
    | (?P<close>\))
    | (?P<or>\|)
    | (?P<repeat>(?:(?P<sign>[*+?])|\{(?=,?\d)(?P<low>\d*)(?P<comma>,?)(?P<high>\d*)\})[?+]?)
    | .""",
    re.DOTALL | re.VERBOSE,
)


@dataclass
class _Group:
    """A group of a pattern: whether what it matches varies in length, and its unbounded repetitions in a row.

    `most` is the largest number of them in the alternatives before the current one.
    """

    varies: bool = False
    unbounded: int = 0
    most: int = 0


def why_slow(pattern: str) -> str | None:
    """Return why a pattern may take time out of proportion to the text; None if it cannot."""
    if len(pattern) > _MAX_LENGTH:
        return f"longer than {_MAX_LENGTH:,} characters"
    groups: list[_Group] = [_Group()]  # those that are open
    last: _Group | None = None  # what a repetition here would repeat
    for token in _TOKEN.finditer(pattern):
        around = groups[-1]
        if token.lastgroup == "reference":
            return "it refers back to what was matched"
        if token.lastgroup == "open":
            groups.append(_Group())
            last = None
        elif token.lastgroup == "close" and len(groups) > 1:
            last = groups.pop()
            groups[-1].varies |= last.varies
            groups[-1].unbounded += max(last.most, last.unbounded)
        elif token.lastgroup == "or":
            around.varies, around.most, around.unbounded = True, max(around.most, around.unbounded), 0
            last = None
        elif token.lastgroup == "flags":
            last = None
        elif token.lastgroup == "repeat":
            if last is None:
                return "it repeats nothing"
            low, high = int(token["low"] or 0), int(token["high"] or 0)
            unbounded = token["sign"] in ("*", "+") or (bool(token["comma"]) and not token["high"])
            if max(low, high) > _MAX_COUNT:
                return f"it repeats more than {_MAX_COUNT:,} times"
            if last.varies and (unbounded or max(low, high) > 1):
                return "it repeats what itself repeats or has alternatives"
            last = _Group(varies=token["sign"] is not None or bool(token["comma"]))
            around.varies |= last.varies
            around.unbounded += unbounded
            if around.unbounded > _MAX_UNBOUNDED:
                return "it has too many unbounded repetitions in a row"
        else:
            last = _Group()
    return None
