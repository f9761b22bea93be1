"""Parameters chosen by name: in full, or by a pattern of the shell's kind (`*.bias`, `bert.encoder.layer.1?.*`)."""

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from emotune.errors import ConfigError

_SHOWN = 3


def matching(names: Sequence[str], patterns: Sequence[str], key: str) -> set[str]:
    """The names that any of the patterns matches as a whole, upper and lower case told apart.

    Raises ConfigError, which names the configuration key, for a pattern that matches none: it is a mistake that would
    go unnoticed.
    """
    found: set[str] = set()
    for pattern in patterns:
        matched = {name for name in names if name == pattern or fnmatchcase(name, pattern)}
        if not matched:
            raise ConfigError(f"{key}: {pattern!r} matches no parameter of this model", hint=_hint(names, pattern))
        found |= matched
    return found


def _hint(names: Sequence[str], pattern: str) -> str:
    below = f"{pattern.rstrip('.*')}.*"
    if any(fnmatchcase(name, below) for name in names):
        return f"Did you mean {below!r}?"
    word = pattern.strip("*.")
    within = [name for name in names if word and word.casefold() in name.casefold()]
    near = within or difflib.get_close_matches(word, names, n=_SHOWN, cutoff=0.6)
    if near:
        more = ", …" if len(near) > _SHOWN else ""
        return f"A name is matched as a whole; near are {', '.join(near[:_SHOWN])}{more}"
    parts = dict.fromkeys(".".join(name.split(".")[:2]) for name in names)
    return f"It has {', '.join(f'{part}.*' for part in parts)}"
