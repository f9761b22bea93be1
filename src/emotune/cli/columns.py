"""Tables as lines of text: as wide as they need, or fitted to the columns of a terminal."""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, chop_cells

_GAP = 2  # blanks between columns
_LONGEST_WORD = 40  # columns that a word gets before it is cut

Row = Sequence[str]


def table_lines(rows: Sequence[Row], numeric: Sequence[bool], width: int | None) -> Iterator[list[list[str]]]:
    """Yield the parts of a table, one below the other; a part has a list of lines for each row, the header first.

    rows: cells on one line each. width: columns of the terminal (None: no limit, then there is one part). Cells of a
    table that is too wide wrap at blanks. If that does not suffice, further columns form further parts, each with the
    first column again.
    """
    columns = list(zip(*rows, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    if width is not None:
        least = [_least(column, number) for column, number in zip(columns, numeric, strict=True)]
        widths = _narrowed(widths, least, width)
    for part in _parts(widths, width):
        yield [_row_lines([(row[i], widths[i], numeric[i]) for i in part]) for row in rows]


def _least(column: Row, number: bool) -> int:
    """Return the least width of a column: that of its numbers and of its longest word, within reason."""
    words = max((cell_len(word) for cell in column for word in cell.split(" ")), default=0)
    return max([min(words, _LONGEST_WORD), *(map(cell_len, column[1:]) if number else [])])


def _narrowed(widths: list[int], least: list[int], width: int) -> list[int]:
    """Return the widths with the widest columns made narrower until all fit; if they cannot, until each fits a part."""
    narrow = list(widths)
    while sum(narrow) + _GAP * (len(narrow) - 1) > width:
        wider = [i for i in range(len(narrow)) if narrow[i] > least[i]]
        if not wider:
            first = min(widths[0], max(least[0], width // 2))
            return [
                first,
                *(min(w, max(low, width - first - _GAP)) for w, low in zip(widths[1:], least[1:], strict=True)),
            ]
        narrow[max(wider, key=lambda i: narrow[i])] -= 1
    return narrow


def _parts(widths: list[int], width: int | None) -> Iterator[list[int]]:
    """Yield the columns of each part; each has at least one besides the first."""
    part = [0] if widths else []
    for i in range(1, len(widths)):
        if width is not None and len(part) > 1 and sum(widths[j] + _GAP for j in part) + widths[i] > width:
            yield part
            part = [0]
        part.append(i)
    yield part


def _row_lines(cells: Sequence[tuple[str, int, bool]]) -> list[str]:
    """Return the lines of a row of cells, each with its width and whether it is a number."""
    wrapped = [wrap(text, width) for text, width, _ in cells]
    lines = []
    for i in range(max(map(len, wrapped), default=0)):
        shown = []
        for lines_of_cell, (_, width, number) in zip(wrapped, cells, strict=True):
            text = lines_of_cell[i] if i < len(lines_of_cell) else ""
            blanks = " " * (width - cell_len(text))
            shown.append(blanks + text if number else text + blanks)
        lines.append((" " * _GAP).join(shown).rstrip())
    return lines


def wrap(text: str, width: int, *, others: str = "") -> list[str]:
    """Return the text in lines of at most `width` columns, broken at blanks; only longer words are cut.

    others: the indent of the lines after the first.
    """
    words = text.lstrip(" ")
    lines, line = list[str](), text[: len(text) - len(words)]
    for word in words.split(" "):
        joined = f"{line} {word}" if line.strip() else line + word
        if cell_len(joined) <= width or not line.strip():
            line = joined
        else:
            lines.append(line.rstrip(" "))
            line = others + word
        *cut, line = chop_cells(line, max(width, 2)) or [""]
        lines += cut
    return [*lines, line]
