"""`emotune predict --input`: predict the rows of files of any size, each once, whatever interrupts it."""

import csv
import glob
import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from emotune.artifact.exported import EXPORT
from emotune.artifact.manifest import DEFAULT, MANIFEST
from emotune.artifact.opening import FoundModel, open_model
from emotune.artifact.safety.files import read_json
from emotune.atomic import require_writable
from emotune.config.kinds import available_cpus, require_device_name
from emotune.data.tables import parquet
from emotune.data.tables.file import TableFile, format_of, located, named_format
from emotune.data.tables.records import CSV, FORMATS, JSONL, PARQUET, TXT, TableOptions
from emotune.data.tables.stream import BLOCK, STDIN, Block
from emotune.errors import DataError, EmotuneError, MissingInputError, OutputError, Place, UsageError
from emotune.hub import file_digest
from emotune.inference.blocks import ASIDE_HEADER, BlockWriter, Counts, Plan, PredictionOptions, WrittenBlock
from emotune.inference.classifier import needs_torch, run_model
from emotune.inference.workers import InProcess, Workers
from emotune.labels import Task
from emotune.reporter import Reporter
from emotune.runs.bulk import Job, Places, alone, complete, read_manifest, require_same_input

_FORMAT_VERSION = 1
SIDE = "_emotune"  # the folder of the files beside the outputs of a folder; engines ignore folders named so
_FEW_BLOCKS = 8  # of an input that is not worth the start of processes
_SLOW_PARTS = 8  # blocks of a model of PyTorch are smaller: they take longer
_SHOWN = 5
_FORMATS = tuple(each for each in FORMATS if each != TXT)
Move = Callable[[int, int], None]


@dataclass(frozen=True)
class BulkRequest:
    """The input and output, the model, how tables are read, and what is written.

    input: a file, a folder, a glob, or `-`. output: a file, a folder for a folder or a glob, or `-`. format: that of
    the output; None for the one that its name says, or that of the input. workers: the processes that score; None for
    the CPUs that this process may use, or 1 for a model that needs PyTorch. overwrite: outputs that exist are replaced.
    """

    input: str
    output: str
    model: str = DEFAULT
    table: TableOptions = field(default_factory=TableOptions)
    options: PredictionOptions = field(default_factory=PredictionOptions)
    format: str | None = None
    workers: int | None = None
    overwrite: bool = False
    device: str = "auto"
    threads: int | None = None


