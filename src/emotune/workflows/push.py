"""`emotune push`: a model, its card with scores, and its report, to the Hugging Face hub in one commit.

open and verify the model → its files without places of this machine → scores and reports of its evaluations → the card
→ refuse secrets → what the hub has already → one commit

The manifest that is published lists every file of the model but the card, so that the card can be edited on the hub.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from emotune.artifact.exported import EXPORT
from emotune.artifact.manifest import (
    ASIDE,
    CARD,
    EXPORTED,
    MANIFEST,
    Manifest,
    read_manifest,
    resealed,
    run_of,
    unlisted,
)
from emotune.artifact.opening import FoundModel, open_model
from emotune.artifact.safety.directory import CONFIG, TOKENIZER, TOKENIZER_CONFIG, VOCABULARY, in_hub_cache
from emotune.artifact.safety.files import read_json
from emotune.atomic import json_text
from emotune.display import FrameData, Shown, Table
from emotune.errors import EmotuneError, ModelError, OutputError, Place, UsageError
from emotune.hub import publishing
from emotune.hub.publishing import MAIN, Contents, Remote
from emotune.reporter import Reporter
from emotune.reports.card import Result, merged_card, published_card, published_of
from emotune.reports.evaluation import METRICS
from emotune.reports.tables import size
from emotune.reports.writer import PAGE
from emotune.runs import layout
from emotune.workflows.export import ExportRequest, export_model

_EVALUATIONS = "eval"
_BESIDE = (f"{_EVALUATIONS}/", *ASIDE)  # folders of a repository beside the model
_IGNORE = ".gitignore"
# what a repository may have beside a model
_NEUTRAL = (".gitattributes", CARD, "LICENSE", "LICENSE.md", "LICENSE.txt")
# the leading folders of an absolute path, on Windows too
_FOLDERS = re.compile(
    r"(?<![\w/:.}\\])(?:~?/(?:[^\s/'\"`|<>():;,]+/)+|(?:[A-Za-z]:[\\/]+|\\\\)(?:[^\s\\/'\"`|<>():;,]+[\\/]+)+)"
    r"(?=[^\s\\/'\"`|<>():;,])"
)
_HOME = re.compile(r"(?:/home|/Users|/root)/\w|\b[A-Za-z]:\\+Users\\+\w|\bfile:///")
_SECRET = re.compile(
    r"\bhf_[A-Za-z0-9]{30,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bAKIA[0-9A-Z]{16}\b|\bsk-[A-Za-z0-9_-]{32,}"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY"
)
_TEXTS = (".json", ".md", ".html", ".txt", ".yaml")
_WORDS = (TOKENIZER, VOCABULARY, "vocab.json", "vocab.txt", "merges.txt")  # words of texts, in no order
_PATH_KEYS = ("_name_or_path", "name_or_path")  # transformers writes them, and nothing reads them


@dataclass(frozen=True)
class PushRequest:
    """The model and its repository.

    branch: it is made if it is missing. public: whether a new repository is public. with_onnx: also export the model,
    into the folder `onnx`. message: of the commit. dry_run: list the files and send nothing. bars: show progress bars.
    """

    model: str
    repository: str
    branch: str = MAIN
    public: bool = False
    with_onnx: bool = False
    message: str | None = None
    dry_run: bool = False
    bars: bool = False


@dataclass(frozen=True)
class PushedFile:
    """A file of the repository."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, repr=False)
class PushOutcome(Shown):
    """The result of a push. status: pushed, already there, or dry run; commit: None for a dry run."""

    repository: str
    branch: str
    status: str
    files: tuple[PushedFile, ...]
    removed: tuple[str, ...] = ()
    private: bool | None = None
    commit: str | None = None
    url: str | None = None

    @property
    def table(self) -> Table:
        """The files and their sizes, with the total."""
        rows = ((file.path, size(file.bytes)) for file in self.files)
        return Table(("file", "size"), (*rows, ("total", size(sum(file.bytes for file in self.files)))))

    def _lines(self) -> Iterator[str]:
        if self.url is None:
            visibility = "private" if self.private else "public"
            yield f"nothing was sent: this is a dry run of a push to {self.repository} ({visibility})"
        else:
            yield f"{self.status}: {self.url}"

    def _tables(self) -> Iterator[tuple[str, Table]]:
        yield "", self.table

    def _data(self) -> FrameData:
        return [asdict(file) for file in self.files]

    def to_json(self) -> dict[str, Any]:
        """Return what `emotune push --json` prints."""
        return asdict(self) | {"bytes": sum(file.bytes for file in self.files)}


