"""The model directory: layout, manifest, writing and finding it.

    config.json  model.safetensors  tokenizer.json  tokenizer_config.json   for plain transformers
    README.md                                                               the model card
    decision.json                                                           thresholds and policies (emotune.decision)
    emotune.json                                                            the manifest: written last

A directory is written beside its place and renamed into it, so it is never incomplete. The manifest has the sha256 of
every file and of itself; a directory that differs from its manifest is refused. Nothing is ever unpickled, and no code
that comes with a model is ever run.
"""

import difflib
import hashlib
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from emotune.artifact.safety.directory import (
    CONFIG,
    GRAPH,
    TOKENIZER,
    WEIGHTS,
    WEIGHTS_INDEX,
    entries,
    in_hub_cache,
    refuse_code,
    require_classifier,
    shard_names,
)
from emotune.artifact.safety.files import read_json, readable
from emotune.atomic import (
    how_to_restore,
    json_text,
    link_or_copy,
    require_writable,
    restore,
    staged,
    write_file,
    writing,
)
from emotune.config.kinds import Portability
from emotune.decision import Decision
from emotune.errors import UPDATE, MissingInputError, ModelError, OutputError, Place
from emotune.hub import fetch_model, file_digest, local_path

MANIFEST = "emotune.json"
DEFAULT = "default"  # the name of the model that the package contains
_BUNDLED = Path(__file__).parents[1] / DEFAULT
DECISION, CARD = "decision.json", "README.md"
FORMAT_VERSION = 1
# the export in a repository of the hub, beside the trained model: where optimum and transformers.js look for it
EXPORTED = "onnx"
# folders of a downloaded repository that no library reads as part of the model: that export, and notes of `hf download`
ASIDE = (f"{EXPORTED}/", ".cache/")
_HUB_NAME = re.compile(rf"(?P<id>[^/@~.][^/@]*/[^/@]+)(?P<part>/{EXPORTED})?(@(?P<revision>[^@]+))?")
_PACKED = (".zip", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".7z")
# .npy and .h5 can contain pickles
_PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".joblib", ".ckpt", ".npy", ".h5", ".msgpack"}
# a library may read such files without being asked, such as adapter_config.json
_READ_UNASKED = {".json", ".safetensors", ".py"}
_TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"]
_TOKENIZER_FILES += ["vocab.txt", "vocab.json", "merges.txt", "spiece.model", "spm.model", "sentencepiece.bpe.model"]
# files without which a model of a kind cannot be opened
_REQUIRED = {
    "encoder": (CONFIG, WEIGHTS, TOKENIZER, DECISION),
    "onnx": (GRAPH, TOKENIZER, DECISION),
}
_FEWEST_TOKENS, _MOST_TOKENS = 8, 1 << 20
_LIBRARIES = ("torch", "transformers", "accelerate", "tokenizers", "scikit-learn")


