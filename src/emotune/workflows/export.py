"""`emotune export`: a trained model in, one out that ONNX Runtime scores without PyTorch, after a parity report.

open the model → trace its graph → compress it → tokenizer, decision → score real texts with both models
→ parity within the limits, or nothing is written → record, card and manifest
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from emotune.artifact.ensemble import write_weights
from emotune.artifact.exported import EXPORT, ExportRecord, source_of
from emotune.artifact.manifest import DECISION, MANIFEST, copy_files, read_manifest, run_of, seal, versions
from emotune.artifact.opening import ENSEMBLE, MEMBERS, ONNX, FoundModel, open_model, read_lines
from emotune.artifact.safety.directory import GRAPH, TOKENIZER
from emotune.atomic import require_writable, staged, write_file, write_json
from emotune.config.kinds import find_kind
from emotune.config.loading import Overrides
from emotune.config.schema import DataConfig
from emotune.data.corpus import STARTER, hub_id, load_corpus, load_stored_splits, locate, resolve_data
from emotune.data.records import Record, targets_of
from emotune.data.tokens import batches_of_one_length
from emotune.decision import Bools, Floats
from emotune.display import FrameData, Shown
from emotune.errors import (
    DataError,
    EmotuneError,
    ModelError,
    OutputError,
    Place,
    UsageError,
    did_you_mean,
    missing_library,
)
from emotune.inference.classifier import EmotionClassifier, run_model
from emotune.labels import positives
from emotune.models.onnx import feed
from emotune.reporter import Reporter
from emotune.reports.card import export_card
from emotune.reports.tables import Table, beyond_limit, parity_table, size
from emotune.runs import layout
from emotune.runs.layout import records_of, save_rows
from emotune.scoring.parity import Limits, Parity, parity_of

if TYPE_CHECKING:
    from emotune.models.export import Exported

Progress = Callable[[int, int], None]
PROFILES = {
    "exact": Limits(largest_difference=1e-4, flipped=0.0005, macro_f1_lost=0.0005, batch_dependence=5e-6),
    "compact": Limits(largest_difference=0.1, flipped=0.003, macro_f1_lost=0.002, batch_dependence=5e-6),
    "fast": Limits(largest_difference=0.2, flipped=0.01, macro_f1_lost=0.004, batch_dependence=1e-4),
}
OPTIONS = {"largest_difference": "--max-difference", "flipped": "--max-flipped", "macro_f1_lost": "--max-f1-loss"}
_CHUNK = 256
_TYPICAL = 512  # texts on which a compressed graph measures its ranges
_BATCHES, _BATCH, _SEED = 50, 32, 0  # the random batches of one text
_LIBRARIES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class ExportRequest:
    """The model, the place of the export, its profile, and the texts of the parity report.

    texts: a file with a text in each line; data: labelled data, with its split and settings (`data.key=value`). Without
    either, the validation rows of the model's run, or else the texts of the starter corpus. limits: values that
    replace those of the profile, by their names in `Limits`. one_length: the graph has the single input `input_ids`,
    rows of one length, which other software takes too; it is slower.
    """

    model: str
    out: Path
    profile: str = "exact"
    texts: Path | None = None
    data: str | None = None
    split: str | None = None
    overrides: Overrides = ()
    limits: Mapping[str, float] | None = None
    overwrite: bool = False
    threads: int | None = None
    batch_size: int = 64
    one_length: bool = False


@dataclass(frozen=True, repr=False)
class ExportOutcome(Shown):
    """The export, the model it was made from, the rows of the parity report, and its record."""

    out: Path
    source: FoundModel
    rows: str
    parity: Parity
    record: ExportRecord

    def __fspath__(self) -> str:
        return str(self.out)

    def _lines(self) -> Iterator[str]:
        sizes = self.record.bytes
        yield f"model: {self.out}"
        yield f"{size(sizes['export'])}, of the trained model {size(sizes['source'])}; profile {self.record.profile}"

    def _tables(self) -> Iterator[tuple[str, Table]]:
        yield f"Parity on {self.parity.texts:,} texts: {self.rows}", self.table

    def _data(self) -> FrameData:
        limits = self.record.limits
        return [{"measure": m, "value": v, "limit": limits.get(m)} for m, v in self.parity.to_json().items()]

    @property
    def table(self) -> Table:
        """The parity report, with its limits."""
        return parity_table(self.parity.to_json(), self.record.limits)

    def to_json(self) -> dict[str, Any]:
        """Return what `emotune export --json` prints."""
        return {"model": str(self.out), "source": str(self.source.directory), "rows": self.rows} | {
            key: value for key, value in asdict(self.record).items() if key != "source"
        }


@dataclass(frozen=True)
class _Rows:
    """The texts of the parity report, their targets (None: no labels), and the records if they are the run's own."""

    name: str
    texts: list[str]
    targets: Bools | None = None
    own: Sequence[Record] | None = None


