"""Files that are written whole or not at all, and what is said when they cannot be."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError

from emotune.errors import OutputError, Place

_NO_SPACE = "Free some space, then try again."


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write (read-only, full disk, no permission) into an OutputError that names the place."""
    try:
        yield
    except SafetensorError as error:
        hint = _NO_SPACE if f"os error {errno.ENOSPC}" in str(error) else None
        raise OutputError(f"cannot write: {error}", place=Place(path), hint=hint) from error
    except OSError as error:
        hint = _NO_SPACE if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
        place = Place(Path(error.filename)) if isinstance(error.filename, str) else Place(path)
        raise OutputError(f"cannot write: {error.strerror or error}", place=place, hint=hint) from error


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A new file to fill; on success it takes the place of `path`, on failure nothing has changed."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
