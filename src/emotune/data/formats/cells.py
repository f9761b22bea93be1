"""Label cells: one name, several joined names, a literal, ids, a 0/1 vector or shares; and the cells of 0/1 columns."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import replace
from typing import Any

from emotune.data.formats.base import LABEL_ID, MOST, FileFormat, ReadOptions
from emotune.data.formats.label_ids import FIRST_ID_HINT, NameList, Schema, names_if_ids, names_of_ids
from emotune.data.formats.literals import choices_of, is_literal, parse_literal, quoting_error
from emotune.errors import DataError, Place
from emotune.labels import KNOWN

KNOWN_NAMES = frozenset(name for labels in KNOWN.values() for name in labels.names)
MARK = "__label__"  # before each label of fastText
_SHOWN = 60


def shown(value: Any) -> str:
    """A cell's value as an error message quotes it."""
    return repr(value if not isinstance(value, str) else value[:_SHOWN])[: _SHOWN + 20]


# The cells of columns with one label each

BINARY = "0/1"
_OWN = "\0the name of the column"
# The forms of 0/1 columns. The first is how people, pandas (True), JSON and Parquet write them.
FORMS: Mapping[str, Mapping[Any, bool]] = {
    BINARY: {
        **dict.fromkeys(("0", "0.0", "false", 0), False),
        **dict.fromkeys(("1", "1.0", "true", 1), True),
    },
    "yes/no": {"yes": True, "no": False},
    "y/n": {"y": True, "n": False},
    "t/f": {"t": True, "f": False},
    "+/-": {"+": True, "-": False},
    "x/blank": {"x": True, "": False},
    "✓/blank": {**dict.fromkeys("✓✔☑√*•", True), "": False},
    "1/blank": {"1": True, "1.0": True, 1: True, "": False},
    "true/blank": {"true": True, "": False},
    "yes/blank": {"yes": True, "": False},
    "y/blank": {"y": True, "": False},
    "t/blank": {"t": True, "": False},
    "name/blank": {_OWN: True, "": False},
    "1,0/0,0": {"1,0": True, "0,0": False, "1": True, "0": False},
}
_COUNTS = {
    BINARY: "neither 0 nor 1. Allowed are 0, 0.0, False and 1, 1.0, True",
    "yes/no": "neither yes nor no",
    "y/n": "neither y nor n",
    "t/f": "neither t nor f",
    "+/-": "neither + nor -",
    "✓/blank": "neither a mark such as ✓ nor blank",
    "name/blank": "neither the name of the column nor blank",
    "1,0/0,0": "neither 0,0 nor 1,0",
}
WITH_BLANKS = frozenset(form for form, values in FORMS.items() if "" in values)
_HIDDEN = {"": "blank", "-1": "-1", "-1.0": "-1", "?": "?"}
SOFT, GRADED = "soft", "graded"
_MINUS_ONE = "-1 often says that a row has no labels: remove such rows."
_LEAVE_OUT = "If this column is no label, name only those that are: --set data.label_columns=[A,B,…]"


def is_flag(value: Any, form: str = BINARY) -> bool:
    """Whether a cell is 0 or 1, or what stands for them in a form of `FORMS`."""
    return _flag_of(value, form) is not None


def own_name(value: Any, column: str) -> Any:
    """The cell, or what stands for the name of its own column, where that is no mark such as `x`."""
    if not isinstance(value, str) or len(value) < len(column) or value.strip().casefold() != column.casefold():
        return value
    return value if is_flag_of_any_form(value) else _OWN


def is_flag_of_any_form(value: Any) -> bool:
    """Whether a cell is 0 or 1, or what stands for them in any form of `FORMS`, such as a blank."""
    return any(is_flag(value, form) for form in FORMS)


def _flag_of(value: Any, form: str) -> bool | None:
    if isinstance(value, list | dict):
        return None
    value = value.strip().casefold() if isinstance(value, str) else "" if value is None else value
    return FORMS[form].get(value)


def flag(value: Any, place: Place, form: str = BINARY) -> bool:
    """The value of a 0/1 cell; raises DataError for anything else."""
    found = _flag_of(value if form != "name/blank" else own_name(value, str(place.column)), form)
    if found is None:
        what = "the cell is empty," if value is None else f"{shown(value)} is"
        number = number_of(value)
        hint = "Correct the cell."
        if hidden(value) == "-1":
            hint = _MINUS_ONE
        elif number is not None and form == BINARY:
            hint = "Grades, positive from N on: --set data.values=graded --set data.positive_from=N."
            if 0 <= number <= 1:
                hint = f"Shares from 0 to 1 as soft targets: --set data.values=soft. {hint}"
        elif hidden(value) == "blank" and form == BINARY:
            hint = "Write 0 or 1 in it."
        elif is_flag_of_any_form(value):
            hint = "Write the cells of all label columns alike."
        allowed = _COUNTS.get(form, f"neither {form.removesuffix('/blank')} nor blank")
        raise DataError(f"{what} {allowed}", place=place, hint=f"{hint} {_LEAVE_OUT}")
    return found


