"""`emotune features`: write embeddings of labelled texts to a file, for use elsewhere."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from emotune import hub
from emotune.atomic import replaced, require_writable
from emotune.config.schema import DataConfig
from emotune.config.settings import EmbeddingConfig
from emotune.data.corpus import load_stored_splits, resolve_data
from emotune.data.records import Record, targets_of
from emotune.errors import OutputError, Place, UsageError, missing_library
from emotune.reporter import Reporter

try:
    from emotune.models.embedding import Embedder, Progress, embed_texts
except ImportError as error:
    raise missing_library("computing embeddings", error.name, "train") from error

Floats = npt.NDArray[np.float32]

# a numpy array of strings takes 4 bytes times the longest string for every string
_MAX_TEXT_BYTES = 1 << 30


@dataclass(frozen=True)
class FeaturesRequest:
    """The texts, the encoder, how embeddings are made, and where they are written. No splits means all splits."""

    data: DataConfig
    encoder: str
    embedding: EmbeddingConfig
    out: Path
    revision: str | None = None
    splits: Sequence[str] = ()
    batch_size: int = 64
    cached: bool = True
    overwrite: bool = False
    device: str = "auto"


@dataclass(frozen=True)
class FeaturesOutcome:
    """The file, rows of each split, numbers of an embedding, labels, and the seconds that it took."""

    file: Path
    splits: dict[str, int]
    width: int
    labels: tuple[str, ...]
    encoder: str
    origin: str
    reading: EmbeddingConfig
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return what `emotune features --json` prints."""
        found = asdict(self) | {"file": str(self.file), "rows": sum(self.splits.values())}
        return found | {"reading": self.reading.model_dump(), "seconds": round(self.seconds, 3)}


@dataclass(frozen=True)
class Table:
    """Rows of a file: records with the split of each, the names of all labels, embeddings of shape (rows, width)."""

    records: Sequence[Record]
    splits: Sequence[str]
    labels: tuple[str, ...]
    embeddings: Floats
    about: str

    @property
    def ids(self) -> list[str]:
        """The id of each row in the data, or its file and line."""
        return [r.id if r.id is not None else f"{r.path.name}:{r.line}" for r in self.records]


def write_features(request: FeaturesRequest, reporter: Reporter, progress: Progress | None = None) -> FeaturesOutcome:
    """Embed texts and write the embeddings; the file's suffix names the format.

    Raises UsageError for another suffix, OutputError for a file that exists, EmotuneError without pyarrow, and the
    errors of reading data and encoder.
    """
    write = _writer(request)
    started = time.monotonic()
    corpus = load_stored_splits(resolve_data(request.data), request.splits)
    for line in corpus.description:
        reporter.info(line)
    rows = [(record, split) for split, records in corpus.splits.items() for record in records]
    texts = [record.text for record, _ in rows]
    source = hub.resolve_encoder(request.encoder, request.revision)
    reporter.info(f"encoder {request.encoder} from {source.origin}")
    embedder = Embedder(source.directory, request.embedding, request.device)
    longest = max(map(len, texts), default=0)
    if write is _write_npz and 4 * longest * len(texts) > _MAX_TEXT_BYTES:
        raise UsageError(
            f"the longest of {len(texts):,} texts has {longest:,} characters; .npz would use that space for every text",
            hint="Write Parquet: --out FILE.parquet",
        )
    reporter.info(f"embedding {len(rows):,} texts, {embedder.width:,} numbers each")
    embeddings = embed_texts(
        embedder,
        texts,
        batch_size=request.batch_size,
        cached=request.cached,
        info=reporter.info,
        progress=progress,
    )
    made = {"emotune": metadata.version("emotune"), "encoder": request.encoder, "origin": source.origin}
    about = made | embedder.config.model_dump()
    table = Table([r for r, _ in rows], [s for _, s in rows], corpus.labels.names, embeddings, json.dumps(about))
    with replaced(request.out) as file:
        write(table, file)
    return FeaturesOutcome(
        request.out,
        {split: len(records) for split, records in corpus.splits.items()},
        embedder.width,
        corpus.labels.names,
        request.encoder,
        source.origin,
        request.embedding,
        time.monotonic() - started,
    )


def _writer(request: FeaturesRequest) -> Callable[[Table, BinaryIO], None]:
    """Return the writer of the format that the file's suffix names; raises an error if it cannot be written."""
    out = request.out
    writers = {".parquet": _write_parquet, ".npz": _write_npz}
    if out.suffix.casefold() not in writers:
        raise UsageError(f"--out {out}: embeddings are written as .parquet or .npz, by the suffix of the file")
    if out.is_dir() or (out.exists() and not request.overwrite):
        hint = "Choose another place." if out.is_dir() else "Choose another place, or --overwrite it."
        raise OutputError("it already exists", place=Place(out), hint=hint)
    require_writable(out.parent, "Choose another place: --out FILE")
    write = writers[out.suffix.casefold()]
    if write is _write_parquet and find_spec("pyarrow") is None:
        raise missing_library("writing Parquet (a file .npz needs nothing)", "pyarrow", "parquet")
    return write


def _write_npz(table: Table, file: BinaryIO) -> None:
    """Write arrays of numbers and of fixed-width strings, for `numpy.load(file, allow_pickle=False)`."""
    np.savez_compressed(
        file,
        embeddings=table.embeddings,
        labels=targets_of(table.records, len(table.labels)),
        label_names=np.array(table.labels, dtype=np.str_),
        text=np.array([r.text for r in table.records], dtype=np.str_),
        split=np.array(table.splits, dtype=np.str_),
        id=np.array(table.ids, dtype=np.str_),
        about=np.array(table.about),
    )


def _write_parquet(table: Table, file: BinaryIO) -> None:
    import pyarrow
    from pyarrow import parquet

    width = table.embeddings.shape[1]
    flat = pyarrow.array(table.embeddings.ravel(), type=pyarrow.float32())
    columns = {
        "id": pyarrow.array(table.ids, type=pyarrow.string()),
        "text": pyarrow.array([r.text for r in table.records], type=pyarrow.string()),
        "labels": pyarrow.array(
            [[table.labels[i] for i in r.labels] for r in table.records], type=pyarrow.list_(pyarrow.string())
        ),
        "split": pyarrow.array(table.splits, type=pyarrow.string()).dictionary_encode(),
        "embedding": pyarrow.FixedSizeListArray.from_arrays(flat, width),
    }
    found = pyarrow.table(columns).replace_schema_metadata({"emotune": table.about})
    parquet.write_table(found, file, compression="zstd", use_dictionary=["split"])
