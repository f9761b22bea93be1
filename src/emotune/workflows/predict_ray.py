"""`emotune predict --engine ray`: predict the rows of files on a Ray cluster, each once, whatever is killed.

A file is cut into parts of whole records. The cuts depend on its bytes alone, so a part is known by its file and its
number, however Ray divides the work. Tasks read the files; each actor has a model, scores a part and writes it at once.
Ray repeats what a killed process did; a part that is written twice has the same bytes. The next run with the same
command writes the parts that have no record yet.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, redirect_stdout
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

from emotune.artifact.opening import FoundModel, open_model
from emotune.config.kinds import available_cpus
from emotune.data.tables import parquet
from emotune.data.tables.file import TableFile, located, named_format
from emotune.data.tables.layout import Layout
from emotune.data.tables.records import CSV, PARQUET, TableOptions
from emotune.data.tables.stream import BLOCK, STDIN, Block
from emotune.errors import DataError, EmotuneError, MissingInputError, OutputError, Place, UsageError, missing_library
from emotune.inference.blocks import ASIDE_HEADER, BlockWriter, Counts, Plan, PredictionOptions
from emotune.inference.classifier import EmotionClassifier, needs_torch
from emotune.inference.scorer import Scorer
from emotune.inference.workers import packed_error, unpacked_error
from emotune.labels import LabelSet
from emotune.reporter import Reporter
from emotune.runs.bulk import Places, alone, require_same_input
from emotune.runs.parts import PartedOutput, PartRecord, is_local
from emotune.workflows.predict import (
    SIDE,
    BulkRequest,
    BulkSummary,
    Move,
    already_finished,
    block_parts,
    describe_model,
    find_files,
    manifest_of,
    none_predicted,
    require_same_job,
    task_below,
)

_FORMAT_VERSION = 1
_BLOCKS, _FEW_BYTES = 32, 1 << 26  # blocks of a part at most, and the bytes of a file for each of them
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_LOG_LEVEL": "ERROR", "RAY_BACKEND_LOG_LEVEL": "fatal"}
_CHANGED = "When nobody writes it any more: --overwrite"
_RESUME = "Run the same command again: it continues where it was."
_STORE = 256 << 20  # bytes that Ray keeps between reading and scoring, on this machine


@dataclass(frozen=True)
class _Source:
    """A file and its output.

    name: that of messages. blocks: their number in a part. block_parts: their size, as for `TableFile.blocks`.
    """

    path: str
    name: str
    output: PartedOutput
    format: str
    packed: bool
    bytes: int
    blocks: int
    block_parts: int


@dataclass(frozen=True)
class _Pending:
    """All that a task needs to read the parts of a file that are not done; done: their records by number."""

    number: int
    source: _Source
    table: TableOptions
    options: PredictionOptions
    labels: LabelSet
    language: str | None
    job: dict[str, Any]
    done: dict[int, PartRecord]


def run(
    request: BulkRequest,
    reporter: Reporter,
    move: Move = lambda texts, done: None,  # noqa: ARG005
    *,
    address: str | None = None,
) -> BulkSummary:
    """Predict the rows of files on a cluster; as `workflows.predict.run`, also for its errors.

    request: `workers` actors, None for as many as the cluster has CPUs for, each with `threads` CPUs, or a GPU if the
    model uses it. Inputs and outputs may be URLs that fsspec knows, such as `s3://bucket/comments/*.parquet`. address:
    that of a running cluster; None for the one that this process uses, that of RAY_ADDRESS, or one of this machine.
    """
    _require_ray()
    found = open_model(request.model)
    for note in found.notes:
        reporter.warn(note)
    Plan("", Layout(CSV, ("text",), 0), CSV, packed=False, options=request.options).columns(found.decision.labels)
    sources = _sources(request, block_parts(found), reporter)
    summary, started = BulkSummary(files=len(sources)), time.monotonic()
    with ExitStack() as held:
        held.enter_context(_alone(sources, _absolute(located(request.output))))
        job = _Job(_begin(sources, request, found, summary), summary, reporter, move)
        held.callback(job.tidy)
        if unread := job.unread:
            resources = held.enter_context(_cluster(address))
            actors = Actors.of(request, found, resources, sum(file.source.bytes for file in unread))
            reporter.info(str(actors))
            with _failures_of_ray():
                job.collect(_dataset(unread, job.pending, actors))
    summary.seconds = time.monotonic() - started
    return summary


# Which files, and what is done of them


def _sources(request: BulkRequest, parts: int, reporter: Reporter) -> list[_Source]:
    """Return the files and their outputs; raises as `find_files`.

    One file becomes one file, if the output is named like a table; else each becomes a folder of parts.
    """
    if STDIN in (request.input, request.output):
        raise UsageError("--engine ray reads and writes files, not stdin and stdout", hint="Leave out --engine.")
    output = _absolute(located(request.output))
    path = located(request.input)
    joined = path.is_file() and named_format(output) is not None
    if path.is_file() and not joined:
        tasks = [task_below(path.parent, path.name, output, request)]
    else:
        tasks = find_files(replace(request, output=str(output)), reporter)
    sources = []
    for task in tasks:
        size = task.path.stat().st_size
        suffix = f".{task.format}" + (".gz" if task.packed else "")
        parted = PartedOutput(task.places, ".part" if joined else suffix, joined)
        blocks = max(1, min(_BLOCKS, size // _FEW_BYTES))
        sources.append(
            _Source(str(_absolute(task.path)), task.name, parted, task.format, task.packed, size, blocks, parts)
        )
    return sources


def _absolute(path: Path) -> Path:
    """Return a path that other processes understand."""
    return path.absolute() if is_local(path) else path


def _alone(sources: Sequence[_Source], output: Path) -> AbstractContextManager[None]:
    """Hold the output, a file or a folder, on a disk; raises OutputError as `runs.bulk.alone`. URLs have no locks."""
    if not is_local(output):
        return nullcontext()
    return alone(sources[0].output.places if sources[0].output.joined else Places(output, output / SIDE / "ray"))


def _begin(sources: Sequence[_Source], request: BulkRequest, found: FoundModel, summary: BulkSummary) -> list[_Pending]:
    """Return the files that have parts to predict. Finished ones are counted; those of other jobs are errors."""
    pending: list[_Pending] = []
    for source in sources:
        job = _job(source, request, found)
        try:
            done = _done(source.output, job, single=len(sources) == 1, overwrite=request.overwrite)
        except OutputError as error:
            if len(sources) == 1:
                raise
            summary.failed += 1
            summary.errors.append(error)
            continue
        if done is None:
            summary.skipped += 1
            continue
        model = (found.decision.labels, found.language)
        pending.append(_Pending(len(pending), source, request.table, request.options, *model, job, done))
    return pending


def _job(source: _Source, request: BulkRequest, found: FoundModel) -> dict[str, Any]:
    """Return what makes two jobs the same: they write the same bytes."""
    output = {"format": source.format, "packed": source.packed, "blocks": source.blocks}
    return {
        "format_version": _FORMAT_VERSION,
        "emotune": metadata.version("emotune"),
        "model": describe_model(found),
        "input": {"name": source.name, "bytes": source.bytes},
        "options": {"table": asdict(request.table), "prediction": asdict(request.options), "output": output},
    }


def _done(output: PartedOutput, job: dict[str, Any], *, single: bool, overwrite: bool) -> dict[int, PartRecord] | None:
    """Return the records of a file's parts; None for a finished file. Raises OutputError for that of another job."""
    finished = output.manifest()
    if finished is None or overwrite:
        return output.begin(job, overwrite=overwrite)
    place = Place(output.places.output)
    require_same_job(finished, job, place)
    output.clear()
    if single:
        raise already_finished(place)
    return None