@dataclass(frozen=True)
class FileEntry:
    """The sha256 and the size of a file of a model."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """The content of `emotune.json`: the provenance of a model and the sha256 of its files.

    max_tokens: the maximum number of tokens of a window; None for a kind that reads a text whole. digest: the sha256 of
    this file without the digest; None in models of older versions.
    """

    format_version: int
    kind: str
    portability: Portability
    encoder: str
    max_tokens: int | None
    versions: dict[str, str]
    data: dict[str, dict[str, str | int]]
    files: dict[str, FileEntry]
    digest: str | None = None


def seal(directory: Path, **described: Any) -> Manifest:
    """Write the manifest of all files in a directory, as the last file; `described` has its other fields."""
    files = {name: _entry(path) for name, path in _files(directory).items()}
    manifest = _with_digest(Manifest(format_version=FORMAT_VERSION, files=files, **described))
    write_file(directory / MANIFEST, _manifest_text(manifest))
    return manifest


def _files(directory: Path) -> dict[str, Path]:
    """Return the files of a model directory by their names in the manifest, without the manifest itself."""
    found = {path.relative_to(directory).as_posix(): path for path in sorted(directory.rglob("*")) if path.is_file()}
    found.pop(MANIFEST, None)
    return found


def _entry(path: Path) -> FileEntry:
    return FileEntry(sha256=file_digest(path), bytes=path.stat().st_size)


def _with_digest(manifest: Manifest) -> Manifest:
    content = _manifest_text(replace(manifest, digest=None))
    return replace(manifest, digest=hashlib.sha256(content.encode()).hexdigest())


def _manifest_text(manifest: Manifest) -> str:
    return json_text(asdict(manifest))


def find_model(name: str) -> Path:
    """Return the directory of a MODEL argument: `default`, a run directory, a model directory, or a hub id.

    A hub id is `owner/name`; `owner/name@revision` is a branch, tag or commit, `owner/name/onnx` the export beside it.

    A directory without a manifest is a classifier of other software. Raises MissingInputError if nothing is found,
    ModelError for a directory that is not a model, or an incomplete model of emotune.
    """
    if name == DEFAULT:
        if not (_BUNDLED / MANIFEST).is_file():
            raise MissingInputError("this install of emotune has no model", hint="Install it again, or name a model.")
        return _BUNDLED
    path = local_path(name)
    if path is None or not (path / MANIFEST).is_file():
        with suppress(OSError, ValueError, RuntimeError):  # not a path
            restore(Path(name).expanduser())
            restore(Path(name).expanduser() / "model")
        path = local_path(name)
    if path is not None and path.is_dir():
        return _find_in(path)
    if path is not None:
        hint = f"Unpack it, and name the folder that contains {CONFIG}." if path.suffix in _PACKED else None
        raise ModelError("a model is a directory, not a file", place=Place(path), hint=hint)
    run, near = Path(name).parent, nearest_run(name)
    if Path(name).name == "model" and _has_started(run):
        raise _unfinished(run)
    suggested = None if near is None else f"Did you mean {near}?"
    others = sorted(path.name for path in _runs_in(run) if _has_started(path))
    found = _HUB_NAME.fullmatch(name)
    if found is None or others:
        listed = ", ".join(others[:5]) + (", …" if len(others) > 5 else "")
        known = (
            f"{run}/ has {listed}."
            if others
            else "MODEL is `default`, a run directory, a model directory or a hub id (owner/name)."
        )
        raise MissingInputError(f"no model {name!r}", hint=suggested or known)
    # the list of the model's files, then those files and nothing else of the repository
    try:
        return _fetched(found)
    except MissingInputError as error:
        raise type(error)(error.message, hint=suggested or error.hint) from error


def _fetched(found: re.Match[str]) -> Path:
    """Fetch a model from the hub."""
    name, revision = found["id"], found["revision"]
    part = f"{EXPORTED}/" if found["part"] else ""
    directory = fetch_model(name, [part + file for file in (MANIFEST, CONFIG, WEIGHTS_INDEX)], revision)
    if (directory / part / MANIFEST).is_file():
        files = [MANIFEST, CARD, *read_manifest(directory / part).files]
        return fetch_model(name, [part + file for file in files], revision=directory.name) / part
    if part:
        raise ModelError(f"{name} on the hub has no export in {part}", hint=f"Name the model itself: {name}")
    if not (directory / CONFIG).is_file():
        raise ModelError(f"{name} on the hub is not a model: it has neither {MANIFEST} nor {CONFIG}")
    config = read_json(directory / CONFIG)
    refuse_code(config, directory / CONFIG)
    require_classifier(config, directory / CONFIG)
    index = directory / WEIGHTS_INDEX
    shards = shard_names(index) if index.is_file() else []
    wanted = [CONFIG, WEIGHTS_INDEX, WEIGHTS, *shards, *_TOKENIZER_FILES, CARD]
    return fetch_model(name, wanted, revision=directory.name)


def nearest_run(name: str) -> str | None:
    """Return the run or model beside a missing path, or in runs/, that has the nearest name; None without one."""
    wanted = Path(name).parent if Path(name).name == "model" else Path(name)
    found = {path.name.casefold(): path for folder in (Path("runs"), wanted.parent) for path in _runs_in(folder)}
    near = difflib.get_close_matches(wanted.name.casefold(), found, n=1)
    return str(found[near[0]]) if near else None


def _runs_in(folder: Path) -> list[Path]:
    """Return the runs and models in a folder; none in one that cannot be read."""
    try:
        paths = list(folder.expanduser().glob("*"))
        return [path for path in paths if _has_started(path) or (path / MANIFEST).is_file()]
    except (OSError, ValueError, RuntimeError):
        return []


def _has_started(path: Path) -> bool:
    """Return whether there is a run of emotune, finished or not."""
    return (path / "config.yaml").is_file() and (path / "data.json").is_file()


def _unfinished(run: Path) -> ModelError:
    hint = f"Unless a process trains it now, resume it: emotune train --resume {run}"
    return ModelError("this run has no model yet: its training has not finished", place=Place(run), hint=hint)


def _find_in(path: Path) -> Path:
    candidates = (path, path / "model")
    for candidate in candidates:
        if (candidate / MANIFEST).exists():
            return candidate
    inner = sorted(str(manifest.parents[1]) for manifest in path.glob(f"*/*/model/{MANIFEST}"))
    if inner and not _has_started(path):  # the folder of a search or a ladder, and not a run with folds
        message = "this is a folder of runs, not a run"
        raise ModelError(message, place=Place(path), hint=f"Name one of them: {', '.join(inner[:5])}")
    if any((candidate / DECISION).exists() for candidate in candidates) or (path / "config.yaml").exists():
        command = how_to_restore(path)
        if command is None and _has_started(path) and not (path / "model").exists():
            raise _unfinished(path)
        hint = None if command is None else f"A process may be replacing it. If none is running: {command}"
        raise ModelError(f"no manifest ({MANIFEST}): this model is incomplete", place=Place(path), hint=hint)
    if (path / CONFIG).exists():
        return path
    raise ModelError(f"neither {MANIFEST} nor {CONFIG}: this is not a model directory", place=Place(path))


def newest_model(parent: Path) -> Path | None:
    """Return the run under `parent` whose model was written last; None without one."""
    manifests = list(parent.glob(f"*/model/{MANIFEST}"))
    return max(manifests, key=lambda path: path.stat().st_mtime).parent.parent if manifests else None


def run_of(model: Path) -> Path | None:
    """Return the run directory of a model directory; None for a model outside a run."""
    if model.name != "model":
        model = model.absolute()  # it may be `.`
    run = model.parent
    return run if model.name == "model" and (run / "config.yaml").is_file() else None


def verify(directory: Path) -> Manifest:
    """Check a model directory against its manifest; raises ModelError for any difference or forbidden file."""
    manifest = read_manifest(directory)
    with readable(directory):
        # the names come from the directory: no name in a manifest can lead out of it
        for path in entries(directory, below=True):
            if path.suffix.casefold() in _PICKLES:
                raise ModelError("a pickle is not allowed in a model directory; nothing was read", place=Place(path))
        found = _files(directory)
        for name, path in found.items():
            if name not in manifest.files and path.suffix.casefold() in _READ_UNASKED and not name.startswith(ASIDE):
                raise ModelError("this file is not in the manifest; remove it", place=Place(path))
        for name, entry in manifest.files.items():
            if name not in found:
                raise ModelError(f"the manifest lists {name!r}, which is not in the directory", place=Place(directory))
            if found[name].stat().st_size != entry.bytes or file_digest(found[name]) != entry.sha256:
                message = "the file differs from its sha256 in the manifest: damaged or changed"
                raise ModelError(message, place=Place(found[name]))
    return manifest


def unlisted(directory: Path, manifest: Manifest) -> list[str]:
    """Return the files of a model directory that its manifest does not list."""
    return [name for name in _files(directory) if name not in manifest.files]


def resealed(manifest: Manifest, contents: Mapping[str, Path | bytes]) -> bytes:
    """Return the content of the manifest of these files; a path is a file that `manifest` lists under the same name."""
    files = {
        name: FileEntry(hashlib.sha256(content).hexdigest(), len(content))
        if isinstance(content, bytes)
        else manifest.files[name]
        for name, content in contents.items()
    }
    return _manifest_text(_with_digest(replace(manifest, files=files))).encode()


def read_manifest(directory: Path) -> Manifest:
    """Return the manifest of a model directory; raises ModelError for an invalid one. Files are not checked."""
    place = Place(directory / MANIFEST)
    content = read_json(directory / MANIFEST)
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        message = f"format version {version!r}; this emotune reads version {FORMAT_VERSION}"
        raise ModelError(message, place=place, hint=UPDATE if newer else None)
    manifest = _parsed(content, place)
    folded: dict[str, str] = {}
    for name in manifest.files:
        if Path(name).suffix.casefold() in _PICKLES:
            raise ModelError(f"the manifest lists {name!r}: a pickle is not allowed in a model directory", place=place)
        if (other := folded.setdefault(name.casefold(), name)) != name:
            message = f"the manifest lists {other!r} and {name!r}, which are the same file on some file systems"
            raise ModelError(message, place=place)
    if manifest.max_tokens is not None and not _FEWEST_TOKENS <= manifest.max_tokens <= _MOST_TOKENS:
        message = f"max_tokens is {manifest.max_tokens}; allowed are {_FEWEST_TOKENS} to {_MOST_TOKENS:,}"
        raise ModelError(message, place=place)
    for required in _REQUIRED.get(manifest.kind, ()):
        if required not in manifest.files:
            raise ModelError(f"the manifest does not list {required}", place=place)
    if manifest.kind == "onnx" and manifest.max_tokens is None:
        raise ModelError("max_tokens is missing: the number of tokens of a window", place=place)
    expected = _manifest_text(_with_digest(manifest)).encode()
    if manifest.digest is not None and (directory / MANIFEST).read_bytes() != expected:
        raise ModelError("the manifest differs from its own sha256: damaged or changed", place=place)
    return manifest


def _parsed(content: dict[str, Any], place: Place) -> Manifest:
    """Return the manifest of a file's content; raises ModelError with the first wrong key."""

    def require(fits: bool, key: str, fault: str) -> None:
        if not fits:
            raise ModelError(f"{key[:60]}: {fault}", place=place)

    def typed(key: str, value: Any, *types: type) -> None:
        allowed = " or ".join("null" if each is NoneType else each.__name__ for each in types)
        require(type(value) in types, key, f"{allowed} is expected, not {type(value).__name__}")

    known = [field.name for field in fields(Manifest)]
    for key in content:
        require(key in known, key, "it is no key of a manifest")
    for key in known[:-1]:  # models of older versions have no digest
        require(key in content, key, "it is missing")
    typed("format_version", content["format_version"], int)
    typed("kind", content["kind"], str)
    require(
        content["portability"] in get_args(Portability), "portability", f"one of {get_args(Portability)} is expected"
    )
    typed("encoder", content["encoder"], str)
    typed("max_tokens", content["max_tokens"], int, NoneType)
    typed("digest", content.get("digest"), str, NoneType)
    for key in ("versions", "data", "files"):
        typed(key, content[key], dict)
    for name, version in content["versions"].items():
        typed(f"versions.{name}", version, str)
    for split, described in content["data"].items():
        typed(f"data.{split}", described, dict)
        for key, value in described.items():
            typed(f"data.{split}.{key}", value, str, int)
    for name, entry in content["files"].items():
        typed(f"files.{name}", entry, dict)
        require(entry.keys() == {"sha256", "bytes"}, f"files.{name}", "the keys are not sha256 and bytes")
        typed(f"files.{name}.sha256", entry["sha256"], str)
        typed(f"files.{name}.bytes", entry["bytes"], int)
    return Manifest(**content | {"files": {name: FileEntry(**entry) for name, entry in content["files"].items()}})


