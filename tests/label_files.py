"""Label files for tests: writing them in each format, and reading them as their user would."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
from openpyxl.utils.escape import escape
from pyarrow import parquet

from emotune.config.schema import DataConfig
from emotune.data import corpus
from emotune.data.corpus import resolve_data
from emotune.data.formats import read_files
from emotune.data.formats.base import FileFormat, Row
from emotune.data.records import Corpus, Record, label_set
from emotune.labels import LabelSet, Task

SUFFIXES = {"jsonl": ".jsonl", "parquet": ".parquet", "arrow": ".arrow", "xlsx": ".xlsx", "goemotions": ".tsv"}
SUFFIXES |= {"fasttext": ".txt", "text_label": ".txt"}


def write(folder: Path, content: str | bytes, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def write_csv(folder: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("text", "label")) -> Path:
    return write(folder, csv_of([header, *rows]))


def csv_of(rows: Sequence[Sequence[Any]]) -> str:
    file = io.StringIO(newline="")
    csv.writer(file).writerows(rows)
    return file.getvalue()


def workbook_of(sheets: Mapping[str, Sequence[Sequence[Any]]]) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append([escape(cell) if isinstance(cell, str) else cell for cell in row])
            for cell in sheet[sheet.max_row]:
                if cell.data_type == "f":
                    cell.data_type = "s"  # a text may begin with "="
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def render(records: Sequence[Record], labels: LabelSet, reader: str) -> bytes:
    """The records as a label file; `options` says how it is read."""
    rows = [(r.id, r.text, [labels.names[i] for i in r.labels]) for r in records]
    column = "labels" if labels.task is Task.MULTI_LABEL else "label"
    cells = [names if labels.task is Task.MULTI_LABEL else names[0] for _, _, names in rows]
    if reader == "jsonl":
        objects = ({"id": i, "text": t, column: cell} for (i, t, _), cell in zip(rows, cells, strict=True))
        content = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in objects)
    elif reader in ("parquet", "arrow"):
        ids, texts, _ = zip(*rows, strict=True)
        kind = pa.list_(pa.string()) if labels.task is Task.MULTI_LABEL else pa.string()
        table = pa.table({"id": pa.array(ids), "text": pa.array(texts), column: pa.array(cells, kind)})
        file = io.BytesIO()
        if reader == "arrow":
            with pa.ipc.new_stream(file, table.schema) as stream:
                stream.write_table(table)
            return file.getvalue()
        parquet.write_table(table, file, write_page_checksum=True)
        return file.getvalue()
    elif reader == "fasttext":
        content = "".join(" ".join([*(f"__label__{name}" for name in names), text]) + "\n" for _, text, names in rows)
    elif reader == "goemotions":
        ids_of = [",".join(map(str, record.labels)) for record in records]
        content = "".join(f"{text}\t{ids}\t{i}\n" for (i, text, _), ids in zip(rows, ids_of, strict=True))
    elif reader == "text_label":
        content = "".join(f"{text};{names[0]}\n" for _, text, names in rows)
    elif reader == "headerless":
        content = csv_of([(text, json.dumps(names)) for _, text, names in rows])
    elif labels.task is Task.MULTI_CLASS and reader != "xlsx":
        content = csv_of([("id", "text", "label"), *((i, text, names[0]) for i, text, names in rows)])
    elif reader == "xlsx":
        return workbook_of({"Sheet": [("id", "text", column), *((i, t, "|".join(names)) for i, t, names in rows)]})
    else:
        flags = [(i, text, *(int(name in names) for name in labels.names)) for i, text, names in rows]
        content = csv_of([("id", "text", *labels.names), *flags])
    return content.encode("utf-8")


def options(labels: LabelSet, reader: str) -> dict[str, Any]:
    """The `data` keys with which a rendered file is read as it was meant, with nothing left to detect."""
    column = "labels" if labels.task is Task.MULTI_LABEL else "label"
    keys: dict[str, Any] = {"format": reader, "task": str(labels.task), "labels": list(labels.names)}
    if reader == "goemotions":
        keys["first_id"] = 0
    if reader == "fasttext":
        keys["delimiter"] = " "
    if reader in ("jsonl", "parquet", "arrow", "xlsx"):
        keys |= {"text_column": "text", "label_column": column}
    if reader == "table":
        named = {"label_columns": list(labels.names)} if labels.task is Task.MULTI_LABEL else {"label_column": column}
        keys |= {"delimiter": ",", "text_column": "text", **named}
    if reader == "headerless":
        keys |= {"delimiter": ",", "text_column": "1", "label_column": "2"}
    return keys


def read(path: Path, label_names: list[str] | None = None, **options: Any) -> tuple[FileFormat, list[Row], LabelSet]:
    """Format, rows and label set of one file."""
    config = DataConfig(**options)
    reading = read_files([path], config, label_names or config.labels)
    return reading.format, reading.all_rows(), label_set(reading, config)


def load_corpus(config: DataConfig, splits: Sequence[str] = ("train", "valid")) -> Corpus:
    return corpus.load_corpus(resolve_data(config), splits)


def load_split(config: DataConfig, *args: Any, **options: Any) -> tuple[str, Corpus]:
    return corpus.load_split(resolve_data(config), *args, **options)


def labelled(rows: list[Row]) -> list[tuple[str, tuple[str, ...]]]:
    return [(row.text, row.names) for row in rows]