# Reading


def _parts(row: dict[str, Any], pending: Sequence[_Pending]) -> Iterator[dict[str, Any]]:
    """Yield the parts of a file that are not done, or the error that it has: a row for each, of texts and bytes."""
    file = pending[row["item"]]
    try:
        for described, blocks in _cut_parts(file):
            sizes = [asdict(replace(block, content=b"")) | {"content": len(block.content)} for block in blocks]
            part = json.dumps({"file": file.number, "blocks": sizes} | described)
            yield {"part": part, "content": b"".join(block.content for block in blocks)}
    except EmotuneError as error:
        yield {"part": json.dumps({"file": file.number, "error": packed_error(error)}), "content": b""}


def _cut_parts(file: _Pending) -> Iterator[tuple[dict[str, Any], list[Block]]]:
    """Yield the number, the plan and so on of each part that is not done, and its blocks."""
    source, position = file.source, 0
    table = TableFile(located(source.path), file.table)
    try:
        plan = Plan(source.name, table.layout, source.format, source.packed, file.options)
        plan.require_fitting(file.labels)
        for number, blocks, last in _grouped(table.blocks(source.block_parts), source.blocks):
            if last and table.changed():
                raise DataError("the file changed while it was read", place=Place(table.path), hint=_CHANGED)
            end = blocks[-1].position if blocks else position
            if number not in file.done:
                yield {"part": number, "last": last, "read": end - position, "plan": plan.to_json()}, blocks
            else:
                before = file.done[number].digest
                require_same_input(table.path, before, _digest(blocks), source.output.places.partial)
            position = end
    finally:
        table.close()


