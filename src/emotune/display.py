"""How results show themselves in Python: lines of text, HTML in a notebook, and pandas frames."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, SupportsIndex, TypeVar, overload

from emotune.errors import EmotuneError

if TYPE_CHECKING:
    import pandas as pd

FrameData = Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]
Item = TypeVar("Item")
UNDEFINED = "undefined"
_MOST_ROWS = 60  # of a table in a notebook
_NOT_IN_HTML = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
# a setting in a remedy; the value ends before a full stop or a bracket of the sentence. A whole command stays
_SETTING = re.compile(
    r"emotune [a-z]+ .*|--set ([a-z_]+)\.([\w.]+)=(\[[^\]]*\]|'[^']*'|\"[^\"]*\"|,|[^\s;,)]*[^\s;,).])"
)
# no colours: those of the page serve its light and its dark mode
_TABLE = "border-collapse:collapse;margin:.4em 0"
_CAPTION = "text-align:left;font-weight:bold"


@dataclass(frozen=True)
class Table:
    """A header and rows of cells as text."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Whether each column holds numbers, aligned right; the first never does."""
        columns = list(zip(*self.rows, strict=True)) or [()] * len(self.header)
        numbers = (all(c in ("", UNDEFINED) or c.lstrip("+-> ")[:1].isdigit() for c in column) for column in columns)
        return tuple(i > 0 and each for i, each in enumerate(numbers))


class Shown:
    """The base of results that show themselves: a class says what its lines, tables and frame are."""

    def _lines(self) -> Iterable[str]:
        """Return the result in sentences."""
        return ()

    def _tables(self) -> Iterable[tuple[str, Table]]:
        """Return tables with their captions."""
        return ()

    def _data(self) -> FrameData:
        """Return the columns of the frame by name, or its rows."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return "\n".join(str(clean(in_python(line))) for line in self._lines())

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the lines, and the tables."""
        parts = [f'<p style="margin:.3em 0">{_escaped(in_python(line))}</p>' for line in self._lines()]
        parts += [_html_table(table, caption) for caption, table in self._tables() if table.rows]
        return f'<div style="overflow-x:auto">{"".join(parts)}</div>'

    def to_frame(self) -> "pd.DataFrame":
        """Return a pandas frame; raises EmotuneError without pandas."""
        return frame(self._data())


class ShownList(list[Item], Shown):
    """A list of results that shows itself; a slice of it does too."""

    @overload
    def __getitem__(self, index: SupportsIndex) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: SupportsIndex | slice) -> "Item | Self":
        if isinstance(index, slice):
            return type(self)(super().__getitem__(index))
        return super().__getitem__(index)


def frame(data: FrameData) -> "pd.DataFrame":
    """Return a pandas frame of columns or rows; raises EmotuneError without pandas."""
    try:
        import pandas
    except ImportError:
        raise EmotuneError("a frame needs pandas, which is not installed", hint="pip install pandas") from None
    return pandas.DataFrame(data)


def clean(value: Any) -> Any:
    """A text without what HTML cannot hold: ␀ and the like for control characters, � for halves of surrogate pairs.

    Other values and markup stay as they are.
    """
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return _NOT_IN_HTML.sub(lambda m: chr(0x2400 + ord(m[0])) if m[0] < " " else "�", value)


def in_python(text: str) -> str:
    """Return a sentence with keyword arguments: for `--set data.task=multi_label`, `data__task='multi_label'`."""
    import yaml  # when it is needed

    def keyword(found: re.Match[str]) -> str:
        section, key, value = found.groups()
        if section is None:
            return found[0]
        try:
            value = value if value == "…" else repr(yaml.safe_load(value))
        except yaml.YAMLError:
            value = repr(value)
        return f"{section}__{key.replace('.', '__')}={value}"

    return _SETTING.sub(keyword, text)


def _escaped(text: str) -> str:
    from html import escape  # when it is needed: a prediction on the command line starts faster

    shown = escape(clean(text))
    return shown if text.isascii() else f"<bdi>{shown}</bdi>"  # its direction does not affect its surroundings


def _html_table(table: Table, caption: str) -> str:
    """Return a table in HTML; of a very long one, the first rows."""
    sides = ["right" if number else "left" for number in table.numeric]

    def row(cells: Sequence[str], tag: str) -> str:
        each = zip(cells, sides, strict=True)
        shown = "".join(f'<{tag} style="text-align:{side}">{_escaped(cell)}</{tag}>' for cell, side in each)
        return f"<tr>{shown}</tr>"

    head = f'<caption style="{_CAPTION}">{_escaped(caption)}</caption>' if caption else ""
    rows = "".join(row(cells, "td") for cells in table.rows[:_MOST_ROWS])
    left = len(table.rows) - _MOST_ROWS
    more = f"<p>… {left:,} more rows: to_frame() has all.</p>" if left > 0 else ""
    body = f"<thead>{row(table.header, 'th')}</thead><tbody>{rows}</tbody>"
    return f'<table cellpadding="4" style="{_TABLE}">{head}{body}</table>{more}'
