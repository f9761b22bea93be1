"""The bytes of a URL, brought to a file: resumed where they broke off, tried again when a connection is cut.

A file on its way lies at `part`; beside it `part.etag` keeps the server's version of it, so that a later process goes
on with the same version (`Range` with `If-Range`, RFC 9110, sections 13.1.5 and 14.2).
"""

import http.client
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Protocol
from urllib.error import HTTPError, URLError
from urllib.request import Request, build_opener

from emotune.atomic import write_file
from emotune.data.published import DataFile, DataSet, unpacked
from emotune.errors import DataError, DownloadError, MissingInputError, Place

Progress = Callable[[int, int | None], None]
Pause = Callable[[float], None]
LARGEST = 64 << 20
_CHUNK = 1 << 16
_TIMEOUT = 30.0
_ATTEMPTS = 5
_LONGEST_WAIT = 60.0
_WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}


class _Cut(Exception):
    """The server or the way to it failed in a manner that another try may not meet; wait: seconds it asks for."""

    def __init__(self, reason: str, *, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def download(
    url: str, part: Path, *, size: int | None, progress: Progress | None = None, pause: Pause = time.sleep
) -> bool:
    """Bring what `part` lacks of the file at `url`; whether the whole is pieced together from several answers.

    size: bytes of the file (None: not known, at most LARGEST); a longer answer is not read to its end. progress is
    called with the bytes that are there and the bytes of the whole (None: not known). A try that brings nothing is
    followed by up to four more, with `pause` called with the seconds between them, longer each time.

    Raises DownloadError when the file is not to be had (what came of it stays in `part`), DataError for an answer that
    is longer than the file, OSError when `part` cannot be written.
    """
    failures, pieced = 0, length_of(part) > 0
    while size is None or length_of(part) != size:
        before = length_of(part)
        try:
            _receive(url, part, size, progress)
            break
        except _Cut as cut:
            failures = 1 if length_of(part) > before else failures + 1
            if failures == _ATTEMPTS:
                raise DownloadError(f"{url}: {cut} ({_ATTEMPTS} tries)") from None
            pause(min(_LONGEST_WAIT, 2.0 ** (failures - 1) if cut.wait is None else cut.wait))
        pieced = pieced or length_of(part) > 0
    return pieced


def length_of(part: Path) -> int:
    """How many bytes of a file are there already."""
    return part.stat().st_size if part.is_file() else 0


def drop(part: Path) -> None:
    """Remove a file on its way, and what is kept about it."""
    part.unlink(missing_ok=True)
    _etag_file(part).unlink(missing_ok=True)


def _etag_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _receive(url: str, part: Path, size: int | None, progress: Progress | None) -> None:
    """One request, its answer appended to `part`, or written in its stead when the server starts from the beginning."""
    start = length_of(part)
    # a compressed answer would have other lengths and ranges than the file
    headers = {"User-Agent": f"emotune/{metadata.version('emotune')}", "Accept-Encoding": "identity"}
    with _answer(Request(url, headers=headers | _from_here(part, start)), part) as answer:  # noqa: S310 - http(s) only
        if answer is None:
            return
        if answer.status == 206 and _first_byte(answer) != start:
            drop(part)
            raise _Cut("the server sent another part of the file than was asked for", wait=0.0)
        start = start if answer.status == 206 else 0
        promised = None if answer.length is None else start + answer.length
        with part.open("ab" if start else "wb") as file:
            if not start:
                _keep_etag(part, answer.headers.get("ETag"))
            done = start
            for chunk in _chunks(answer):
                done += len(chunk)
                if max(done, promised or 0) > (LARGEST if size is None else size):
                    break
                file.write(chunk)
                if progress is not None:
                    progress(done, size if promised is None else promised)
    _require_whole(url, part, done, promised, size)


def _require_whole(url: str, part: Path, done: int, promised: int | None, size: int | None) -> None:
    """Raise _Cut for an answer that ended early, DataError for one that is longer than the file.

    One that is shorter than the file, but as long as the server promised, is left for its digest to tell.
    """
    if max(done, promised or 0) > (LARGEST if size is None else size):
        drop(part)
        more = f"{LARGEST:,} bytes" if size is None else f"the {size:,} bytes of the published file"
        raise DataError(f"{url} sends more than {more}; nothing of it was kept")
    whole = size if promised is None else promised
    if whole is not None and done < whole:
        raise _Cut(f"the connection was cut after {done:,} of {whole:,} bytes")


def _from_here(part: Path, start: int) -> dict[str, str]:
    if not start:
        return {}
    etag = _etag_file(part)
    same = {"If-Range": etag.read_text(encoding="latin-1")} if etag.is_file() else {}
    return {"Range": f"bytes={start}-"} | same


def _keep_etag(part: Path, etag: str | None) -> None:
    """Keep a version mark by which to resume; a weak one (`W/…`) may not be used for that."""
    if etag is not None and re.fullmatch(r'"[\x21\x23-\x7e]*"', etag):
        _etag_file(part).write_text(etag, encoding="latin-1")
    else:
        _etag_file(part).unlink(missing_ok=True)


def _first_byte(answer: http.client.HTTPResponse) -> int | None:
    found = re.fullmatch(r"bytes (\d+)-\d+/(?:\d+|\*)", answer.headers.get("Content-Range", "").strip())
    return int(found[1]) if found else None


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            chunk = answer.read1(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _Cut(_words(error)) from None
        if not chunk:
            return
        yield chunk


@contextmanager
def _answer(request: Request, part: Path) -> Iterator[http.client.HTTPResponse | None]:
    """The server's answer to a request; None when it says that `part` is the whole file already."""
    try:
        # urlopen would keep the proxies of the first call for good
        answer = build_opener().open(request, timeout=_TIMEOUT)
    except HTTPError as error:
        with error:
            if error.code == 416:
                whole = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", "").strip())
                if whole and int(whole[1]) == length_of(part):
                    answer = None
                else:
                    drop(part)
                    raise _Cut("the server has less of the file than is here already", wait=0.0) from None
            else:
                raise _refused(request.full_url, error) from None
    except http.client.InvalidURL as error:
        raise DownloadError(f"not a web address: {error}") from None
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        raise _unreachable(request.full_url, error) from None
    if answer is None:
        yield None
        return
    with answer:
        yield answer


def _refused(url: str, error: HTTPError) -> Exception:
    """What an answer that is an error means for us."""
    reason = f"the server says {error.code} {error.reason}".rstrip()
    if error.code in _WORTH_ANOTHER_TRY:
        after = error.headers.get("Retry-After", "")
        return _Cut(reason, wait=float(after) if after.isdecimal() else None)
    return DownloadError(f"{url}: {reason}", status=error.code)


def _unreachable(url: str, error: Exception) -> Exception:
    """What it means that there was no answer: without a name or with a false certificate, trying again is no use."""
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, socket.gaierror):
        return DownloadError(f"{url}: no network, or the name of the server is not known ({_words(reason)})")
    if isinstance(reason, ssl.SSLCertVerificationError):
        certificate = f"the server's certificate is not trusted ({reason.verify_message})"
        return DownloadError(f"{url}: {certificate}; SSL_CERT_FILE names further ones")
    return _Cut(_words(reason))


def _words(reason: object) -> str:
    """A system's error in words."""
    if isinstance(reason, TimeoutError):
        return f"no answer within {_TIMEOUT:.0f} s"
    words = getattr(reason, "strerror", None) or str(reason)
    return words or type(reason).__name__


MIRROR_VARIABLE = "EMOTUNE_MIRROR"
FileProgress = Callable[[str, int, int | None], None]
_NOT_HELD = (401, 403, 404, 410)


class Origin(Protocol):
    """A place that files of one data set can be brought from; as a string, its name for the user."""

    @property
    def is_mirror(self) -> bool:
        """Whether it may hold a part of the set only."""
        ...

    def bring(self, file: DataFile, target: Path) -> bool:
        """Write a file to `target`, verified; False when this mirror does not hold it.

        Raises DownloadError when it is not to be had, DataError when what is there is not the published file.
        """
        ...


def origin_of(
    data_set: DataSet, mirror: str | None, *, progress: FileProgress | None = None, pause: Pause = time.sleep
) -> Origin:
    """Where to bring a set from: a URL or a folder with NAME/FILE or the set's files; None: where it is published."""
    if mirror is None or re.match(r"https?://", mirror):
        return _Web(data_set, mirror, progress, pause)
    folder = Path(mirror).expanduser()
    if not folder.is_dir():
        hint = f"A mirror (--from, {MIRROR_VARIABLE}) is a folder, or a URL that begins with http:// or https://."
        raise MissingInputError(f"no such folder: {mirror}", hint=hint)
    return _Folder(data_set, folder)


def _names(file: DataFile) -> list[str]:
    """The names that a mirror may hold a file under."""
    return list(dict.fromkeys([file.name, file.published_name]))


@dataclass(frozen=True)
class _Folder:
    data_set: DataSet
    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def is_mirror(self) -> bool:
        return True

    def bring(self, file: DataFile, target: Path) -> bool:
        for name in _names(file):
            for path in (self.folder / self.data_set.name / name, self.folder / name):
                if path.is_file():
                    write_file(target, _verified(_content(path), name, file, Place(path)))
                    return True
        return False


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MissingInputError(f"cannot read it: {error.strerror}", place=Place(path)) from error


@dataclass(frozen=True)
class _Web:
    data_set: DataSet
    mirror: str | None
    progress: FileProgress | None
    pause: Pause

    def __str__(self) -> str:
        return self.mirror or self.data_set.page

    @property
    def is_mirror(self) -> bool:
        return self.mirror is not None

    def bring(self, file: DataFile, target: Path) -> bool:
        for url, name in self._addresses(file):
            try:
                self._bring_from(url, name, file, target)
            except DownloadError as error:
                if not (self.is_mirror and error.status in _NOT_HELD):
                    raise
            else:
                return True
        return False

    def _addresses(self, file: DataFile) -> list[tuple[str, str]]:
        """The URLs at which a file may lie, each with its name there."""
        if self.mirror is None:
            return [(file.url, file.published_name)]
        base = self.mirror.rstrip("/")
        return [(f"{at}/{name}", name) for at in (f"{base}/{self.data_set.name}", base) for name in _names(file)]

    def _bring_from(self, url: str, name: str, file: DataFile, target: Path) -> None:
        part = _part(target, url)
        # the length is known of the file itself, when no other has the same rows
        size = file.size if name == file.name and not file.also else None
        progress = self.progress
        told = None if progress is None else lambda done, whole: progress(name, done, whole)
        pieced = download(url, part, size=size, progress=told, pause=self.pause)
        try:
            content = _verified(part.read_bytes(), name, file, url)
        except DataError:
            drop(part)
            if not pieced:
                raise
            # the pieces may be of different versions: a server without version marks cannot tell
            download(url, part, size=size, progress=told, pause=self.pause)
            raw = part.read_bytes()
            drop(part)
            content = _verified(raw, name, file, url)
        write_file(target, content)
        for left in target.parent.glob(f".{file.name}.*.part*"):
            left.unlink(missing_ok=True)


def _part(target: Path, url: str) -> Path:
    """Where a file lies on its way; each URL has a place of its own, since two may not hold the same bytes."""
    return target.with_name(f".{target.name}.{sha256(url.encode()).hexdigest()[:8]}.part")


def _verified(raw: bytes, name: str, file: DataFile, where: str | Place) -> bytes:
    """The file that was published, out of what lies somewhere under `name`; DataError when it is something else."""
    content = raw
    try:
        if name != file.name:
            content = unpacked(raw, file)
        digest = sha256(content).hexdigest()
        found = f"its sha256 is {digest}"
    except ValueError as error:
        digest, found = "", str(error)
    if file.accepts(digest):
        return content
    message = f"{where} is not the published {file.name}: {found}, that of the published one is {file.sha256}"
    hint = "Nothing of it was kept. Try again later, or take it from elsewhere: --from URL|DIR"
    if re.match(rb"\s*<(!doctype|html)", raw[:100], re.IGNORECASE):
        hint = "A web page came in its place: a proxy or a login may stand in between. Nothing of it was kept."
    raise DataError(message, hint=hint)