def _grouped(blocks: Iterator[Block], size: int) -> Iterator[tuple[int, list[Block], bool]]:
    """Yield the blocks in groups with their numbers, the last group, which may be empty, with True."""
    held: list[Block] = []
    number = 0
    for block in blocks:
        if len(held) == size:
            yield number, held, False
            held, number = [], number + 1
        held.append(block)
    yield number, held, True


def _digest(blocks: Sequence[Block]) -> str:
    """Return the digest of the input up to the end of some blocks."""
    return blocks[-1].digest if blocks else ""


# Scoring


class PartWriter:
    """An actor's work: it scores and writes parts. The model is loaded once, for the first part."""

    def __init__(self, scorer: Scorer, pending: Sequence[_Pending]) -> None:
        self._pending, self._scorer = pending, scorer
        self._writers: dict[str, BlockWriter] = {}

    def __call__(self, batch: Any) -> Any:
        """Write the parts of an Arrow table, and return their records."""
        done = [self._answer(*row) for row in zip(*(batch.column(name).to_pylist() for name in _ROW), strict=True)]
        return type(batch).from_pydict({"done": done})

    def _answer(self, part: str, content: bytes) -> str:
        described = json.loads(part)
        if "error" not in described:
            try:
                classifier = self._scorer.classifier
            except EmotuneError as error:  # of the model, so of every part
                return json.dumps({"error": packed_error(error)})
            try:
                described["record"] = asdict(self._write(described, content, classifier))
            except EmotuneError as error:
                described["error"] = packed_error(error)
        return json.dumps({key: described[key] for key in ("file", "record", "error") if key in described})

    def _write(self, described: dict[str, Any], content: bytes, classifier: EmotionClassifier) -> PartRecord:
        source = self._pending[described["file"]].source
        writer = self._writer(described["file"], described["plan"])
        notes: dict[str, str] = {}
        counts, outputs, asides = Counts(), [], []
        blocks = list(_unpacked_blocks(described["blocks"], content))
        for block in blocks:
            written = writer.written(block, classifier)
            counts.add(written.counts)
            notes = written.notes | notes
            outputs.append(written.output)
            asides.append(written.aside)
        if described["part"] == 0 or not source.output.joined:
            outputs.insert(0, writer.head())
        output = b"".join(outputs)
        if source.format == PARQUET and not source.output.joined:
            output = parquet.joined(output)
        record = PartRecord(
            part=described["part"],
            blocks=len(blocks),
            digest=_digest(blocks),
            last=described["last"],
            read=described["read"],
            counts=asdict(counts),
            bytes=len(output),
            sha256=sha256(output).hexdigest(),
            notes=notes,
        )
        source.output.write(record, output, b"".join(asides))
        return record

    def _writer(self, file: int, plan: dict[str, Any]) -> BlockWriter:
        pending, key = self._pending[file], json.dumps(plan)
        if key not in self._writers:
            self._writers = {key: BlockWriter(Plan.from_json(plan), pending.labels, pending.language)}
        return self._writers[key]