def push(request: PushRequest, reporter: Reporter) -> PushOutcome:
    """Publish a model in a repository of the hub.

    Raises UsageError for a request that makes no sense, ModelError for a model that fails its verification or has files
    that must not be published, OutputError for a push that the hub refuses. Nothing is published then.
    """
    name = request.repository
    publishing.require_repository(name, request.branch)
    found = open_model(request.model)
    for note in found.notes:
        reporter.warn(note)
    with _workplace() as folder:
        contents = _contents(request, found, folder, reporter)
        if request.dry_run:
            return PushOutcome(name, request.branch, "dry run", _files(contents), private=not request.public)
        return _pushed(request, contents, reporter)


@contextmanager
def _workplace() -> Iterator[Path]:
    """Yield a temporary folder; raises OutputError where there is no room for one."""
    try:
        made = TemporaryDirectory(prefix="emotune-push-")
    except OSError as error:
        hint = "Name a folder with free space in the environment variable TMPDIR."
        raise OutputError(f"cannot write a temporary folder: {error.strerror or error}", hint=hint) from error
    with made as folder:
        yield Path(folder)


def _files(contents: Contents) -> tuple[PushedFile, ...]:
    found = []
    for name, content in sorted(contents.items()):
        length = content.stat().st_size if isinstance(content, Path) else len(content)
        found.append(PushedFile(name, length, publishing.digest_of(content)))
    return tuple(found)


# The files


def _contents(request: PushRequest, found: FoundModel, folder: Path, reporter: Reporter) -> dict[str, Path | bytes]:
    """Return the files of the repository; raises as `push`. folder: for an export."""
    directory, manifest = found.directory, found.manifest
    if manifest is None:
        hint = f"Make an emotune model of it: emotune tune {found.name} --out DIR"
        raise UsageError(f"{found.name} was not written by emotune", hint=hint)
    extra = [name for name in unlisted(directory, manifest) if name not in _NEUTRAL and not name.startswith(_BESIDE)]
    if extra and not in_hub_cache(directory):
        message = "this file is not in the manifest, so it is not part of the model"
        raise ModelError(message, place=Place(directory / extra[0]), hint="Remove it, then push again.")
    contents = _published(directory, manifest)
    card, results, seed = _text(contents.get(CARD, b"")), [], None
    if (run := run_of(directory)) is not None:
        for path, metrics in _evaluations(run, manifest, reporter).items():
            report = _report(path, metrics, run, request, reporter)
            contents |= report
            results.append(_result(path, metrics, card, f"{_EVALUATIONS}/{path.name}" if report else None))
        with suppress(EmotuneError):
            seed = layout.read_config(run).training.seed
    if run is None:
        reporter.info("this model is not in a run, so no evaluations are pushed with it")
    elif not results:
        reporter.info(f"the card has no results: emotune evaluate {run}, then push again")
    contents[CARD] = published_card(card, request.repository, found.decision, results, seed).encode()
    if request.with_onnx:
        contents |= _export(request, folder / request.repository.rpartition("/")[2], reporter)
    _require_publishable(contents)
    return contents


def _published(directory: Path, manifest: Manifest, *, within: bool = False) -> dict[str, Path | bytes]:
    """Return the files of a model without places of this machine, and the manifest that fits them.

    within: it is a member of an ensemble, whose card stays in the manifest.
    """
    contents: dict[str, Path | bytes] = {}
    for name in manifest.files:
        inner = PurePosixPath(name)
        if inner.name == MANIFEST:
            part = inner.parent
            member = _published(directory / part, read_manifest(directory / part), within=True)
            contents |= {f"{part}/{each}": content for each, content in member.items()}
    for name in [*manifest.files, CARD]:
        if name not in contents and (directory / name).is_file():
            contents[name] = _without_places(directory / name)
    listed = {name: content for name, content in contents.items() if within or name != CARD}
    encoder = _FOLDERS.sub("", manifest.encoder)
    return contents | {MANIFEST: resealed(replace(manifest, encoder=encoder), listed)}