@dataclass
class BulkSummary:
    """The numbers of all files: read, predicted now and before, with an error; their rows; and the seconds.

    rows_in = rows_out + rows_rejected. rejected: the first row that was set aside, with its place and reason; None
    without any. texts_per_second: of the rows predicted now.
    """

    files: int = 0
    skipped: int = 0
    failed: int = 0
    rows_in: int = 0
    rows_out: int = 0
    rows_rejected: int = 0
    rows_resumed: int = 0
    counts: Counts = field(default_factory=Counts)
    notes: dict[str, str] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    rejected_files: list[str] = field(default_factory=list)
    errors: list[EmotuneError] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def texts_per_second(self) -> float:
        """The rows predicted now, those set aside included, in a second."""
        return (self.rows_in - self.rows_resumed) / self.seconds if self.seconds else 0.0

    def add_file(self, places: Places, counts: Counts, notes: dict[str, str]) -> None:
        """Add the numbers of a finished file."""
        self.rows_in += counts.read
        self.rows_out += counts.rows
        self.rows_rejected += counts.aside
        self.counts.add(counts)
        self.notes = notes | self.notes
        self.outputs.append(str(places.output))
        if counts.aside:
            self.rejected_files.append(str(places.aside))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object; of many outputs, the first ones."""
        numbers = {key: value for key, value in asdict(self).items() if isinstance(value, int)}
        return numbers | {
            "counts": asdict(self.counts),
            "outputs": self.outputs[:100],
            "rejected_files": self.rejected_files[:100],
            "errors": [str(error) for error in self.errors],
            "seconds": round(self.seconds, 3),
            "texts_per_second": round(self.texts_per_second, 1),
        }


@dataclass(frozen=True)
class FileTask:
    """A file and its output. name: that of the file in messages and in the table of rows set aside."""

    path: Path
    name: str
    places: Places
    format: str
    packed: bool


class _Scorer(Protocol):
    def written(self, writer: BlockWriter, blocks: Iterator[Block]) -> Iterator[tuple[Block, WrittenBlock]]: ...

    def close(self) -> None: ...


def run(request: BulkRequest, reporter: Reporter, move: Move = lambda texts, done: None) -> BulkSummary:  # noqa: ARG005
    """Predict the rows of files. `move` is called with the texts and the bytes that are done.

    Of several files, one that cannot be read does not stop the others: `errors` has its error.
    """
    if request.output == STDIN:
        return _streamed(request, reporter, move)
    tasks = find_files(request, reporter)
    for folder in {task.places.beside.parent for task in tasks} | {task.places.output.parent for task in tasks}:
        require_writable(folder, hint="Choose another place: --output")
    found = open_model(request.model)
    for note in found.notes:
        reporter.warn(note)
    request = _with_threshold(request, found, reporter)
    summary = BulkSummary(files=len(tasks))
    started = time.monotonic()
    with _scorer(request, found, reporter, sum(map(_size, tasks))) as scorer:
        done = 0

        def moved(texts: int, position: int) -> None:
            move(summary.rows_in - summary.rows_resumed + texts, done + position)

        for task in tasks:
            try:
                with alone(task.places):
                    _predict(task, request, found, scorer, summary, reporter, moved)
            except EmotuneError as error:
                if len(tasks) == 1 or not isinstance(error, DataError | MissingInputError | OutputError):
                    raise
                summary.failed += 1
                summary.errors.append(error)
            done += _size(task)
    summary.seconds = time.monotonic() - started
    return summary


def _with_threshold(request: BulkRequest, found: FoundModel, reporter: Reporter) -> BulkRequest:
    """Return the request without a threshold that a model of this task ignores."""
    if request.options.threshold is None or found.decision.labels.task is not Task.MULTI_CLASS:
        return request
    reporter.warn("--threshold is ignored: a multi-class model predicts the most probable label")
    return replace(request, options=replace(request.options, threshold=None))


def input_size(source: str) -> int | None:
    """Return the bytes of a file, or of all files below a folder or of a glob; None for stdin."""
    if source == STDIN:
        return None
    path = located(source)
    if path.is_file():
        return path.stat().st_size
    base, names = _files_below(source, None)
    return sum((base / name).stat().st_size for name in names)


def _size(task: FileTask) -> int:
    try:
        return 0 if task.path == Path(STDIN) else task.path.stat().st_size
    except OSError:
        return 0


@contextmanager
def _scorer(request: BulkRequest, found: FoundModel, reporter: Reporter, size: int) -> Iterator[Callable[[], _Scorer]]:
    """Yield a function that returns what scores blocks; the model is loaded when it is first called."""
    made: list[_Scorer] = []

    def scorer() -> _Scorer:
        if not made:
            made.append(_make_scorer(request, found, reporter, size))
        return made[0]

    try:
        yield scorer
    finally:
        for each in made:
            each.close()


def _make_scorer(request: BulkRequest, found: FoundModel, reporter: Reporter, size: int) -> _Scorer:
    one = size <= _FEW_BLOCKS * BLOCK or request.threads is not None
    workers = request.workers or (1 if one else default_workers(found, request.device))
    if workers > 1 and request.device not in ("auto", "cpu"):
        raise UsageError(f"several processes score on the CPU, not on {request.device}", hint="Leave out --workers.")
    if workers > 1 and request.threads is not None:
        reporter.warn("--threads is ignored: each of several processes has one")
    if workers > 1:
        reporter.info(f"{workers} processes score; another number: --workers")
        return Workers(found, workers)
    notes = set(found.notes)

    def warn(note: str) -> None:
        if note not in notes:  # those are reported
            reporter.warn(note)

    return InProcess(run_model(found, device=request.device, warn=warn, threads=request.threads))


def default_workers(found: FoundModel, device: str) -> int:
    """Return the number of processes that score fastest: 1 for PyTorch, which uses all CPUs itself, and on a GPU."""
    require_device_name(device)
    if device not in ("auto", "cpu") or needs_torch(found):
        return 1
    return available_cpus()


def block_parts(found: FoundModel) -> int:
    """Return into how many smaller ones the blocks of a table are cut for a model."""
    return _SLOW_PARTS if needs_torch(found) else 1


# One file


def _predict(
    task: FileTask,
    request: BulkRequest,
    found: FoundModel,
    scorer: Callable[[], _Scorer],
    summary: BulkSummary,
    reporter: Reporter,
    move: Move,
) -> None:
    """Predict the rows of a file, or the rest of them."""
    complete(task.places)
    table = TableFile(task.path, request.table)
    with closing(table):
        writer = _writer(task, table, request, found)
        job = _job(task, table, writer.plan, found)
        if task.places.output.exists() and not request.overwrite:
            _skip(task, job, summary)
            return
        kept = None if task.path == Path(STDIN) else job
        unfinished = Job(task.places, kept, writer.head(), overwrite=request.overwrite)
        resumed = sum(unfinished.progress.counts.get(name, 0) for name in ("rows", "aside"))
        try:
            if unfinished.resumed:
                reporter.info(f"{task.name}: continues after {resumed:,} rows")
            counts = _write_blocks(
                task, table, writer, found, scorer(), unfinished, lambda n, at: move(n - resumed, at)
            )
            _require_unchanged(task, table)
            _finish(task, job, unfinished, counts, summary, reporter)
            summary.rows_resumed += resumed
        finally:
            unfinished.close()


def _writer(task: FileTask, table: TableFile, request: BulkRequest, found: FoundModel) -> BlockWriter:
    plan = Plan(task.name, table.layout, task.format, task.packed, request.options)
    plan.require_fitting(found.decision.labels)
    return BlockWriter(plan, found.decision.labels, found.language)


def _job(task: FileTask, table: TableFile, plan: Plan, found: FoundModel) -> dict[str, Any]:
    """Return what makes two jobs the same: they write the same bytes."""
    return {
        "format_version": _FORMAT_VERSION,
        "emotune": metadata.version("emotune"),
        "model": describe_model(found),
        "input": {"name": task.name, "bytes": table.size},
        "plan": plan.to_json(),
    }


def describe_model(found: FoundModel) -> dict[str, Any]:
    """Return the kind, the digest and, of an export, the profile of a model."""
    profile = None
    if (found.directory / EXPORT).is_file():
        profile = read_json(found.directory / EXPORT).get("profile")
    return {"kind": found.kind, "digest": _model_digest(found), "profile": profile}


def _model_digest(found: FoundModel) -> str:
    """Return the digest of a model's manifest, which has those of all files; else one of its files."""
    if found.manifest is not None:
        return found.manifest.digest or file_digest(found.directory / MANIFEST)
    digest = hashlib.sha256()
    for path in sorted(found.directory.iterdir()):
        if path.suffix in (".json", ".safetensors") and path.is_file():
            digest.update(f"{path.name} {file_digest(path)}\n".encode())
    return digest.hexdigest()


