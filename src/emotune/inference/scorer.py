"""Predictions as columns of Arrow tables (extra `parquet`), for whatever engine has the rows."""

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from threading import Lock
from typing import Any

from emotune.artifact.manifest import DEFAULT
from emotune.artifact.opening import FoundModel, open_model
from emotune.config.kinds import require_device_name
from emotune.errors import DataError, ModelError, did_you_mean, missing_library
from emotune.hub import local_path
from emotune.inference.classifier import DEFAULT_MAX_WINDOWS, EmotionClassifier, Rule, load
from emotune.inference.columns import ALL, DEFAULT_SEPARATOR, OutputColumns

CHUNK = 4096  # rows that are scored together
_LOADING = Lock()


class Scorer:
    """Adds the predictions of a model to the rows of Arrow tables.

    Pickled, it holds the name of the model and the options. Each process loads the model once, when it first scores;
    a model that has another manifest there than here is refused.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        text_column: str = "text",
        scores: str | int = ALL,
        separator: str | None = None,
        prefix: str = "",
        level: str | None = None,
        threshold: float | None = None,
        max_windows: int | None = DEFAULT_MAX_WINDOWS,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        """Check the model and the options, and load nothing.

        model: as for `load`; None for the model of the package. scores: `all`, `none`, or the number of the highest.
        separator: what joins the labels of a row in one text; None for a column of lists. prefix: the beginning of the
        names of all new columns. threads: those that score in each process; the rest as for `EmotionClassifier.stream`.

        Raises MissingInputError for a missing model, ModelError for an invalid one, UsageError for an invalid option,
        EmotuneError without pyarrow.
        """
        _arrow()
        require_device_name(device)
        name = os.fspath(model or DEFAULT)
        found = open_model(name)
        self._loading = (_anywhere(name), device, threads, _digest(found))
        self._options: dict[str, Any] = {"threshold": threshold, "level": level, "max_windows": max_windows}
        labels = Rule.of(found.decision, threshold, level, max_windows).labels
        self.columns = OutputColumns(labels, scores, prefix, separator or DEFAULT_SEPARATOR)
        self.joined, self.text_column, self.device = separator is not None, text_column, device
        self.missing = 0

    def __repr__(self) -> str:
        return f"<Scorer of {self._loading[0]}: {self.text_column!r} → {', '.join(map(repr, self.columns.names))}>"

    @property
    def classifier(self) -> EmotionClassifier:
        """The model, which this process loads when it is first asked for."""
        with _LOADING:
            return _loaded(os.getpid(), *self._loading)

    def schema(self, rows: Any) -> Any:
        """Return the pyarrow schema of the output for the schema of the input; raises DataError as a call does."""
        pa = _arrow()
        taken = pa.schema(rows)
        self.columns.require_free(taken.names)
        _require_texts(taken, self.text_column, pa)
        for field in self._fields(pa):
            taken = taken.append(field)
        return taken

    def __call__(self, rows: Any) -> Any:
        """Return the rows with the new columns at their end, in the order of the rows.

        rows: a pyarrow Table, RecordBatch or RecordBatchReader, which gives one of the same type; of a reader, one
        batch is in memory. Also any table with `__arrow_c_stream__` (pandas, Polars, DuckDB), which gives a Table. A
        row without a text (null) has null in all new columns, and is counted in `missing`. A blank text has no labels,
        and null as scores.

        Raises DataError for a missing text column, one that holds no texts, and for a column named as a new one.
        """
        pa = _arrow()
        if isinstance(rows, pa.RecordBatchReader):
            return pa.RecordBatchReader.from_batches(self.schema(rows.schema), map(self, rows))
        if not isinstance(rows, pa.Table | pa.RecordBatch):
            rows = _imported(rows, pa)
        schema = self.schema(rows.schema)
        new = self.score(rows.column(self.text_column))
        made = new.flatten() if isinstance(rows, pa.RecordBatch) else pa.chunked_array(new).flatten()
        return type(rows).from_arrays([*rows.columns, *made], schema=schema)

    def score(self, texts: Any) -> Any:
        """Return the predictions of texts as a pyarrow StructArray with a field for each new column.

        texts: a pyarrow array of strings, a column of another library that gives one, or a sequence. What is not a str
        is missing: see the call, also for errors.
        """
        pa = _arrow()
        column = _column(texts, pa)
        parts = [self._scored(column[i : i + CHUNK].to_pylist(), pa) for i in range(0, len(column), CHUNK)]
        return pa.concat_arrays(parts) if parts else pa.array([], pa.struct(self._fields(pa)))

    def _scored(self, texts: list[Any], pa: Any) -> Any:
        missing = [i for i, text in enumerate(texts) if not isinstance(text, str)]
        self.missing += len(missing)
        for i in missing:
            texts[i] = ""
        scores = self.classifier.scores(texts, **self._options)
        fields = self._fields(pa)
        arrays = []
        for field, values in zip(fields, self.columns.arrays(scores, joined=self.joined).values(), strict=True):
            if isinstance(values, list):  # labels; those of the highest scores are None for a blank text already
                for i in missing:
                    values[i] = None
            arrays.append(pa.array(values, field.type, from_pandas=True))
        return pa.StructArray.from_arrays(arrays, fields=fields)

    def _fields(self, pa: Any) -> list[Any]:
        labels = pa.string() if self.joined else pa.list_(pa.string())
        first, *rest = self.columns.names
        types = [pa.string() if self.columns.k and i % 2 == 0 else pa.float32() for i in range(len(rest))]
        return [pa.field(first, labels), *(pa.field(name, kind) for name, kind in zip(rest, types, strict=True))]


@lru_cache(maxsize=4)
def _loaded(process: int, model: str, device: str, threads: int | None, digest: str | None) -> EmotionClassifier:
    """Load a model, once in each process: also after a fork, which has no threads of its parent."""
    found = load(model, device=device, threads=threads)
    if found.manifest.digest != digest:
        message = f"the model {model} in process {process} is not the one that this scorer was made with"
        raise ModelError(message, hint="Copy the same model to all machines, or make a new Scorer.")
    return found


def _anywhere(name: str) -> str:
    """Return a name that means the same model in another working directory."""
    path = None if name == DEFAULT else local_path(name)
    return name if path is None else str(path.absolute())


def _digest(found: FoundModel) -> str | None:
    return None if found.manifest is None else found.manifest.digest


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise missing_library("a Scorer", error.name, "parquet") from None
    return pyarrow


def _imported(rows: Any, pa: Any) -> Any:
    """Return the Table of another library's table."""
    if not hasattr(rows, "__arrow_c_stream__"):
        raise DataError(
            f"rows is a {type(rows).__name__}, not a table", hint="Give an Arrow table, or a frame of pandas or Polars."
        )
    try:
        return pa.table(rows)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"this {type(rows).__name__} is no Arrow table: {_first_line(error)}") from None


def _column(texts: Any, pa: Any) -> Any:
    """Return a column of texts as an Array or ChunkedArray."""
    if isinstance(texts, pa.Array | pa.ChunkedArray):
        _require_strings(texts.type, "these texts", pa)
        return texts
    if hasattr(texts, "__arrow_c_stream__") or hasattr(texts, "__arrow_c_array__"):
        return _column(pa.chunked_array(texts) if hasattr(texts, "__arrow_c_stream__") else pa.array(texts), pa)
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise DataError(f"texts is a {type(texts).__name__}, not a column or a sequence of texts")
    return pa.array([text if isinstance(text, str) else None for text in texts], pa.string())


def _require_texts(schema: Any, column: str, pa: Any) -> None:
    names: Sequence[str] = schema.names
    if names.count(column) != 1:
        found = "no column" if column not in names else "more than one column"
        raise DataError(f"there is {found} {column!r} of texts", hint=did_you_mean(column, names) if names else None)
    _require_strings(schema.field(column).type, f"the column {column!r}", pa)


def _require_strings(kind: Any, what: str, pa: Any) -> None:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    if not any(check(inner) for check in checks):
        raise DataError(f"{what} has the type {kind}, not string", hint="Name the column that holds the texts.")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
