"""Literals in label cells, as JSON, Python and NumPy write them: lists, tuples, sets, dictionaries. None is run."""

import json
import re
from typing import Any

_LONGEST = 20_000
_SHOWN = 60
_BRACKETS = ("[]", "()", "{}")
_QUOTED = r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'"""
_CALL = re.compile(r"(?:(?:np|numpy|torch)\.)?(?:array|tensor|set|frozenset|list|tuple)\(")
_DTYPE = re.compile(r",\s*dtype=[\w.<>|'\"=]+\s*$")
_SCALAR = re.compile(rf"\bnp\.\w+\(\s*({_QUOTED}|[\w.+-]+)\s*\)")  # NumPy 2 prints [np.str_('joy')]
_ITEM = re.compile(rf"""\s*(?:(,)|({_QUOTED})|(\w[^\s,'"\[\]]*|-?\w+))""", re.DOTALL)
_PAIR = re.compile(rf"""\s*({_QUOTED}|\w[^\s:,'"]*)\s*:\s*(\[[^\[\]]*\]|[\w.+-]+)\s*(,|$)""", re.DOTALL)
_KEY = re.compile(rf"""\s*({_QUOTED}|\w[^\s:,'"]*)\s*:""", re.DOTALL)
_NO_NAMES = ("None", "null", "nan", "NaN")
_TRUTHS = {"True": True, "true": True, "False": False, "false": False}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\n": ""}
_ESCAPED = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_EMOTICON = re.compile(r"[<>]?[:;=8xX]['*^-]?[\[\](){}]+|[\[\](){}]+['*^-]?[:;=8xX]")


def is_literal(cell: str) -> bool:
    """Whether a cell looks like a literal: it has brackets or quotation marks around it, or is NumPy's `array(…)`."""
    if len(cell) < 2:
        return False
    ends = cell[0] + cell[-1]
    if ends in _BRACKETS:
        return _EMOTICON.fullmatch(cell) is None
    return ends in ('""', "''") or (cell[-1] == ")" and _CALL.match(cell) is not None)


def parse_literal(cell: str) -> tuple[str, ...] | dict[str, Any]:
    """The items of a flat literal, or the names of a dictionary with their numbers.

    Read are `["a", "b"]`, `['a' 'b']`, `[2 14]`, `(…)`, `{…}`, `array([…], dtype=object)`, `"a", "b"`,
    `{'a': 1.0, 'b': 0.0}`, and the list in `{"choices": […]}`. Raises ValueError with the reason.
    """
    if len(cell) > _LONGEST:
        raise ValueError(f"a list of {len(cell):,} characters is too long for a list of labels")
    if not is_literal(cell):
        raise ValueError("it is not a list")
    if "np." in cell:
        cell = _SCALAR.sub(r"\1", cell)
    call = _CALL.match(cell)
    if call is not None and cell[-1] == ")":
        cell = _DTYPE.sub("", cell[call.end() : -1]).strip()
        if not cell:
            return ()
    inner = cell[1:-1] if cell[:1] + cell[-1:] in _BRACKETS else cell
    if cell[:1] == "{" and _KEY.match(inner):
        return _dictionary(inner)
    return _items(inner)


def quoting_error(name: str) -> str | None:
    """What is wrong with the brackets or quotation marks of a label name; None for a valid one."""
    if _EMOTICON.fullmatch(name):
        return None
    if is_literal(name.strip(",; ")):
        return "has brackets or quotation marks around it"
    open_ones: list[str] = []
    for character in name:
        if character in "([{":
            open_ones.append(character)
        elif character in ")]}" and (not open_ones or open_ones.pop() + character not in _BRACKETS):
            return "has an unbalanced bracket"
    if open_ones:
        return "has an unbalanced bracket"
    single = name.count("'") % 2 and "'" in (name[:1], name[-1:])
    return "has an unbalanced quotation mark" if single or name.count('"') % 2 else None


def _items(inner: str) -> tuple[str, ...]:
    inner, at, after_item = inner.rstrip(), 0, False
    found: list[str] = []
    kinds = set()
    while at < len(inner):
        match = _ITEM.match(inner, at)
        if match is None or (match[1] and not after_item) or match[3] in _NO_NAMES:
            break
        after_item = not match[1]
        if after_item:
            kinds.add(match.lastindex)
            if len(kinds) > 1 or inner[match.end() : match.end() + 1] in ("'", '"', "["):
                break
            found.append(_unquoted(match[2]) if match[2] else match[3])
        at = match.end()
    if at < len(inner):
        raise ValueError(f"it is not a list of names or ids, from {inner[at:].lstrip()[:_SHOWN]!r} on")
    return tuple(name for name in (item.strip() for item in found) if name)


def _dictionary(inner: str) -> tuple[str, ...] | dict[str, Any]:
    found: dict[str, Any] = {}
    inner, at = inner.rstrip(), 0
    while at < len(inner):
        match = _PAIR.match(inner, at)
        if match is None:
            raise ValueError(f"it is not a dictionary of names and numbers, from {inner[at:].lstrip()[:_SHOWN]!r} on")
        name = (_unquoted(match[1]) if match[1][0] in "'\"" else match[1]).strip()
        if name in found:
            raise ValueError(f"the name {name[:_SHOWN]!r} occurs twice")
        found[name] = _items(match[2][1:-1]) if match[2][0] == "[" else _number(match[2])
        at = match.end()
    choices: tuple[str, ...] | dict[str, Any] = choices_of(found)
    return choices


def choices_of(found: dict[str, Any]) -> Any:
    """The list in `{"choices": […]}`, as Label Studio writes it; any other dictionary unchanged."""
    only = found.get("choices") if len(found) == 1 else None
    return only if isinstance(only, list | tuple) else found


def _number(word: str) -> Any:
    if word in _TRUTHS:
        return _TRUTHS[word]
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"{word[:_SHOWN]!r} is not a number") from None


def _unquoted(quoted: str) -> str:
    """A string literal of JSON or Python without its quotation marks and escapes."""

    def character(escape: re.Match[str]) -> str:
        code = escape[1] or escape[2] or escape[3]
        if code:
            return chr(int(code, 16)) if int(code, 16) < 0x110000 else escape[0]
        return _ESCAPES.get(escape[4], escape[4])

    if quoted[0] == '"':
        try:
            return str(json.loads(quoted, strict=False))
        except ValueError:
            pass  # Python's "\x41" and the like
    return _ESCAPED.sub(character, quoted[1:-1])