def _skip(task: FileTask, job: dict[str, Any], summary: BulkSummary) -> None:
    """Count a finished file of several; raises OutputError for a single one, and for one that another job made."""
    manifest = read_manifest(task.places)
    place = Place(task.places.output)
    if manifest is None:
        raise OutputError("it exists", place=place, hint="Choose another place, or replace it: --overwrite")
    require_same_job(manifest, job, place)
    if task.places.beside == task.places.output:
        raise already_finished(place)
    summary.skipped += 1


def require_same_job(manifest: dict[str, Any], job: dict[str, Any], place: Place) -> None:
    """Raise OutputError for a finished output that another job made."""
    if manifest.get("job") != job:
        message = "it exists, predicted from another input, with another model or other options"
        raise OutputError(message, place=place, hint="Choose another place, or replace it: --overwrite")


def already_finished(place: Place) -> OutputError:
    """Return the error for a single output that this job has made before."""
    return OutputError("already finished", place=place, hint="To predict it again: --overwrite")


def _write_blocks(
    task: FileTask,
    table: TableFile,
    writer: BlockWriter,
    found: FoundModel,
    scorer: _Scorer,
    job: Job,
    move: Move,
) -> Counts:
    """Score the blocks that are not done, and return the numbers of all rows."""
    counts = Counts(**job.progress.counts)
    for block, written in scorer.written(writer, _pending(task, table, job, block_parts(found))):
        counts.add(written.counts)
        job.add(written.output, written.aside, block.digest, asdict(counts), written.notes)
        move(counts.read, block.position)
    return counts


def _pending(task: FileTask, table: TableFile, job: Job, parts: int) -> Iterator[Block]:
    """Yield the blocks that are not done; raises DataError when the file is not the one whose blocks are done."""
    done, digest = job.progress.blocks, job.progress.digest
    number = -1
    for block in table.blocks(parts):
        number = block.number
        if block.number == done - 1:
            require_same_input(task.path, digest, block.digest, task.places.partial)
        if block.number >= done:
            yield block
    if number < done - 1:
        require_same_input(task.path, digest, "", task.places.partial)