def export_model(request: ExportRequest, reporter: Reporter, progress: Progress | None = None) -> ExportOutcome:
    """Export a model.

    Raises UsageError for a model that needs no export, OutputError for a place that cannot be written, and ModelError
    for a model that cannot be traced, or whose export differs from it by more than the limits. Nothing is written then.
    """
    _require_consistent(request)
    found = open_model(request.model)
    _require_exportable(found)
    _require_place(request, found)
    for module in ("torch", "transformers", "onnx", "onnxscript"):
        if find_spec(module) is None:
            raise missing_library("exporting a model", module, "export")
    for note in found.notes:
        reporter.warn(note)
    rows = _rows(request, found)
    limits = replace(PROFILES[request.profile], **(request.limits or {}))
    with staged(request.out) as stage:
        reporter.info(f"making the graph of {found.directory}, profile {request.profile}")
        _write_parts(found, stage, request.profile, one_length=request.one_length)
        reporter.info(f"comparing it with the trained model on {len(rows.texts):,} texts: {rows.name}")
        models = (replace(found, notes=()), open_model(str(stage)))
        trained, exported = (
            run_model(each, device="cpu", warn=reporter.warn, threads=request.threads) for each in models
        )
        logits = _logits(trained, exported, rows.texts, request.batch_size, progress)
        before, after = (found.decision.probabilities(each) for each in logits)
        dependence = _batch_dependence(exported, rows.texts, after)
        parity = parity_of(before, after, found.decision, rows.targets, dependence)
        _require_parity(parity, limits, request)
        record = _finish(found, stage, request, rows, logits[1], parity, limits)
    return ExportOutcome(request.out, found, rows.name, parity, record)


# The request


def _require_consistent(request: ExportRequest) -> None:
    """Raise UsageError for an unknown profile, two sources of texts, or options of data without data."""
    if request.profile not in PROFILES:
        raise UsageError(f"unknown profile {request.profile!r}", hint=did_you_mean(request.profile, PROFILES))
    known = asdict(PROFILES["exact"])
    if unknown := set(request.limits or ()) - known.keys():
        raise UsageError(f"unknown limit {min(unknown)!r}", hint=did_you_mean(min(unknown), known))
    if request.texts is not None and request.data is not None:
        raise UsageError("--texts and --data both name the texts to compare on", hint="Leave one of them out.")
    for option, value in (("--split", request.split), ("--set", request.overrides)):
        if value and request.data is None:
            raise UsageError(f"{option} is for --data, which is missing")


def _require_exportable(found: FoundModel) -> None:
    """Raise UsageError for a model that has no network to export."""
    kinds = [member.model.kind for member in found.members] or [found.kind]
    if ONNX in kinds:
        raise UsageError(f"{found.name} is an exported model already", hint="Export the model that it was made from.")
    if not any("torch" in find_kind(kind).needs for kind in kinds):
        message = f"a model of kind {found.kind} needs no export: emotune runs it without PyTorch as it is"
        raise UsageError(message, hint=f"emotune predict -m {found.name}")


def _require_place(request: ExportRequest, found: FoundModel) -> None:
    out, hint = request.out, "Choose another place: --out DIR"
    require_writable(out.parent, hint)
    if out.is_dir():
        require_writable(out, hint)
    if out.resolve().is_relative_to(found.directory.resolve()):
        raise OutputError("this is within the source model, which must not change", place=Place(out), hint=hint)
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise OutputError("already exists", place=Place(out), hint=hint)
    if out.exists() and any(out.iterdir()):
        if not (out / EXPORT).is_file():
            raise OutputError("this directory is not empty, and not an earlier export", place=Place(out), hint=hint)
        if not request.overwrite:
            raise OutputError("already exists", place=Place(out), hint="Replace this export with --overwrite.")


