"""ONNX Runtime for browsers: two files of the npm package onnxruntime-web, verified, in emotune's cache."""

import hashlib
import io
import shutil
import subprocess
import tarfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from emotune.atomic import write_file
from emotune.data.published import cache_directory
from emotune.errors import DataError, DownloadError, MissingInputError, OutputError, Place
from emotune.reporter import Reporter

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
ARCHIVE = f"{PACKAGE}-{VERSION}.tgz"
_SHA512 = (
    "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
_SCRIPT, _WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
_SHA256 = {
    _SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    _WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
_SECONDS = 600  # of a download
NOTICE = f"""This file contains ONNX Runtime Web {VERSION} ({PACKAGE}), under the MIT License:

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE."""


@dataclass(frozen=True)
class Runtime:
    """The script of the runtime, a JavaScript module, and its WebAssembly."""

    script: bytes
    wasm: bytes


def find_runtime(archive: Path | None, reporter: Reporter) -> Runtime:
    """Return the runtime: from the archive of the npm package, else from the cache, else downloaded with npm.

    Raises MissingInputError without npm, or for an archive that is not there; DownloadError if npm fails; DataError
    for an archive that is not the published one.
    """
    folder = cache_directory() / PACKAGE / VERSION
    found = None if archive is not None else _cached(folder)
    if found is None:
        found = _unpacked(_downloaded(reporter)) if archive is None else _unpacked(_read(archive), Place(archive))
        with suppress(OutputError):  # without a cache, it is downloaded each time
            for name, content in found.items():
                write_file(folder / name, content)
    return Runtime(found[_SCRIPT], found[_WASM])


def _cached(folder: Path) -> dict[str, bytes] | None:
    try:
        found = {name: (folder / name).read_bytes() for name in _SHA256}
    except OSError:
        return None
    return found if _are_published(found) else None


def _are_published(files: dict[str, bytes]) -> bool:
    return all(hashlib.sha256(files[name]).hexdigest() == digest for name, digest in _SHA256.items())


def _read(archive: Path) -> bytes:
    try:
        return archive.read_bytes()
    except OSError as error:
        raise MissingInputError(
            f"cannot read the runtime: {error.strerror}", place=Place(archive), hint=_BY_HAND
        ) from None


_BY_HAND = (
    f"Get {ARCHIVE} on a machine with Node.js and a network: npm pack {PACKAGE}@{VERSION}\n"
    f"  Then name it here: --runtime {ARCHIVE}"
)


def _downloaded(reporter: Reporter) -> bytes:
    """Return the archive, which npm downloads from the registry that the user has configured."""
    npm = shutil.which("npm")
    if npm is None:
        message = f"ONNX Runtime for browsers ({PACKAGE}) is downloaded with npm, which is not installed"
        raise MissingInputError(message, hint=_BY_HAND)
    reporter.info(f"downloading {PACKAGE} {VERSION} with npm (33 MB, once)")
    with TemporaryDirectory() as folder:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", folder, "--loglevel", "error"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_SECONDS)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = f"no answer within {_SECONDS} s" if isinstance(error, subprocess.TimeoutExpired) else str(error)
            raise DownloadError(f"npm cannot download {PACKAGE}: {reason}", hint=_BY_HAND) from None
        path = Path(folder) / ARCHIVE
        if done.returncode or not path.is_file():
            reason = " ".join(done.stderr.split())[:300] or f"exit code {done.returncode}"
            raise DownloadError(f"npm cannot download {PACKAGE}: {reason}", hint=_BY_HAND)
        return path.read_bytes()


def _unpacked(archive: bytes, place: Place | None = None) -> dict[str, bytes]:
    """Return the files of the archive that a page needs; raises DataError for any other archive."""
    if hashlib.sha512(archive).hexdigest() != _SHA512:
        raise DataError(f"this is not the published {ARCHIVE}: its sha512 differs", place=place, hint=_BY_HAND)
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        found = {name: files.extractfile(f"package/dist/{name}") for name in _SHA256}
        contents = {name: file.read() for name, file in found.items() if file is not None}
    assert _are_published(contents), "the digests belong together"
    return contents