def _without_places(path: Path) -> Path | bytes:
    """Return a file of a model, or its content without folders of this machine where it has some."""
    if path.name == CARD:
        card = path.read_text(encoding="utf-8", errors="replace")
        return _FOLDERS.sub("", card).encode()
    if path.name not in (CONFIG, TOKENIZER_CONFIG, EXPORT):
        return path
    content = read_json(path)
    if path.name == EXPORT and isinstance(content.get("source"), dict):
        changed = content | {"source": content["source"] | {"place": None}}
    else:
        changed = {key: value for key, value in content.items() if key not in _PATH_KEYS or not _is_path(value)}
    return path if changed == content else json_text(changed).encode()


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and _FOLDERS.match(value) is not None


def _text(content: Path | bytes) -> str:
    data = content.read_bytes() if isinstance(content, Path) else content
    return data.decode("utf-8", "replace")


def _export(request: PushRequest, out: Path, reporter: Reporter) -> dict[str, Path | bytes]:
    """Export the model, and return the files of the folder `onnx`: a complete model with a manifest of its own."""
    export_model(ExportRequest(request.model, out, one_length=True), reporter)
    files = _published(out, read_manifest(out))
    return {f"{EXPORTED}/{name}": content for name, content in files.items()}


# Evaluations


def _evaluations(run: Path, manifest: Manifest, reporter: Reporter) -> dict[Path, dict[str, Any]]:
    """Return the folders of the evaluations of this very model, with their metrics; reports those of others."""
    found = {}
    for path in sorted((run / _EVALUATIONS).glob(f"*/{METRICS}")):
        try:
            metrics = read_json(path)
        except EmotuneError as error:
            reporter.warn(f"this evaluation is left out: {error}")
            continue
        if metrics.get("model_sha256") == manifest.digest and manifest.digest is not None:
            found[path.parent] = metrics
        else:
            level = f" --level {metrics['level']}" if metrics.get("level") else ""
            again = f"evaluate again: emotune evaluate {run} --split {metrics.get('split')}{level}"
            reporter.warn(f"{path.parent} is of another version of the model, or of emotune, and is left out; {again}")
    return found


def _result(folder: Path, metrics: Mapping[str, Any], card: str, shown: str | None) -> Result:
    """Return the scores of an evaluation. The data is known if it is that of the run, and published."""
    split, level = str(metrics["split"]), metrics["level"]
    own = folder.name == "-".join(part for part in (split, level) if part)
    published = published_of(card) if own else []
    described = _FOLDERS.sub("", str(next(iter(metrics["data"]), "the data")))
    data = published[0] if len(published) == 1 else None
    return Result(
        data=re.split(r" \(|: ", described)[0][:80] if data is None else data.title,
        hub_id=None if data is None else data.hub_id,
        split=split,
        level=level,
        rows=metrics["rows"],
        metrics=metrics["metrics"],
        intervals=metrics["intervals"],
        folder=shown,
    )


def _report(
    folder: Path, metrics: Mapping[str, Any], run: Path, request: PushRequest, reporter: Reporter
) -> dict[str, Path | bytes]:
    """Return the page and the pictures of an evaluation; none if there is no page, or the public must not see it."""
    page = folder / PAGE
    if not page.is_file():
        return {}
    if texts := metrics.get("texts_in_report"):
        without = f"a report without texts: emotune evaluate {run} --texts 0"
        if request.public:
            reporter.warn(f"{page} shows {texts:,} texts of the data and is left out; {without}")
            return {}
        reporter.info(f"{page} shows {texts:,} texts of the data; {without}")
    text = page.read_text(encoding="utf-8", errors="replace")
    for place in _places(metrics, run, request.model):
        text = text.replace(html.escape(place), "").replace(json.dumps(place)[1:-1], "")
    pictures = {path.name: path for path in sorted(folder.glob("*.png"))}
    files: dict[str, Path | bytes] = {PAGE: text.encode(), **pictures}
    return {f"{_EVALUATIONS}/{folder.name}/{name}": content for name, content in files.items()}


