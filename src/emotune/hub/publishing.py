"""Pushes to the Hugging Face hub: the state of a repository, and one commit on top of it."""

import hashlib
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from emotune.errors import EmotuneError, OutputError, UsageError
from emotune.hub import TIMEOUT, file_digest, require_room

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MAIN = "main"
Contents = Mapping[str, "Path | bytes"]  # files by their paths in a repository: a file on this machine, or its bytes
_SILENCE = 120.0  # seconds that a push waits for an answer
_TOKENS = "https://huggingface.co/settings/tokens"
_NOTHING = "nothing was published"
_BRANCH = re.compile(r"\w(?:[\w./-]*\w)?", re.ASCII)
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


def require_repository(name: str, branch: str = MAIN) -> None:
    """Raise UsageError for names that no repository or branch on the hub can have."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    hint = "Write owner/name; the owner is your user name on the hub, or an organisation of yours."
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UsageError(f"{name!r} is not a name for a repository: {error}", hint=hint) from None
    if "/" not in name:
        raise UsageError(f"{name!r} is not a name for a repository: it has no owner", hint=hint)
    if not _BRANCH.fullmatch(branch):
        raise UsageError(f"{branch!r} is not a name for a branch", hint="Use letters, digits, and - _ . / within it.")


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
        found = api.model_info(name, timeout=TIMEOUT)
    except RepositoryNotFoundError:
        return Remote(name, branch)
    if found.id.casefold() != name.casefold():
        hint = f"Push to {found.id}."
        raise OutputError(f"{name} was renamed to {found.id} on the hub; {_NOTHING}", hint=hint)
    commit = found.sha
    if branch != MAIN:
        try:
            commit = api.model_info(name, revision=branch, timeout=TIMEOUT).sha
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
        path = api.hf_hub_download(remote.name, file, revision=remote.parent, etag_timeout=TIMEOUT)
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
        require_room(error)
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


def _failed_in_xet(error: Exception) -> bool:
    """Return whether an exception comes from a call of xet; its message does not always say so."""
    calls = (frame for each in _causes(error) for frame, _ in walk_tb(each.__traceback__))
    return any("xet" in frame.f_code.co_name for frame in calls)


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
        if _failed_in_xet(error):
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
