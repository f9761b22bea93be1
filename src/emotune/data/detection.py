"""Which layout a label file has: found by looking, said aloud by the caller, and overridden by the configuration."""

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from emotune.config import DataConfig
from emotune.data.files import Table, numbered_lines, read_header, read_table, read_text
from emotune.data.layout import FLAGS, Layout, find_column, is_list, pieces
from emotune.data.rows import LABEL_ID
from emotune.errors import ConfigError, DataError, MissingInputError, Place, did_you_mean
from emotune.labels import KNOWN

TEXT_COLUMNS = ("text", "texts", "sentence", "content", "comment", "tweet", "message", "review", "utterance", "body")
LABEL_COLUMNS = (
    "label_name",
    "label_text",
    "label",
    "labels",
    "emotion",
    "emotions",
    "class",
    "category",
    "sentiment",
    "target",
)
# The first that is there is the id. None of them is a label; pandas writes row numbers under the last three.
ID_COLUMNS = ("id", "comment_id", "text_id", "tweet_id", "uid", "index", "unnamed: 0", "")
_SPELT_DELIMITERS = {"\\t": "\t", "tab": "\t"}
_KNOWN_NAMES = frozenset(name for labels in KNOWN.values() for name in labels.names)
_SAMPLE = 1000
_MOST = 0.9
_FEW_LABELS = 8
_SHOWN = 200


@dataclass(frozen=True)
class _Header:
    """What stands in the first row when the file is cut by this delimiter."""

    place: Place
    delimiter: str
    columns: list[str]

    def has(self, usual: Sequence[str]) -> bool:
        return find_column(None, usual, self.columns) is not None

    def asked(self, name: str, option: str) -> str:
        """The column of that name, which the configuration gives and the header must have."""
        found = find_column(name, (), self.columns)
        if found is None:
            hint = f"{did_you_mean(name, self.columns)} Set it with --set data.{option}=NAME"
            raise DataError(f"the header has no column {name!r}", place=self.place, hint=hint)
        return found


def detect(path: Path, text: str, config: DataConfig, label_names: Sequence[str] | None = None) -> Layout:
    """The layout of a file, by what the configuration says and else by looking.

    `label_names`: the names that the caller already knows (of a model, or from the configuration), in id order.
    Raises DataError when no layout fits, saying what was looked for.
    """
    label_names = label_names or None
    lines = [line for _, line in islice(numbered_lines(text), _SAMPLE)]
    delimiter = _asked_delimiter(config)
    header = _header(path, text, delimiter)
    kind = _asked_format(config) or _guessed_format(lines, header, delimiter)
    if kind == "goemotions":
        names = _names_of_ids(path, config, label_names)
        if not names:
            raise MissingInputError(
                f"the label ids need names: no file {path.parent / 'labels.txt'}",
                hint="Put the label names, one a line in id order, there or in --set data.labels_file=PATH",
            )
        return Layout("goemotions", "\t", label_delimiter=",", ids_are_names_of=names)
    if kind == "text_label":
        by = delimiter or ";"
        labels = {line.rpartition(by)[2].strip() for _, line in numbered_lines(text)} - {""}
        return Layout("text_label", by, ids_are_names_of=_names_if_ids(path, labels, config, label_names))
    if kind == "table" or len(header.columns) > 1:
        return _table_layout(path, text, config, header, label_names)
    raise DataError(
        "cannot tell how this file is laid out",
        place=Place(path, 1),
        hint="Known layouts: GoEmotions TSV, text;label, and CSV or TSV with a header. See --set data.format=…",
    )


def _asked_format(config: DataConfig) -> str | None:
    """The configured layout; whoever names a column means a table."""
    if config.format != "auto":
        return config.format
    return "table" if config.text_column or config.label_column or config.label_columns else None


def _asked_delimiter(config: DataConfig) -> str | None:
    if config.delimiter is None:
        return None
    delimiter = _SPELT_DELIMITERS.get(config.delimiter, config.delimiter)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise ConfigError(f"data.delimiter is one character (or 'tab'), not {config.delimiter!r}")
    return delimiter


def _header(path: Path, text: str, delimiter: str | None) -> _Header:
    """The first row, cut by the delimiter that gives a text column, else a label column, else the most columns."""
    candidates = []
    for by in delimiter or ",\t;|":
        try:
            line, columns = read_header(path, text, by)
        except DataError:  # a quotation mark that opens a text, in a file without a header
            line, columns = 1, []
        candidates.append(_Header(Place(path, line), by, columns))
    return max(candidates, key=lambda h: (h.has(TEXT_COLUMNS), h.has(LABEL_COLUMNS), len(h.columns)))


def _guessed_format(lines: Sequence[str], header: _Header, delimiter: str | None) -> str | None:
    if delimiter in (None, "\t") and sum(map(_is_goemotions, lines)) >= _MOST * len(lines):
        return "goemotions"
    if header.has(TEXT_COLUMNS) or (len(header.columns) > 1 and header.has(LABEL_COLUMNS)):
        return "table"
    return "text_label" if _are_text_label(lines, delimiter or ";") else None


def _is_goemotions(line: str) -> bool:
    cells = line.split("\t")
    return len(cells) >= 2 and all(LABEL_ID.fullmatch(piece) for piece in cells[1].split(","))