def _require_unchanged(task: FileTask, table: TableFile) -> None:
    """Raise DataError when the file changed while it was read."""
    if task.path != Path(STDIN) and table.changed():
        message = "the file changed while it was read"
        raise DataError(message, place=Place(task.path), hint="Run the command again when nobody writes it.")


def _finish(
    task: FileTask, job: dict[str, Any], unfinished: Job, counts: Counts, summary: BulkSummary, reporter: Reporter
) -> None:
    """Check the numbers, and move the files to their places."""
    notes = unfinished.progress.notes
    if fault := none_predicted(counts, notes):
        unfinished.discard()  # the next try has other options
        raise fault
    digest = unfinished.progress.digest or file_digest(task.path)
    manifest = manifest_of(job, digest, counts, task.places.output, task.format)
    unfinished.finish(manifest, ASIDE_HEADER, parquet.join if task.format == PARQUET else None)
    summary.add_file(task.places, counts, notes)
    if not counts.read:
        reporter.warn(f"{task.name}: there are no rows")


def none_predicted(counts: Counts, notes: dict[str, str]) -> DataError | None:
    """Return the error of a file whose rows are all set aside: the options are probably wrong."""
    if counts.rows or not counts.aside:
        return None
    hint = "See --text-column, --delimiter, --encoding and --input-format."
    return DataError(f"none of {counts.read:,} rows can be predicted; the first: {notes['aside']}", hint=hint)


def manifest_of(job: dict[str, Any], digest: str, counts: Counts, output: Path, written: str) -> dict[str, Any]:
    """Return the manifest of a finished output. digest: the sha256 of the input. written: the format of the output."""
    return {
        "job": job,
        "input": {"name": job["input"]["name"], "sha256": digest},
        "rows": {"in": counts.read, "out": counts.rows, "rejected": counts.aside},
        "counts": asdict(counts),
        "output": {"name": output.name, "format": written},
    }


# Which files


def find_files(request: BulkRequest, reporter: Reporter) -> list[FileTask]:
    """Return the files and their outputs; raises MissingInputError without any, UsageError for outputs that collide."""
    source, output = request.input, located(request.output)
    path = located(source)
    if source == STDIN or path.is_file() or not (path.is_dir() or glob.has_magic(source)):
        if source != STDIN and not path.exists():
            raise MissingInputError(f"no such file or folder: {source}")
        if output.is_dir():
            hint = f"Name the file: --output {output / path.name}"
            raise UsageError(f"the output {output} is a folder, the input is one file", hint=hint)
        if source != STDIN and output.exists() and _same(output, path):
            raise UsageError("the output is the input itself", hint="Choose another place: --output")
        name = "stdin" if source == STDIN else source
        return [FileTask(path, name, Places(output, output), *_output_format(output, path, request))]
    base, names = _files_below(source, output)
    ignored = [name for name in names if request.table.format is None and named_format(base / name) is None]
    if ignored:
        listed = ", ".join(ignored[:_SHOWN]) + (", …" if len(ignored) > _SHOWN else "")
        reporter.warn(f"not read, because their names do not tell a format: {listed}")
    if output.exists() and not output.is_dir():
        raise OutputError("there is a file where the folder of the outputs should be", place=Place(output))
    tasks: dict[Path, FileTask] = {}
    for name in names:
        if name in ignored:
            continue
        task = task_below(base, name, output, request)
        if task.places.output in tasks:
            both = f"{tasks[task.places.output].name} and {name}"
            raise UsageError(f"two files have the same output {task.places.output}: {both}", hint="Rename one of them.")
        tasks[task.places.output] = task
    if not tasks:
        raise MissingInputError(f"there are no tables in {source}", hint="Known are .csv, .tsv, .jsonl, .txt, .parquet")
    return list(tasks.values())


def _files_below(source: str, output: Path | None) -> tuple[Path, list[str]]:
    """Return a folder and the names of the files below it, of a folder or a glob; without hidden ones and outputs."""
    if glob.has_magic(source) and not located(source).is_dir():
        parts = source.split("/")
        fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        base, pattern = located("/".join([*parts[:fixed], ""])), "/".join(parts[fixed:])
    else:
        base, pattern = located(source), "**/*"
    found = [path.relative_to(base).as_posix() for path in base.glob(pattern)]
    outputs = None if output is None else output.resolve()
    if base.resolve() == outputs:
        raise UsageError("the folder of the outputs is that of the inputs", hint="Choose another place: --output")
    names = []
    for name in sorted(found):
        path = base / name
        hidden = any(part.startswith((".", "_")) for part in Path(name).parts)
        if path.is_file() and not hidden and not (outputs and _is_below(path, outputs)):
            names.append(name)
    return base, names


