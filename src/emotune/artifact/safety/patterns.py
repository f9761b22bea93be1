"""Whether a regular expression could run for ever on some text.

The tokenizers library matches by backtracking (Oniguruma): a repetition within a repetition takes exponential time on
a text made for it. The patterns of published tokenizers have none.
"""

import re
from dataclasses import dataclass

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
