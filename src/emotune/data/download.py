"""The files of published data sets, brought from where they are published, from a mirror on the web or from a folder.

A file is downloaded to a part file. A cut download is resumed (`Range`, RFC 9110, section 14), by a later process too.
A file takes its place only after its sha256 is verified.

This is own code because no library keeps all of these promises: pooch verifies digests but does not resume;
huggingface_hub resumes, but only files of the hub; neither looks for a file in the places and under the names that a
mirror may have, or accepts several versions of a file.
"""

import gzip
import http.client
import io
import json
import re
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, build_opener

from emotune.atomic import write_file
from emotune.data.published import DataFile, DataSet
from emotune.errors import DataError, DownloadError, MissingInputError, Place
from emotune.labels import DAIR

Progress = Callable[[int, int | None], None]
FileProgress = Callable[[str, int, int | None], None]
Pause = Callable[[float], None]
MIRROR_VARIABLE = "EMOTUNE_MIRROR"
LARGEST = 64 << 20
_CHUNK = 1 << 16
_TIMEOUT = 30.0
_ATTEMPTS = 5
_LONGEST_WAIT = 60.0
_WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}
_NOT_ON_THE_MIRROR = (401, 403, 404, 410)


@dataclass(frozen=True)
class Origin:
    """The place that the files of a data set are brought from; as a string, its name for the user.

    mirror      a folder or a URL with NAME/FILE or the files of the set; None: where the set is published
    progress    called with the name of a file, its bytes so far, and all its bytes (None: not known)
    pause       called with the seconds to wait before another try
    """

    data_set: DataSet
    mirror: str | Path | None
    progress: FileProgress | None
    pause: Pause

    def __str__(self) -> str:
        return self.data_set.page if self.mirror is None else str(self.mirror)

    def bring(self, file: DataFile, target: Path) -> bool:
        """Write a file to `target`, verified; False when the mirror does not have it.

        Raises DownloadError when it is not available, DataError when what is there is not the published file.
        """
        for place, name in self._places(file):
            if isinstance(place, str):
                try:
                    found = self._downloaded(place, name, file, target)
                except DownloadError as error:
                    if self.mirror is None or error.status not in _NOT_ON_THE_MIRROR:
                        raise
                    continue
            elif place.is_file():
                try:
                    raw = place.read_bytes()
                except OSError as error:
                    raise MissingInputError(f"cannot read it: {error.strerror}", place=Place(place)) from error
                found = _verified(raw, name, file, str(place))
            else:
                continue
            write_file(target, found)
            for left in target.parent.glob(f".{file.name}.*.part*"):
                left.unlink(missing_ok=True)
            return True
        return False

    def _places(self, file: DataFile) -> Iterator[tuple[str | Path, str]]:
        """The paths or URLs where a file may be, each with its name there."""
        if self.mirror is None:
            yield file.url, file.published_name
            return
        for folder in (f"{self.data_set.name}/", ""):
            for name in dict.fromkeys([file.name, file.published_name]):
                path = f"{folder}{name}"
                yield self.mirror / path if isinstance(self.mirror, Path) else f"{self.mirror.rstrip('/')}/{path}", name

    def _downloaded(self, url: str, name: str, file: DataFile, target: Path) -> bytes:
        # each URL has a part of its own, since two may not have the same bytes
        part = target.with_name(f".{target.name}.{sha256(url.encode()).hexdigest()[:8]}.part")
        # the length is that of the file itself, when no other version has the same rows
        size = file.size if name == file.name and not file.also else None
        progress = self.progress
        reported = None if progress is None else lambda done, whole: progress(name, done, whole)
        pieced = download(url, part, size=size, progress=reported, pause=self.pause)
        try:
            return _verified(part.read_bytes(), name, file, url)
        except DataError:
            part.unlink()
            if not pieced:
                raise
        # the pieces may be of different versions of the file: once more from the start
        download(url, part, size=size, progress=reported, pause=self.pause)
        raw = part.read_bytes()
        part.unlink()
        return _verified(raw, name, file, url)


def origin_of(
    data_set: DataSet, mirror: str | None, *, progress: FileProgress | None = None, pause: Pause = time.sleep
) -> Origin:
    """The origin for a mirror as the user names it; raises MissingInputError for one that is no folder and no URL."""
    if mirror is None or re.match(r"https?://", mirror):
        return Origin(data_set, mirror, progress, pause)
    folder = Path(mirror).expanduser()
    if not folder.is_dir():
        hint = f"A mirror (--from, {MIRROR_VARIABLE}) is a folder, or a URL that begins with http:// or https://."
        raise MissingInputError(f"no such folder: {mirror}", hint=hint)
    return Origin(data_set, folder, progress, pause)


def _verified(raw: bytes, name: str, file: DataFile, where: str) -> bytes:
    """The published file, made from what was found under `name`; raises DataError when it is something else."""
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
        hint = "This is a web page: a proxy or a login may stand in between. Nothing of it was kept."
    raise DataError(message, hint=hint)