def _is_below(path: Path, folder: Path) -> bool:
    """Return whether a file is in a folder; those of different file systems are not."""
    return isinstance(path, Path) == isinstance(folder, Path) and path.resolve().is_relative_to(folder)


def _same(path: Path, other: Path) -> bool:
    """Return whether two paths are the same file; those of different file systems are not."""
    return path.samefile(other) if isinstance(path, Path) == isinstance(other, Path) else False


def task_below(base: Path, name: str, output: Path, request: BulkRequest) -> FileTask:
    """Return a file below a folder, and its output below another one."""
    path = base / name
    source = request.table.format or format_of(path)
    target = output / name
    if request.format is not None or source == TXT:
        written = request.format or CSV
        stem = target.name.removesuffix(".gz")
        packed = ".gz" if target.name.endswith(".gz") and written != PARQUET else ""
        target = target.with_name(f"{Path(stem).stem}.{written}{packed}")
    elif source == JSONL and target.name.removesuffix(".gz").endswith(".json"):
        target = target.with_name(target.name.replace(".json", ".jsonl"))
    places = Places(target, output / SIDE / target.relative_to(output))
    return FileTask(path, name, places, *_output_format(target, path, request))


def _output_format(output: Path, path: Path, request: BulkRequest) -> tuple[str, bool]:
    """Return the format of an output, and whether it is a gzip archive; raises UsageError for a name without one."""
    named, packed = named_format(output), output.name.casefold().endswith(".gz")
    source = request.table.format or format_of(path)
    found = request.format or named or (source if source != TXT else CSV)
    if found not in _FORMATS or output.name.casefold().removesuffix(".gz").endswith((".txt", ".json")):
        allowed = ", ".join(f".{each}" for each in _FORMATS)
        raise UsageError(f"the output {output.name!r} is none of {allowed}", hint=f"Such as: {output.stem}.jsonl")
    if named is None and request.format is None and output.suffix:
        allowed = ", ".join(f".{each}" for each in _FORMATS)
        raise UsageError(f"the name {output.name!r} does not tell a format: {allowed}", hint="Or: --format csv")
    return found, packed


# To stdout


def _streamed(request: BulkRequest, reporter: Reporter, move: Move) -> BulkSummary:
    """Predict a file, or stdin, to stdout. Rows that are set aside are warnings."""
    if request.input != STDIN and (Path(request.input).is_dir() or glob.has_magic(request.input)):
        raise UsageError("the output of several files is a folder", hint="Name it: --output FOLDER")
    path = Path(request.input)
    found = open_model(request.model)
    request = _with_threshold(request, found, reporter)
    table = TableFile(path, request.table)
    written_format = request.format or (table.format if table.format != TXT else CSV)
    if written_format == PARQUET:
        raise UsageError("Parquet cannot be written to stdout", hint="Name a file: --output FILE.parquet")
    name = "stdin" if request.input == STDIN else request.input
    plan = Plan(name, table.layout, written_format, False, request.options)
    plan.require_fitting(found.decision.labels)
    writer = BlockWriter(plan, found.decision.labels, found.language)
    summary, started = BulkSummary(files=1), time.monotonic()
    results: BinaryIO = sys.stdout.buffer
    with closing(table), _scorer(request, found, reporter, table.size or 0) as scorer:
        _put(results, writer.head())
        for block, written in scorer().written(writer, table.blocks(block_parts(found))):
            _put(results, written.output)
            for file, line, reason, _ in csv.reader(StringIO(written.aside.decode(), newline="")):
                reporter.warn(f"{file}:{line}: {reason}; the row is set aside")
            summary.counts.add(written.counts)
            summary.notes = written.notes | summary.notes
            move(summary.counts.read, block.position)
    counts = summary.counts
    summary.rows_in, summary.rows_out, summary.rows_rejected = counts.read, counts.rows, counts.aside
    summary.seconds = time.monotonic() - started
    return summary


def _put(results: BinaryIO, content: bytes) -> None:
    try:
        results.write(content)
        results.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {error.strerror or 'it is closed'}") from error