def _rows(request: ExportRequest, found: FoundModel) -> _Rows:
    """Return the rows that the two models are compared on."""
    labels = found.decision.labels
    run = None if found.manifest is None else run_of(found.directory)
    if request.texts is not None:
        return _Rows(str(request.texts), _lines(request.texts))
    if request.data is not None:
        whole = hub_id(request.data) is not None or locate(request.data).is_dir()
        split = request.split or ("valid" if whole else None)  # a file is one split
        name, corpus = layout.read_other(run, request.data, [labels], split, request.overrides)
        records = corpus.splits[name]
        return _labelled(f"{name} of {request.data}", records, len(labels))
    if run is not None and found.manifest is not None and "sha256" in (noted := found.manifest.data.get("valid", {})):
        own = records_of(run, "valid", labels, str(noted["sha256"]))
        if own is not None:
            return replace(_labelled("the validation rows of the run", own, len(labels)), own=own)
    return _Rows("the starter corpus", _starter_texts())


def _labelled(name: str, records: Sequence[Record], num_labels: int) -> _Rows:
    return _Rows(name, [record.text for record in records], positives(targets_of(records, num_labels)))


def _lines(path: Path) -> list[str]:
    """Return the lines of a file that are not blank; raises as `read_lines`, and DataError for a file without any."""
    texts = [line for line in read_lines(path, "the texts") if line.strip()]
    if not texts:
        raise DataError("it has no texts: every line is blank", place=Place(path))
    return texts


# The export


def _write_parts(found: FoundModel, stage: Path, profile: str, *, one_length: bool) -> None:
    """Write graph, tokenizer and decision, of an ensemble those of its members, and a manifest."""
    typical = [] if profile == "exact" else _typical_texts(found)
    if not found.members:
        _write_single(found, stage, profile, typical, one_length=one_length)
        return
    for member in found.members:
        target = stage / MEMBERS / member.name
        if "torch" in find_kind(member.model.kind).needs:
            target.mkdir(parents=True)
            _write_single(member.model, target, profile, typical, one_length=one_length)
        else:
            assert member.model.manifest is not None, "members are models of ours"
            copy_files(member.model.directory, target, [*member.model.manifest.files, MANIFEST])
    write_weights(stage, {member.name: member.weights for member in found.members}, found.decision.labels)
    write_json(stage / DECISION, found.decision.to_json())
    _seal(found, stage, ENSEMBLE, None)


def _typical_texts(found: FoundModel) -> list[str]:
    """Return texts on which a compressed graph measures its ranges: training rows of the run, else the starter's."""
    run = None if found.manifest is None else run_of(found.directory)
    if run is not None:
        with suppress(EmotuneError, OSError):  # the data is gone
            corpus = load_corpus(resolve_data(layout.read_config(run).data), ("train",))
            return [record.text for record in corpus.splits["train"][:_TYPICAL]]
    return _starter_texts()[:_TYPICAL]


def _starter_texts() -> list[str]:
    corpus = load_stored_splits(resolve_data(DataConfig(path=STARTER)))
    return [record.text for records in corpus.splits.values() for record in records]


def _samples(made: "Exported", texts: Sequence[str]) -> list[dict[str, npt.NDArray[np.int64]]]:
    """Return the inputs of a graph for texts, in batches of rows of one length."""
    encoded = made.encoder.windows(texts, made.max_tokens)
    batches = batches_of_one_length(encoded.lengths, _BATCH)
    rows = [[encoded.ids[encoded.offsets[i] : encoded.offsets[i + 1]] for i in batch] for batch in batches]
    return [feed(each, packed=made.packed) for each in rows if len(each[0])]


def _write_single(found: FoundModel, stage: Path, profile: str, typical: Sequence[str], *, one_length: bool) -> None:
    from emotune.models import export
    from emotune.models.quantize import compressed

    made = export.make_graph(found, one_length=one_length)
    graph = made.graph
    if profile != "exact":
        graph = compressed(graph, "compact" if profile == "compact" else "fast", _samples(made, typical))
    write_file(stage / GRAPH, export.serialized(graph))
    made.encoder.save(stage / TOKENIZER)
    write_json(stage / DECISION, found.decision.to_json())
    _seal(found, stage, ONNX, made.max_tokens)


