"""`tokenizer.json` from anybody: bounded in size, and no part of it makes a text explode or run for ever."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emotune.artifact.safety.json_files import read_object
from emotune.artifact.safety.patterns import why_slow
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
