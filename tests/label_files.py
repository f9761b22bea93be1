"""What tests of label files share: writing one, and reading it as its user would."""

import csv
import io
from pathlib import Path
from typing import Any

from emotune.config.schema import DataConfig
from emotune.data.formats.base import Layout, Row, label_set
from emotune.data.formats.reading import read_files
from emotune.labels import LabelSet


def write(folder: Path, content: str | bytes, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def write_csv(folder: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("text", "label")) -> Path:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([header, *rows])
    return write(folder, file.getvalue())


def read(path: Path, label_names: list[str] | None = None, **options: Any) -> tuple[Layout, list[Row], LabelSet]:
    """Layout, rows and label set of one file."""
    config = DataConfig(**options)
    reading = read_files([path], config, label_names or config.labels)
    return reading.layout, reading.all_rows(), label_set(reading.all_rows(), reading.layout, config)


def labelled(rows: list[Row]) -> list[tuple[str, tuple[str, ...]]]:
    return [(row.text, row.names) for row in rows]