def read_decision(directory: Path) -> Decision:
    """Return the decision rule of a model directory."""
    return Decision.from_json(read_json(directory / DECISION))


def require_changeable(directory: Path) -> None:
    """Raise OutputError for a model that is not changed in place.

    Such a model is part of emotune, in the hub's cache, on a read-only disk, or write-protected.
    """
    if directory.resolve() == _BUNDLED.resolve():
        hint = "Write a new model: --out DIR"
        raise OutputError("emotune does not change the model that is part of it", place=Place(directory), hint=hint)
    if in_hub_cache(directory):
        hint = "Copy it to a folder of your own, and name that."
        raise OutputError("emotune does not change models in the hub's cache", place=Place(directory), hint=hint)
    for place in (directory.resolve().parent, directory.resolve()):  # it is replaced by a new directory
        require_writable(place, "Write a new model elsewhere: --out DIR")


def reseal(directory: Path, manifest: Manifest, changed: Mapping[str, str | bytes]) -> None:
    """Replace files of a sealed model and update its manifest, atomically; raises OutputError.

    Other files keep their digests, so that damage since sealing is still detected.
    """
    require_changeable(directory)
    with staged(directory) as stage:
        for name, path in _files(directory).items():
            if name not in changed:
                (stage / name).parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(path.resolve(), stage / name)
        for name, content in changed.items():
            write_file(stage / name, content)
        files = manifest.files | {name: _entry(stage / name) for name in changed}
        write_file(stage / MANIFEST, _manifest_text(_with_digest(replace(manifest, files=files))))


def copy_files(directory: Path, target: Path, names: Iterable[str], *, link: bool = False) -> None:
    """Copy files of a model to another directory, by hard links if `link`; raises OutputError."""
    for name in names:
        with writing(target / name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (link_or_copy if link else shutil.copyfile)((directory / name).resolve(), target / name)


def versions(libraries: Sequence[str] = _LIBRARIES) -> dict[str, str]:
    """Return the versions of emotune and of those libraries that are installed; the default: those of its models."""
    from importlib import metadata

    found = {"emotune": metadata.version("emotune")}
    for name in libraries:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