def unpacked(raw: bytes, file: DataFile) -> bytes:
    """The file that is made from published JSON lines with this content; raises ValueError when it cannot be made.

    No more than the file's own length is unpacked.
    """
    assert file.size is not None, "the unpacked length is known"
    # as JSON a row has more characters, but not eight times as many; a gzip bomb is cut, and then no JSON any more
    limit = 8 * file.size
    try:
        text = gzip.GzipFile(fileobj=io.BytesIO(raw)).read(limit).decode("utf-8")
        lines = text.removesuffix("\n").split("\n")
        # dair-ai/emotion, the only set in this packing, numbers its labels in this order
        rows = [(row["text"], DAIR.names[row["label"]]) for row in map(json.loads, lines)]
    except (OSError, EOFError, zlib.error, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"not gzipped JSON lines with text and label: {error}") from error
    return "".join(f"{text};{label}\n" for text, label in rows).encode()


# One URL


class _Interrupted(Exception):
    """A failure of the server or the network that another try may not meet; wait: the seconds that it asks for."""

    def __init__(self, reason: str, *, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def download(
    url: str, part: Path, *, size: int | None, progress: Progress | None = None, pause: Pause = time.sleep
) -> bool:
    """Download what `part` lacks of the file at `url`; return whether the file comes from several answers.

    size: bytes of the file (None: not known, at most LARGEST); a longer answer is not read to its end. progress is
    called with the bytes so far and all bytes (None: not known). A try that brings nothing is followed by up to four
    more; pause is called with the seconds between them, twice as long each time.

    Raises DownloadError when the file is not available (the bytes so far stay in `part`), DataError for an answer that
    is longer than the file, OSError when `part` cannot be written.
    """
    failures, pieced = 0, length_of(part) > 0
    while size is None or length_of(part) != size:
        before = length_of(part)
        try:
            _receive(url, part, size, progress)
            break
        except _Interrupted as error:
            failures = 1 if length_of(part) > before else failures + 1
            if failures == _ATTEMPTS:
                raise DownloadError(f"{url}: {error} ({_ATTEMPTS} tries)") from None
            pause(min(_LONGEST_WAIT, 2.0 ** (failures - 1) if error.wait is None else error.wait))
        pieced = pieced or length_of(part) > 0
    return pieced


def length_of(part: Path) -> int:
    """The bytes of a file that are there already."""
    return part.stat().st_size if part.is_file() else 0


def _receive(url: str, part: Path, size: int | None, progress: Progress | None) -> None:
    """One request; its answer is appended to `part`, or replaces it when the server sends the whole file."""
    start, limit = length_of(part), LARGEST if size is None else size
    # the lengths and ranges of a compressed answer are not those of the file
    headers = {"User-Agent": f"emotune/{metadata.version('emotune')}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with _answer(Request(url, headers=headers), part) as answer:  # noqa: S310 - http(s) only
        if answer.status == 206 and not answer.headers.get("Content-Range", "").strip().startswith(f"bytes {start}-"):
            part.unlink(missing_ok=True)
            raise _Interrupted("the server sent another part of the file than was asked for", wait=0.0)
        done = start if answer.status == 206 else 0
        whole = size if answer.length is None else done + answer.length
        with part.open("ab" if done else "wb") as file:
            while (whole or 0) <= limit and (chunk := _chunk(answer)):
                done += len(chunk)
                if done > limit:
                    break
                file.write(chunk)
                if progress is not None:
                    progress(done, whole)
    if max(done, whole or 0) > limit:
        part.unlink(missing_ok=True)
        more = f"{LARGEST:,} bytes" if size is None else f"the {size:,} bytes of the published file"
        raise DataError(f"{url} sends more than {more}; nothing of it was kept")
    if whole is not None and done < whole:
        raise _Interrupted(f"the connection was cut after {done:,} of {whole:,} bytes")


def _chunk(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read1(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(_words(error)) from None


@contextmanager
def _answer(request: Request, part: Path) -> Iterator[http.client.HTTPResponse]:
    """The server's answer to a request. When it has less of the file than `part`, that is dropped."""
    try:
        # urlopen would keep the proxies of its first call
        answer = build_opener().open(request, timeout=_TIMEOUT)
    except HTTPError as error:
        with error:
            if error.code == 416:
                part.unlink(missing_ok=True)
                raise _Interrupted("the server has no more of the file than is here already", wait=0.0) from None
            reason = f"the server says {error.code} {error.reason}".rstrip()
            if error.code not in _WORTH_ANOTHER_TRY:
                raise DownloadError(f"{request.full_url}: {reason}", status=error.code) from None
            after = error.headers.get("Retry-After", "")
            raise _Interrupted(reason, wait=float(after) if after.isdecimal() else None) from None
    except http.client.InvalidURL as error:
        raise DownloadError(f"not a web address: {error}") from None
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        raise _unreachable(request.full_url, error) from None
    with answer:
        yield answer


def _unreachable(url: str, error: Exception) -> Exception:
    """The exception for no answer: an unknown host or an untrusted certificate is not worth another try."""
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, socket.gaierror):
        return DownloadError(f"{url}: no network, or the name of the server is not known ({_words(reason)})")
    if isinstance(reason, ssl.SSLCertVerificationError):
        certificate = f"the server's certificate is not trusted ({reason.verify_message})"
        return DownloadError(f"{url}: {certificate}; SSL_CERT_FILE names further ones")
    return _Interrupted(_words(reason))


def _words(reason: object) -> str:
    """A system's error in words."""
    if isinstance(reason, TimeoutError):
        return f"no answer within {_TIMEOUT:.0f} s"
    return getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
