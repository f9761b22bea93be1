"""Excel workbooks (extra `xlsx`): one sheet, a table with a header. The line of a place is the row of the sheet."""

import io
import warnings
from collections.abc import Iterator
from typing import Any

from emotune.data.formats.base import Content, FileFormat, Reader, ReadOptions, Row
from emotune.data.formats.columns import Grid, read_columns, recognise_columns
from emotune.data.formats.packed import is_workbook, require_valid_zip
from emotune.data.formats.table import require_different_names
from emotune.errors import DataError, EmotuneError, Place, did_you_mean, missing_library

_SUFFIXES = (".xlsx", ".xlsm")
_FORMULA_ERROR = "e"
_MOST_ROWS = 1 << 20
_AGAIN = "Save it again, or export the sheet as CSV."
Rows = list[tuple[int, list[str]]]


def recognise(content: Content, options: ReadOptions) -> FileFormat | None:
    called = content.name.casefold().endswith(_SUFFIXES)
    if options.format is None and not called and not is_workbook(content.raw):
        return None
    if not is_workbook(content.raw):
        raise DataError("this is not a valid Excel workbook (.xlsx)", place=Place(content.path), hint=_AGAIN)
    sheet, rows = _load(content, options.config.sheet)
    grid = _grid(content, rows)
    require_different_names(grid)
    return recognise_columns(grid, options, FileFormat("xlsx", f"Excel workbook, sheet {sheet!r}", sheet=sheet))


def _grid(content: Content, rows: Rows) -> Grid:
    """The cells below the first row that is not blank, as text, as a CSV export has them."""
    line, header = rows[0]
    columns = [name.strip() for name in header]
    while not columns[-1]:
        columns.pop()

    def below() -> Iterator[tuple[int, list[str]]]:
        for number, cells in rows[1:]:
            if any(cell.strip() for cell in cells[len(columns) :]):
                message = f"the row has {len(cells)} cells, the header has {len(columns)}"
                raise DataError(message, place=Place(content.path, number), hint="Give each column a name.")
            yield number, cells[: len(columns)] + [""] * (len(columns) - len(cells))
        if len(rows) == 1:
            hint = "Add rows, or give another file."
            raise DataError("there are no rows below the header", place=Place(content.path, line), hint=hint)

    return Grid(content.path, columns, line, below, kind="schema")


def _load(content: Content, sheet: str | None, *, required: bool = True) -> tuple[str, Rows]:
    """A sheet's name and its rows that are not blank, as text, with their numbers: the named one, else the only one.

    `required`: a named sheet must exist. Raises DataError for an invalid workbook, and EmotuneError without openpyxl.
    """
    try:
        import openpyxl
    except ImportError:
        raise missing_library("reading Excel workbooks", "openpyxl", "xlsx", Place(content.path)) from None
    require_valid_zip(content.path, content.raw)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and other parts that are not read
            book = openpyxl.load_workbook(io.BytesIO(content.raw), read_only=True, data_only=True, keep_links=False)
            for found in book.worksheets:
                found.reset_dimensions()  # written by others, they may be too small
            named = sheet if required or sheet in book.sheetnames else None
            chosen = _named(content, book, named) if named is not None else _only_filled(content, book)
            return chosen.title, list(_rows(content, chosen))
    except EmotuneError:
        raise
    except Exception as error:  # the library raises errors of every kind for an invalid file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"not a valid Excel workbook: {reason}", place=Place(content.path), hint=_AGAIN) from None


def _named(content: Content, book: Any, sheet: str) -> Any:
    found = next((one for one in book.worksheets if one.title == sheet), None)
    if found is None:
        hint = did_you_mean(sheet, [one.title for one in book.worksheets])
        raise DataError(f"the workbook has no sheet {sheet!r}", place=Place(content.path), hint=hint)
    if next(_rows(content, found), None) is None:
        hint = "Name another sheet: --set data.sheet=NAME"
        raise DataError(f"the sheet {sheet!r} is empty", place=Place(content.path), hint=hint)
    return found


def _only_filled(content: Content, book: Any) -> Any:
    filled = [one for one in book.worksheets if next(_rows(content, one), None) is not None]
    if not filled:
        raise DataError("the workbook is empty", place=Place(content.path), hint="Download or save it again.")
    if len(filled) > 1:
        listed = ", ".join(repr(one.title) for one in filled)[:200]
        hint = f"Name the one with the texts: --set data.sheet={filled[0].title!r}"
        raise DataError(
            f"{len(filled)} sheets of the workbook have cells: {listed}", place=Place(content.path), hint=hint
        )
    return filled[0]


def _rows(content: Content, sheet: Any) -> Iterator[tuple[int, list[str]]]:
    """The cells of each row that is not blank, up to the last filled one, with the number of the row."""
    for number, row in enumerate(sheet.iter_rows(), start=1):
        if number > _MOST_ROWS:
            message = f"the sheet has more than {_MOST_ROWS:,} rows"
            raise DataError(message, place=Place(content.path), hint="Save it as CSV, in UTF-8.")
        values = []
        for cell in row:
            if cell.data_type == _FORMULA_ERROR:
                message = f"the cell has {cell.value}, the error of a formula"
                raise DataError(message, place=Place(content.path, number), hint="Correct it in the workbook.")
            values.append(_text(cell.value))
        while values and not values[-1]:
            values.pop()
        if any(value.strip() for value in values):
            yield number, values


def _text(value: Any) -> str:
    from openpyxl.utils.escape import unescape

    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(unescape(value) if isinstance(value, str) and "_x" in value else value)


def read(content: Content, file_format: FileFormat) -> Iterator[Row]:
    return read_columns(_grid(content, _load(content, file_format.sheet, required=False)[1]), file_format)


READER = Reader("xlsx", recognise, read)