def _places(metrics: Mapping[str, Any], run: Path, model: str) -> list[str]:
    """Return the folders of this machine that a report may have, the longest first: of the data, run and encoder."""
    sources = [model, *map(str, metrics["data"])]
    for name in (layout.CONFIG, layout.DATA):
        with suppress(OSError):
            sources.append((run / name).read_text(encoding="utf-8", errors="replace"))
    return sorted({place for source in sources for place in _FOLDERS.findall(source)}, key=len, reverse=True)


def _require_publishable(contents: Contents) -> None:
    """Raise ModelError for a text that has a folder of somebody's home, or what looks like a secret."""
    for name, content in contents.items():
        path = PurePosixPath(name)
        if path.suffix not in _TEXTS or path.name in _WORDS:
            continue
        for number, line in enumerate(_text(content).splitlines(), start=1):
            secret, home = _SECRET.search(line), _HOME.search(line)
            if secret is None and home is None:
                continue
            what = "what looks like a secret" if secret else "a folder of this machine"
            start = (secret or home).start()  # type: ignore[union-attr]
            shown = f"{line[start : start + 5]}…" if secret else line[start : start + 40]
            texts = path.parts[0] == _EVALUATIONS
            hint = (
                "A report without texts: emotune evaluate RUN --texts 0" if texts else "Train or tune it without that."
            )
            raise ModelError(f"it has {what} ({shown}); nothing was sent", place=Place(Path(name), number), hint=hint)


# The hub


def _pushed(request: PushRequest, contents: dict[str, Path | bytes], reporter: Reporter) -> PushOutcome:
    """Send what the repository lacks."""
    name = request.repository
    remote = publishing.find_repository(name, request.branch)
    _require_place(remote, request)
    card = merged_card(_text(contents[CARD]), publishing.read_remote(remote, CARD))
    if card is None:
        del contents[CARD]
        reporter.warn(f"the card of {name} was edited on the hub and stays; delete README.md there to replace it")
    else:
        contents[CARD] = card.encode()
    removed = _left_over(remote, contents)
    private = not request.public if remote.private is None else remote.private
    outcome = PushOutcome(name, remote.branch, "already there", _files(contents), tuple(removed), private)
    if remote.holds(contents, removed):
        return replace(outcome, commit=remote.commit, url=publishing.page_of(name, remote.branch))
    total = size(sum(file.bytes for file in outcome.files))
    reporter.info(f"pushing {len(contents)} files, {total}, to {name} ({'private' if private else 'public'})")
    message = request.message or f"Push {Path(request.model).absolute().name} with emotune"
    commit = publishing.publish(
        remote, contents, removed=removed, private=private, message=message, warn=reporter.warn, bars=request.bars
    )
    return replace(outcome, status="pushed", commit=commit, url=publishing.page_of(name, remote.branch))


def _require_place(remote: Remote, request: PushRequest) -> None:
    """Raise OutputError for a repository of another visibility, or with files of other software."""
    name = remote.name
    if remote.private is not None and remote.private is request.public:
        is_now, option = ("private", "without --public") if remote.private else ("public", "with --public")
        hint = f"Push {option}, or change it on its page: {publishing.page_of(name)}/settings"
        raise OutputError(f"{name} is {is_now} on the hub, which a push does not change; nothing was sent", hint=hint)
    if _IGNORE in remote.digests:  # the hub would leave files out of the commit without a word
        message = f"{name} on the hub has a {_IGNORE}, which may exclude files of the model; nothing was sent"
        raise OutputError(message, hint=f"Delete {_IGNORE} there, then push again.")
    foreign = sorted(set(remote.digests) - set(_NEUTRAL))
    if foreign and MANIFEST not in remote.digests:
        message = f"{name} on the hub has files of other software ({', '.join(foreign[:3])}); nothing was sent"
        raise OutputError(message, hint="Push to another name, or delete these files there.")


def _left_over(remote: Remote, contents: Contents) -> list[str]:
    """Return the files of an earlier push that this one does not have."""
    if MANIFEST not in remote.digests:
        return []
    try:
        listed = set(json.loads(publishing.read_remote(remote, MANIFEST)).get("files", {}))
    except (ValueError, AttributeError):
        listed = set()
    return sorted(
        name
        for name in remote.digests
        if (name in listed or name.startswith(_BESIDE)) and name not in contents and name != CARD
    )