_ROW = ("part", "content")  # columns of the rows between reading and scoring


def _unpacked_blocks(described: Sequence[dict[str, Any]], content: bytes) -> Iterator[Block]:
    start = 0
    for each in described:
        end = start + each["content"]
        yield Block(**each | {"content": content[start:end]})
        start = end


# The cluster


@dataclass(frozen=True)
class Actors:
    """The actors of a pool: their number, and what each of them takes of the cluster."""

    number: int
    cpus: int
    gpus: int
    scorer: Scorer

    def __str__(self) -> str:
        each = "1 GPU" if self.gpus else f"{self.cpus} CPU{'s' if self.cpus > 1 else ''}"
        actors = "1 actor scores, with" if self.number == 1 else f"{self.number} actors score, each with"
        return f"Ray: {actors} {each} (--workers, --threads)"

    @classmethod
    def of(cls, request: BulkRequest, found: FoundModel, resources: dict[str, float], size: int) -> "Actors":
        """Return the actors for an input of so many bytes: as many as fit the cluster, unless the user says another."""
        gpus = int(resources.get("GPU", 0)) if request.device != "cpu" and needs_torch(found) else 0
        threads = request.threads or 1
        fitting = gpus or max(1, int(resources.get("CPU", 1)) // threads)
        number = request.workers or max(1, min(fitting, size // BLOCK + 1))
        if request.device not in ("auto", "cpu") and not gpus:
            raise UsageError("no GPU of this cluster can run this model", hint="Leave out --device.")
        scorer = Scorer(request.model, device="cuda" if gpus else "cpu", threads=threads)
        return cls(number, threads, 1 if gpus else 0, scorer)


def _dataset(unread: Sequence[_Pending], pending: Sequence[_Pending], actors: Actors) -> Any:
    """Return the dataset whose rows are the records of the parts of unread files, as they are written."""
    from ray.data import ActorPoolStrategy, TaskPoolStrategy, from_items

    files = from_items([file.number for file in unread], override_num_blocks=len(unread))
    readers = TaskPoolStrategy(size=max(1, min(len(unread), actors.number)))
    # reading takes few CPUs: without a share of its own, it never waits for the actors that wait for it
    parts = files.flat_map(_parts, fn_args=(pending,), compute=readers, num_cpus=0)
    return parts.map_batches(
        PartWriter,
        fn_constructor_args=(actors.scorer, pending),
        compute=ActorPoolStrategy(size=actors.number),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=None if actors.gpus else actors.cpus,
        num_gpus=actors.gpus or None,
    )


@contextmanager
def _cluster(address: str | None) -> Iterator[dict[str, float]]:
    """Yield the resources of the cluster. One that is started here ends here."""
    import ray
    from ray.data import DataContext

    ours = not ray.is_initialized()
    if ours:
        _connect(address)
    context = DataContext.get_current()
    before = {name: getattr(context, name) for name in _CONTEXT}
    try:
        for name, value in _CONTEXT.items():
            setattr(context, name, value)
        with redirect_stdout(sys.stderr):  # where Ray reports workers that are lost
            yield ray.cluster_resources()
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        if ours:
            ray.shutdown()


# a block of Ray has one part; progress is shown by our own bar
_CONTEXT = {"target_max_block_size": 1, "target_min_block_size": 1, "enable_progress_bars": False}


def _connect(address: str | None) -> None:
    import ray

    alone = address is None and "RAY_ADDRESS" not in os.environ
    own = {"num_cpus": available_cpus(), "include_dashboard": False, "object_store_memory": _STORE} if alone else {}
    try:
        with _silent():
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **own)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, AssertionError) as error:
        what = (
            "Ray cannot start here" if alone else f"there is no Ray cluster at {address or os.environ['RAY_ADDRESS']!r}"
        )
        hint = "Start one (ray start --head), or leave out --address to use this machine alone."
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise MissingInputError(f"{what}: {reason}", hint=None if alone else hint) from None


@contextmanager
def _silent() -> Iterator[None]:
    """Discard what C++ code prints on stderr."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _failures_of_ray() -> Iterator[None]:
    """Turn an error of the cluster into an EmotuneError. One of our own is raised as it is."""
    from ray.exceptions import RayError

    try:
        yield
    except RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, EmotuneError):
            raise cause from None
        reason = (str(cause or error).strip().splitlines() or [type(error).__name__])[-1][:300]
        raise EmotuneError(f"the cluster failed: {reason}", hint=_RESUME) from error


def _require_ray() -> None:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)  # Ray reads them when it is imported
    try:
        import ray.data  # noqa: F401
        import upath  # noqa: F401
    except ImportError as error:
        raise missing_library("--engine ray", error.name, "ray") from None


# Collecting


class _Job:
    """The parts of all files as they are done; a file is finished when it has all of them."""

    def __init__(self, pending: Sequence[_Pending], summary: BulkSummary, reporter: Reporter, move: Move) -> None:
        self.pending = pending
        self._summary, self._reporter, self._move = summary, reporter, move
        self._records = [dict(file.done) for file in pending]
        self._ended: set[int] = set()
        self._texts, self._bytes = 0, 0
        for file in pending:
            if resumed := sum(map(_rows, file.done.values())):
                reporter.info(f"{file.source.name}: continues after {resumed:,} rows")
                summary.rows_resumed += resumed
                self._bytes += sum(record.read for record in file.done.values())
            self._finish_if_whole(file)

    @property
    def unread(self) -> list[_Pending]:
        """The files that have parts to predict."""
        return [file for file in self.pending if file.number not in self._ended]

    def tidy(self) -> None:
        """Remove the records of files of which nothing was predicted: no part is there, seen here or not."""
        for file in self.pending:
            if not self._records[file.number] and not file.source.output.records():
                file.source.output.clear()

    def collect(self, dataset: Any) -> None:
        """Run the dataset to its end. Raises the error of a single file, and EmotuneError when parts are missing."""
        for row in dataset.iter_rows():
            answer = json.loads(row["done"])
            if "file" not in answer:
                raise unpacked_error(answer["error"])
            file = self.pending[answer["file"]]
            if "error" in answer:
                self._fail(file, unpacked_error(answer["error"]))
            else:
                self._add(file, PartRecord(**answer["record"]))
        if missing := self.unread:
            raise EmotuneError(f"parts of {missing[0].source.name} are missing", hint=_RESUME)

    def _add(self, file: _Pending, record: PartRecord) -> None:
        if record.part not in self._records[file.number]:
            self._texts += _rows(record)
            self._bytes += record.read
            self._move(self._texts, self._bytes)
        self._records[file.number][record.part] = record
        self._finish_if_whole(file)

    def _fail(self, file: _Pending, error: Exception) -> None:
        if len(self.pending) == 1 or not isinstance(error, DataError | MissingInputError | OutputError):
            raise error
        self._ended.add(file.number)
        self._summary.failed += 1
        self._summary.errors.append(error)

    def _finish_if_whole(self, file: _Pending) -> None:
        """Finish a file that has all its parts."""
        records = [record for _, record in sorted(self._records[file.number].items())]
        whole = records and records[-1].last and records[-1].part == len(records) - 1
        if not whole or file.number in self._ended:
            return
        try:
            self._finish(file, records)
        except DataError as error:
            self._fail(file, error)
        self._ended.add(file.number)

    def _finish(self, file: _Pending, records: Sequence[PartRecord]) -> None:
        source = file.source
        notes: dict[str, str] = {}
        counts = Counts()
        for record in records:
            counts.add(Counts(**record.counts))
            notes = record.notes | notes
        if fault := none_predicted(counts, notes):
            raise fault
        places = source.output.places
        manifest = manifest_of(file.job, records[-1].digest, counts, places.output, source.format)
        source.output.finish(manifest, records, ASIDE_HEADER, parquet.join if source.format == PARQUET else None)
        self._summary.add_file(places, counts, notes)
        if not counts.read:
            self._reporter.warn(f"{source.name}: there are no rows")


def _rows(record: PartRecord) -> int:
    return record.counts["rows"] + record.counts["aside"]