def _seal(found: FoundModel, stage: Path, kind: str, max_tokens: int | None) -> None:
    ours = found.manifest
    seal(
        stage,
        kind=kind,
        portability=find_kind(kind).portability,
        encoder=found.name if ours is None else ours.encoder,
        max_tokens=max_tokens,
        versions=versions() if ours is None else ours.versions,
        data={} if ours is None else ours.data,
    )


def _finish(
    found: FoundModel,
    stage: Path,
    request: ExportRequest,
    rows: _Rows,
    logits: Floats,
    parity: Parity,
    limits: Limits,
) -> ExportRecord:
    """Write the record, the card, the logits of the run's own validation rows, and the manifest again."""
    sizes = {"source": _bytes(found.directory), "export": _bytes(stage)}
    record = ExportRecord(
        profile=request.profile,
        source=source_of(found.directory, found.manifest, found.kind, request.out),
        parity=parity.to_json(),
        limits=asdict(limits),
        bytes=sizes,
        made_with=versions(_LIBRARIES),
    )
    write_json(stage / EXPORT, asdict(record))
    if rows.own is not None:
        save_rows(stage / layout.VALID, logits.astype(np.float32), targets_of(rows.own, len(found.decision.labels)))
    facts = [
        f"profile: {request.profile}",
        f"size: {size(sizes['export'])}, of the trained model {size(sizes['source'])}",
        f"compared with the trained model on {len(rows.texts):,} texts ({rows.name})",
    ]
    path = found.directory / "README.md"
    card = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    table = parity_table(parity.to_json(), asdict(limits))
    name = request.out.resolve().name
    write_file(stage / "README.md", export_card(name, card, found.language, facts, table, found.decision))
    sealed = read_manifest(stage)
    _seal(found, stage, sealed.kind, sealed.max_tokens)
    return record


def _bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


# Parity


def _logits(
    trained: EmotionClassifier,
    exported: EmotionClassifier,
    texts: Sequence[str],
    batch_size: int,
    progress: Progress | None,
) -> tuple[Floats, Floats]:
    """Return the logits of both models, shape (texts, labels) each."""
    parts: list[list[Any]] = [[], []]
    for start in range(0, len(texts), _CHUNK):
        chunk = texts[start : start + _CHUNK]
        for model, own in zip((trained, exported), parts, strict=True):
            own.append(model.logits(chunk, batch_size=batch_size))
        if progress is not None:
            progress(start + len(chunk), len(texts))
    before, after = (np.concatenate(own) for own in parts)
    return before, after


def _batch_dependence(exported: EmotionClassifier, texts: Sequence[str], reference: Floats) -> float:
    """Return the largest difference of a text's probabilities in 50 random batches from those in `reference`.

    One text is in every batch, and scored alone too.
    """
    rng, largest = np.random.default_rng(_SEED), 0.0
    probe = int(rng.integers(len(texts)))
    for number in range(_BATCHES + 1):
        rows = rng.integers(len(texts), size=0 if number == _BATCHES else _BATCH - 1)
        batch = np.append(rows, probe)
        found = exported.predict_proba([texts[i] for i in batch], max_windows=None)
        largest = max(largest, float(np.abs(found - reference[batch]).max()))
    return largest


def _require_parity(parity: Parity, limits: Limits, request: ExportRequest) -> None:
    """Raise ModelError, with the figures, for an export beyond the limits."""
    exceeded = limits.exceeded(parity)
    if not exceeded:
        return
    beyond = [beyond_limit(name, *pair) for name, pair in exceeded.items()]
    options = [OPTIONS[name] for name in exceeded if name in OPTIONS]
    remedies = [f"allow more: {', '.join(options)}"] if options else []
    remedies += [] if request.profile == "exact" else ["take the profile exact"]
    raise ModelError(
        f"the export differs too much from the trained model, and was not written: {'; '.join(beyond)}",
        place=Place(request.out),
        hint=f"To go on, {', or '.join(remedies)}." if remedies else None,
    )