def number_of(value: Any) -> float | None:
    """The finite number in a cell, also with a decimal comma; None for anything else."""
    if isinstance(value, str):
        value = value.strip().replace(",", ".")
    elif isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def grade(value: Any, values: str, place: Place) -> float:
    """The number in a column of `soft` or `graded` values; raises DataError for anything else."""
    found = number_of(value)
    if found is None or (values == SOFT and not 0 <= found <= 1):
        what = "the cell is empty," if value is None or value == "" else f"{shown(value)} is"
        allowed = "not a number from 0 to 1" if values == SOFT else "not a number"
        raise DataError(f"{what} {allowed} (data.values={values})", place=place, hint=f"Correct it. {_LEAVE_OUT}")
    return found


def hidden(value: Any) -> str | None:
    """How a cell without a label reads: `blank`, or -1 or ?, as competitions hide labels; None for another cell."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    cell = "" if value is None or value != value else str(value).strip()
    return _HIDDEN.get(cell)


def form_of(columns: Iterable[Counter[Any]]) -> str:
    """The form of `FORMS` that most of these cells have; the first of equal ones.

    Blanks count only beside positives, and not beside what else is negative, such as 0 beside 1.
    """
    cells = sum(columns, Counter[Any]())
    found = {form: flags_in(cells, form) for form in FORMS}
    negative = {mark for form in FORMS.keys() - WITH_BLANKS if found[form][False] for mark in FORMS[form]}
    blank = {form for form in WITH_BLANKS if not found[form][True] or not negative.isdisjoint(FORMS[form])}
    return max(FORMS, key=lambda form: 0 if form in blank else found[form].total())


def flags_in(cells: Counter[Any], form: str) -> Counter[bool]:
    """How many of the cells are positive and negative in a form of `FORMS`; cells of another kind are not counted."""
    found: Counter[bool] = Counter()
    for cell, number in cells.items():
        value = _flag_of(cell, form)
        if value is not None:
            found[value] += number
    return found


# The cells of a column of labels

_VECTOR = re.compile(r"[01](?:\.0*)?(?:[ \t,;|]+[01](?:\.0*)?)+")
_BITS: Mapping[Any, bool] = {
    **dict.fromkeys(("0", "0.", "0.0", "False", "false", 0), False),
    **dict.fromkeys(("1", "1.", "1.0", "True", "true", 1), True),
}
_QUOTE = re.compile(r"""[\[({:,\s]['"]""")
_DIGITS = re.compile(r"[01]{2,}")
_WHOLE = re.compile(r"(-?[0-9]{1,9})(?:\.0*|,0+)")
_DECIMAL_COMMA = re.compile(r"[0-9]{1,9},0+")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_BETWEEN_NUMBERS = re.compile(r"[\s,;|]+")
_SPELT = {"\\n": "\n", "\\t": "\t", "none": ""}
_ALWAYS = "|;"  # no name contains them
_BETWEEN_NAMES = ("#", " / ", " + ", " & ", " and ", "/", "+", "&")
_LONGEST_PART = 30


def is_list(cell: str) -> bool:
    """Whether a label cell is a literal in brackets, or a 0/1 vector with delimiters."""
    return (is_literal(cell) and cell[0] not in "'\"") or _VECTOR.fullmatch(cell) is not None


def pieces(cell: str, delimiter: str | None) -> tuple[str, ...]:
    """The names or ids in a label cell; at most one when there is no delimiter."""
    parts = [cell] if not delimiter else cell.split(delimiter)
    return tuple(p for p in (part.strip() for part in parts) if p)


def configured_delimiter(options: ReadOptions) -> str | None:
    """The delimiter that `data.label_delimiter` names; empty: a cell is one label; None: it is to be detected."""
    configured = options.config.label_delimiter
    return None if configured is None else _SPELT.get(configured, configured)


def joining(cells: Set[str], options: ReadOptions) -> str | None:
    """The delimiter between several names in one of these cells, as configured or else detected; None without one.

    Detected is a delimiter that cuts a cell into names that are known or occur in other cells too. A blank must leave
    known names or ids, since names such as `very sad` contain blanks. A sign that may belong to a name, such as `/`,
    must leave names that are known or are other cells, wherever it occurs.
    """
    configured = configured_delimiter(options)
    if configured is not None:
        return configured or None
    known = KNOWN_NAMES if options.label_names is None else {n.casefold() for n in options.label_names}
    if all(cell.casefold() in known for cell in cells):
        return None
    for delimiter in ("|", ";", "\n", "\t", ",", " "):
        if not any(delimiter in cell for cell in cells):
            continue
        cut = [pieces(cell, delimiter) for cell in cells]
        count = Counter(piece for found in cut for piece in set(found))
        sure = {p for p in count if delimiter in _ALWAYS or p.casefold() in known or LABEL_ID.fullmatch(_whole(p))}
        if delimiter in ",\n\t":
            sure |= {p for p, n in count.items() if n > 1}
        if any(len(found) > 1 and sure.issuperset(found) for found in cut):
            return delimiter
    names = known | {cell.casefold() for cell in cells}
    for delimiter in _BETWEEN_NAMES:
        cut = [pieces(cell, delimiter) for cell in cells if delimiter in cell]
        if cut and all(len(found) > 1 and names.issuperset(map(str.casefold, found)) for found in cut):
            return delimiter
    return None


def label_format(
    cells: Counter[Any],
    file_format: FileFormat,
    options: ReadOptions,
    place: Place,
    schema: Schema = (),
    keys: Counter[str] | None = None,
) -> FileFormat:
    """The format with the form of its label cells: joined names, literals, ids of names, 0/1 vectors or shares.

    cells    how often each value occurs: text without blanks around it, a list as a tuple
    keys     how often each name occurs in objects of shares
    place    the first row, for questions about all cells
    schema   the names of the label ids, where the file or its data set has them

    Raises DataError for 0/1 vectors whose names are not known, and for cells that may be ids with a decimal comma.
    """
    texts = Counter({cell: n for cell, n in cells.items() if isinstance(cell, str) and cell})
    literals = {cell for cell in texts if is_literal(cell)}
    if options.config.label_delimiter is None and literals:
        most = 2 * sum(texts[c] for c in literals) >= texts.total()
        file_format = replace(file_format, lists=most or all(map(_is_quoted, literals)))
    if file_format.label_delimiter is None:
        plain = texts.keys() - literals if file_format.lists else texts.keys()
        file_format = replace(file_format, label_delimiter=joining(plain, options) if plain else None)
    if texts and options.config.label_delimiter is None and all(map(_DECIMAL_COMMA.fullmatch, texts)):
        hint = "Ids: --set data.label_delimiter=none; two values each: --set data.label_delimiter=,"
        message = f"all labels are like {shown(next(iter(texts)))}: ids with a decimal comma, or two values each?"
        raise DataError(message, place=place, hint=hint)
    vector = vector_format(cells, file_format, options, place, schema)
    if vector is not None:
        return vector
    items, bracketed = Counter(keys or ()), bool(keys) or any(cell[0] not in "'\"" for cell in literals)
    several = False
    for cell, number in cells.items():
        try:
            found = _parsed(cell, file_format, place)
        except DataError:  # the reader refuses it, with its line
            continue
        several = several or len(found) > 1
        items.update(dict.fromkeys(found, number))
    listed = bool(keys) or any(isinstance(cell, tuple) for cell in cells) or (file_format.lists and bracketed)
    names = names_if_ids(place.path, items, options, schema)
    several = listed or bool(file_format.label_delimiter) or several
    lists = file_format.lists or (listed and not texts)  # beside lists of JSON, a string is one name
    return replace(file_format, several=several, lists=lists, id_names=names)


def looks_joined(name: str) -> str | None:
    """The delimiter that would cut a label name into several that look like names; None without one."""
    for delimiter in (",", *_BETWEEN_NAMES):
        found = pieces(name, delimiter)
        if len(found) > 1 and all(part[0].isalpha() and 1 < len(part) <= _LONGEST_PART for part in found):
            return delimiter
    return None


def _parsed(value: Any, file_format: FileFormat, place: Place) -> tuple[str, ...] | Mapping[str, Any]:
    """The names or ids, as text, of a cell or of a value in a JSON or Parquet file; of shares, the dictionary."""
    if value is None:
        return ()
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list | tuple):
        return tuple(name for v in value for name in [_item(v, place).strip()] if name)
    if not isinstance(value, str):
        return (_item(value, place),)
    cell = value.strip()
    if not file_format.lists or not (is_literal(cell) or quoting_error(cell)):
        return tuple(map(_whole, pieces(cell, file_format.label_delimiter)))
    try:
        found = parse_literal(cell)
    except ValueError as error:
        hint = "Write it as a list of names in quotation marks, or as names joined by |."
        raise DataError(f"{shown(cell)}: {error}", place=place, hint=hint) from None
    return found if isinstance(found, Mapping) else tuple(map(_whole, found))


def _is_quoted(literal: str) -> bool:
    """Whether a literal has names in quotation marks within brackets, as no name of a label has."""
    return literal[0] in "[{" and _QUOTE.search(literal) is not None


def _item(value: Any, place: Place) -> str:
    if isinstance(value, str):
        return _whole(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63:
        return str(value)
    hint = 'Write names or ids, such as ["joy", "love"], or shares, such as {"joy": 0.9, "love": 0.1}.'
    raise DataError(f"a label is a name or an id, not {shown(value)}", place=place, hint=hint)


def _are_shares(items: tuple[str, ...]) -> bool:
    """Whether a cell has several numbers of which one is no id, such as a share or -1."""
    if not items or items[0][:1] not in "+-.0123456789":
        return False
    numbers = [number for item in items for number in _BETWEEN_NUMBERS.split(item)]
    return (
        len(numbers) > 1
        and all(map(_NUMBER.fullmatch, numbers))
        and not all(LABEL_ID.fullmatch(_whole(number)) for number in numbers)
    )


def _whole(item: str) -> str:
    """An id without the decimals that it has in an integer column that once had a gap: 3.0 or 3,0 is 3."""
    match = _WHOLE.fullmatch(item) if "." in item or "," in item else None
    return item if match is None else match[1]


# 0/1 vectors


def vector_format(
    cells: Counter[Any], file_format: FileFormat, options: ReadOptions, place: Place, schema: Schema = ()
) -> FileFormat | None:
    """The format of cells that are 0/1 vectors, one value for each label; None for other cells.

    They are vectors when nearly all have one length of at least 2 and only 0 and 1 in them, unless they may be lists of
    the ids 0 and 1 and the known names are more than the values. Raises DataError when the names are not known.
    """
    if configured_delimiter(options) == "":
        return None
    lengths: Counter[int] = Counter()
    sure, filled = False, 0
    for cell, number in cells.items():
        bits = _vector(cell, file_format)
        filled += number * (cell not in ("", None))
        if bits is not None:
            lengths[len(bits)] += number
            repeated = len(bits) > 2 or bits[0] == bits[1]
            sure = sure or (cell[0] == "0" if _is_number(cell) else repeated)
    length, number = lengths.most_common(1)[0] if lengths else (0, 0)
    # where an id would occur twice, or begin with 0, a cell is no list of ids: then most cells decide
    if length < 2 or (number < MOST * filled and not (sure and length > 2 and 2 * number > filled)):
        return None
    by_id = names_of_ids(place.path, options, schema)
    if not sure:  # [0, 1] may be two ids, 10 and 11 are ids
        numbers = length == 2 and not by_id and all(map(_is_number, filter(None, cells)))
        if number < filled or numbers or len(by_id) not in (0, length):
            return None
    hint = "Name the labels in the order of the values: --set data.labels=[A,B,…], or one a line in labels.txt beside "
    hint += "the data (data.labels_file=PATH). If the cells are names: --set data.label_delimiter=none"
    if not by_id:
        raise DataError(f"the labels are 0/1 vectors of {length} values without names", place=place, hint=hint)
    if len(by_id) != length:
        message = f"the labels are 0/1 vectors of {length} values, but there are {len(by_id)} names of labels"
        raise DataError(message, place=place, hint=hint)
    return replace(file_format, several=True, vector=length, id_names={i: by_id[i] for i in sorted(by_id)})


def _is_number(cell: Any) -> bool:
    """Whether a cell is digits of 0 and 1 without delimiters, which may be a number."""
    return isinstance(cell, str) and _DIGITS.fullmatch(cell) is not None


def _vector(value: Any, file_format: FileFormat) -> tuple[bool, ...] | None:
    """The values of a 0/1 vector of at least two; None for another cell."""
    parts: Iterable[Any] = ()
    if isinstance(value, str):
        cell = value.strip()
        if file_format.lists and is_literal(cell):
            try:
                parts = parse_literal(cell)
            except ValueError:
                return None
        else:
            parts = cell if _DIGITS.fullmatch(cell) else pieces(cell, file_format.label_delimiter)
    elif isinstance(value, list | tuple):
        parts = value
    bits = tuple(_BITS.get(p) if isinstance(p, str | int | float) else None for p in parts)
    return None if len(bits) < 2 or isinstance(parts, Mapping) else _all_known(bits)


def _all_known(bits: tuple[bool | None, ...]) -> tuple[bool, ...] | None:
    known = tuple(bit for bit in bits if bit is not None)
    return known if len(known) == len(bits) else None


class NameReader:
    """Reads the label names of cells of one format. Text cells repeat: each is parsed once."""

    def __init__(self, file_format: FileFormat) -> None:
        self._format = file_format
        self._known: dict[str, tuple[str, ...]] = {}

    def names(self, value: Any, place: Place) -> tuple[str, ...]:
        """The label names of a cell; raises DataError for a cell of another kind."""
        if isinstance(value, str) and value in self._known:
            return self._known[value]
        found = self.read(value, place)
        if isinstance(found, Mapping):
            raise DataError(f"a label is a name or an id, not {shown(value)}", place=place)
        return found

    def read(self, value: Any, place: Place) -> tuple[str, ...] | Mapping[str, Any]:
        """The label names of a cell, or its names with their shares; raises DataError for a cell of another kind."""
        if isinstance(value, str) and value in self._known:
            return self._known[value]
        found = self._vector_names(value, place) if self._format.vector else _parsed(value, self._format, place)
        if isinstance(found, Mapping):
            by_id = self._format.id_names
            return {self._named(name, place): share for name, share in found.items()} if by_id else found
        if not self._format.vector:
            found = self._checked(found, value, place)
        if isinstance(value, str):
            self._known[value] = found
        return found

    def _checked(self, found: tuple[str, ...], value: Any, place: Place) -> tuple[str, ...]:
        """The names of these ids, or the names themselves; raises DataError for other numbers and an id twice."""
        if any(MARK in item for item in found):
            hint = "Remove the mark, and write | between several labels."
            raise DataError(f"fastText's mark {MARK} is in the label {shown(value)}", place=place, hint=hint)
        if not self._format.id_names and _are_shares(found):
            hint = "Shares from 0 to 1: one column for each label, with --set data.values=soft "
            hint += "--set data.label_columns=[A,B,…]; or a dictionary such as {'joy': 0.9, 'fear': 0.1}. "
            hint += "Decisions: 0/1 vectors."
            raise DataError(f"{shown(value)} has numbers that are no label ids", place=place, hint=hint)
        twice = None
        if len(set(found)) < len(found):
            twice = next((item for item in found if LABEL_ID.fullmatch(item) and found.count(item) > 1), None)
        if twice is not None:
            hint = "Correct it. 0/1 vectors, one value for each label, have the same length in all rows."
            raise DataError(f"the id {twice} occurs twice in {shown(value)}", place=place, hint=hint)
        return tuple(self._named(item, place) for item in found) if self._format.id_names else found

    def _named(self, item: str, place: Place) -> str:
        by_id = self._format.id_names
        if LABEL_ID.fullmatch(item) and int(item) in by_id:
            return by_id[int(item)]
        low, high = min(by_id), max(by_id)
        ids = f"{low} to {high}"
        if high - low >= len(by_id):
            ids = ", ".join(map(str, sorted(by_id)))[:_SHOWN]
        hint = "Correct it, or give the names of the ids: --set data.labels_file=PATH"
        if item == str(high + 1) and low == 0 and isinstance(by_id, NameList):
            hint = f"{FIRST_ID_HINT}. Else c{hint[1:]}"
        if hidden(item) == "-1":
            hint = _MINUS_ONE
        raise DataError(f"label id {shown(item)} is not one of {ids}", place=place, hint=hint)

    def _vector_names(self, value: Any, place: Place) -> tuple[str, ...]:
        length = self._format.vector
        bits = _vector(value, self._format)
        if bits is None or len(bits) != length:
            what = "the cell is empty" if value is None or value == "" else f"{shown(value)} is here"
            hint = f"Correct it: most rows have {length} values of 0 and 1."
            raise DataError(f"a row has a 0/1 vector of {length} values; {what}", place=place, hint=hint)
        return tuple(name for name, bit in zip(self._format.id_names.values(), bits, strict=True) if bit)


def unwrapped(value: Any) -> Any:
    """The list in an object `{"choices": […]}`; any other value unchanged."""
    return choices_of(value) if isinstance(value, dict) else value


def shares_of(value: Mapping[str, Any], place: Place) -> tuple[tuple[str, float], ...]:
    """The soft targets of names and shares; raises DataError unless each share is a number from 0 to 1."""
    for name, share in value.items():
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            message = f"the share of {name[:_SHOWN]!r} is a number from 0 to 1, not {str(share)[:_SHOWN]}"
            raise DataError(message, place=place, hint="Correct it; divide percentages by 100.")
    return tuple((name, float(share)) for name, share in value.items() if share)