def _are_text_label(lines: Sequence[str], delimiter: str) -> bool:
    """Whether most lines end in something short, and those repeat."""
    labels = [line.rpartition(delimiter)[2].strip() for line in lines if delimiter in line]
    short = [label for label in labels if 0 < len(label) <= 40 and len(label.split()) <= 3]
    return len(short) >= _MOST * len(lines) and len(set(short)) <= max(_FEW_LABELS, len(lines) // 2)


def _table_layout(
    path: Path, text: str, config: DataConfig, header: _Header, label_names: Sequence[str] | None
) -> Layout:
    if not header.columns:
        read_header(path, text, header.delimiter)  # raises, since it could not be read before
    text_column = _text_column(config, header)
    layout = Layout("table", header.delimiter, text_column, find_column(None, ID_COLUMNS, header.columns))
    if config.label_columns:
        return replace(layout, label_columns=tuple(header.asked(c, "label_columns") for c in config.label_columns))
    table = read_table(path, text, header.delimiter)
    if config.label_column:
        label_column: str | None = header.asked(config.label_column, "label_column")
    else:
        label_column = find_column(None, LABEL_COLUMNS, header.columns)
        flags = _flag_columns(table, text_column, label_names)
        if label_column is None or _are_named_like_labels(flags, label_names):
            return replace(layout, label_columns=_complete(flags, header, label_names))
    at = header.columns.index(str(label_column))
    cells = {row[at].strip() for _, row in table.rows} - {""}
    by = config.label_delimiter
    if by is None:
        by = _label_delimiter(cells, label_names)
    names = _names_if_ids(path, {p for cell in cells for p in pieces(cell, by)}, config, label_names)
    return replace(layout, label_column=label_column, label_delimiter=by or None, ids_are_names_of=names)


def _text_column(config: DataConfig, header: _Header) -> str:
    if config.text_column:
        return header.asked(config.text_column, "text_column")
    found = find_column(None, TEXT_COLUMNS, header.columns)
    if found is None:
        shown = ", ".join(header.columns)[:_SHOWN]
        raise DataError(
            f"the header has no column 'text' or a like name; its columns: {shown}",
            place=header.place,
            hint="Name the column that holds the texts: --set data.text_column=NAME",
        )
    return found


def _flag_columns(table: Table, text_column: str, label_names: Sequence[str] | None) -> list[str]:
    """The columns that are labels of their own: those called like a given name, or those that are mostly 0 and 1.

    A cell of another kind in such a column is for the reader to refuse.
    """
    if label_names is not None:
        wanted = {n.casefold() for n in label_names}
        return [c for c in table.columns if c.casefold() in wanted and c != text_column]
    return [
        c
        for i, c in enumerate(table.columns)
        if c != text_column
        and c.casefold() not in ID_COLUMNS
        and sum(row[i].strip() in FLAGS for _, row in table.rows) > len(table.rows) / 2
    ]


def _are_named_like_labels(flags: Sequence[str], label_names: Sequence[str] | None) -> bool:
    """Whether 0/1 columns are the labels although there is a column of names too."""
    if label_names is not None:
        return bool(flags)
    return sum(flag.casefold() in _KNOWN_NAMES for flag in flags) > 1


def _complete(flags: Sequence[str], header: _Header, label_names: Sequence[str] | None) -> tuple[str, ...]:
    """The 0/1 columns; raises DataError when there are none, or a given label has none."""
    if not flags:
        shown = ", ".join(header.columns)[:_SHOWN]
        raise DataError(
            f"no labels: neither 0/1 columns nor a column named 'label' among {shown}",
            place=header.place,
            hint="Name it: --set data.label_column=NAME, or --set data.label_columns=[A,B,…]",
        )
    there = {flag.casefold() for flag in flags}
    missing = [name for name in label_names or () if name.casefold() not in there]
    if missing:
        raise DataError(
            f"the header has no column for {len(missing)} of the labels: {', '.join(missing)[:_SHOWN]}",
            place=header.place,
            hint="To take them for absent in every text, name the others: --set data.label_columns=[A,B,…]",
        )
    return tuple(flags)


def _label_delimiter(cells: Set[str], label_names: Sequence[str] | None) -> str | None:
    """What joins several names in one cell: a mark that cuts a cell into names that are known or stand elsewhere too.

    A blank must leave known names or ids, since names such as `very sad` have blanks of their own.
    """
    known = _KNOWN_NAMES if label_names is None else {n.casefold() for n in label_names}
    if all(cell.casefold() in known for cell in cells):
        return None
    for delimiter in ("|", ";", ",", " "):
        cut = [pieces(cell, delimiter) for cell in cells]
        count = Counter(piece for found in cut for piece in set(found))
        sure = {p for p in count if delimiter in "|;" or p.casefold() in known or LABEL_ID.fullmatch(p)}
        if delimiter == ",":
            sure |= {p for p, n in count.items() if n > 1}
        if any(len(found) > 1 and sure.issuperset(found) for found in cut):
            return delimiter
    return "," if any(map(is_list, cells)) else None


def _names_if_ids(
    path: Path, cells: Set[str], config: DataConfig, label_names: Sequence[str] | None
) -> tuple[str, ...]:
    """The names of label ids when all cells are ids that have names; nothing when they are names themselves."""
    if not all(map(LABEL_ID.fullmatch, cells)) or not cells.isdisjoint(label_names or ()):
        return ()
    return _names_of_ids(path, config, label_names)


def _names_of_ids(path: Path, config: DataConfig, label_names: Sequence[str] | None) -> tuple[str, ...]:
    """The names of label ids: from the configuration, `labels.txt` beside the file, or the names that are known."""
    if config.labels:
        return tuple(config.labels)
    source = Path(config.labels_file).expanduser() if config.labels_file else path.parent / "labels.txt"
    if not config.labels_file and not source.is_file():
        return tuple(label_names or ())
    names: list[str] = []
    for number, line in numbered_lines(read_text(source)):
        if line.strip() in names:
            raise DataError(f"the label {line.strip()!r} stands here twice", place=Place(source, number))
        names.append(line.strip())
    return tuple(names)
