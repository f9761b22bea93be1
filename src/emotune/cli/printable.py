"""What a terminal may be shown: nothing that it would obey instead of showing it.

A label, a text or the name of a file may hold escape sequences that repaint the screen or rename the window, and marks
that turn the direction of what follows.
"""

import re

_OBEYED = "\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069"
_IN_LINES = re.compile(f"[{_OBEYED}]")
_IN_ONE_LINE = re.compile(f"[{_OBEYED}\t\n]")


def printable(text: str) -> str:
    """The text with every character that a terminal obeys, line breaks and tabs aside, shown as its escape."""
    return _IN_LINES.sub(_escape, text)


def on_one_line(text: str) -> str:
    """As `printable`, with line breaks and tabs shown as escapes too."""
    return _IN_ONE_LINE.sub(_escape, text)


def json_safe(text: str) -> str:
    """JSON with the same meaning and none of those characters in it."""
    return _IN_LINES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
