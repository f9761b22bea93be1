"""What rows become when they are written: cells of a table, values of an object."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from emotune.data.formats.base import Layout, Row
from emotune.errors import DataError


def columns_of(layout: Layout) -> list[str]:
    """The columns that are written: id, text, and those of the labels."""
    labels = list(layout.label_columns) or [str(layout.label_column)]
    return [*([layout.id_column] if layout.id_column is not None else []), str(layout.text_column), *labels]


def values_of(row: Row, layout: Layout) -> list[Any]:
    """What stands in the columns: 0/1, a list, one name, or an object of shares; ids where the layout has ids."""
    start: list[Any] = [row.id] if layout.id_column is not None else []
    start.append(row.text)
    if layout.label_columns:
        require_no_shares(row)
        return [*start, *(int(name in row.names) for name in layout.label_columns)]
    if row.shares is not None:
        return [*start, dict(row.shares)]
    found = written_names(row, layout)
    if layout.lists:
        return [*start, found]
    return [*start, one_of(found, layout)]


def cells_of(row: Row, layout: Layout) -> list[str]:
    """The same as text."""
    require_no_shares(row)
    return ["" if value is None else _cell(value) for value in values_of(row, layout)]


def _cell(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)


def written_names(row: Row, layout: Layout) -> list[Any]:
    """The labels of a row as the layout has them: names, or ids."""
    if not layout.id_names:
        return list(row.names)
    ids = {name: i for i, name in layout.id_names.items()}
    return [ids[name] for name in row.names]


def one_of(found: Sequence[Any], layout: Layout) -> Any:
    """The one value of a label cell; raises DataError where a row of several labels finds no room."""
    if layout.label_delimiter:
        return layout.label_delimiter.join(map(str, found))
    if len(found) != 1:
        raise DataError(f"a row of this layout has one label, this one has {len(found)}")
    return found[0]


def require_no_shares(row: Row) -> None:
    """Raise DataError for a row of soft targets, which this layout cannot carry."""
    if row.shares is not None:
        raise DataError("this layout has no room for soft targets")


def text_object(row: Row, layout: Layout) -> Mapping[str, Any]:
    """The row as a JSON object."""
    return {
        name: value
        for name, value in zip(columns_of(layout), values_of(row, layout), strict=True)
        if value is not None or name != layout.id_column
    }
