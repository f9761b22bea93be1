"""Embeddings of texts kept on the disk, so that no text is read twice by the same encoder in the same way.

    CACHE/embeddings/NAME/       NAME is a digest of the encoder and of how it is read
        SHA256.safetensors       of some texts: sha256 (`texts`, n × 32 bytes) and `embeddings` (n, width), float32

A file is named by the sha256 of its own content, written beside its place and renamed: several processes may read and
write at once, and one that is damaged is found out, removed and made again. The texts themselves are not kept. What was
not used for longest goes when all together exceeds a limit; the whole folder may be removed at any time.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from emotune.data.published_cache import cache_directory

Floats = npt.NDArray[np.float32]
FOLDER = "embeddings"
LIMIT = 4 << 30
_DIGEST_BYTES = 32
_STALE_SECONDS = 24 * 3600


def text_digest(text: str) -> bytes:
    """The 32 bytes by which a text is found again."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class EmbeddingCache:
    """The embeddings of one encoder, read in one way, of `width` numbers each.

    about: all that they depend on, as JSON takes it. limit: bytes of all files of all encoders together.
    """

    def __init__(self, about: Mapping[str, Any], width: int, *, limit: int = LIMIT) -> None:
        name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        self.folder = cache_directory() / FOLDER / name[:_DIGEST_BYTES]
        self._width, self._limit = width, limit

    def find(self, digests: Sequence[bytes], out: Floats) -> npt.NDArray[np.bool_]:
        """Fill the rows of `out` whose texts are here; which they are, shape (texts,). No digest may stand twice."""
        found = np.zeros(len(digests), dtype=np.bool_)
        rows = {digest: i for i, digest in enumerate(digests)}
        for path in sorted(self.folder.glob("*.safetensors")):
            if found.all():
                break
            shard = self._read(path)
            if shard is None:
                continue
            texts, embeddings = shard
            pairs = [(i, j) for j, text in enumerate(texts) if (i := rows.get(text)) is not None]
            if pairs:
                here, there = np.array(pairs).T
                out[here] = embeddings[there]
                found[here] = True
        return found

    def _read(self, path: Path) -> tuple[list[bytes], Floats] | None:
        """The digests and embeddings of a file; None for one that is gone, or damaged and now removed."""
        try:
            content = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(content).hexdigest() == path.stem and (shard := _parsed(content, self._width)) is not None:
            with suppress(OSError):
                os.utime(path)  # it was of use now
            return shard
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return None

    def add(self, digests: Sequence[bytes], embeddings: Floats) -> None:
        """Keep embeddings, shape (texts, width); raises OSError when they cannot be written."""
        texts = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, _DIGEST_BYTES)
        content = save({"texts": texts, "embeddings": np.ascontiguousarray(embeddings, dtype=np.float32)})
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # an embedding tells something of its text
        path = self.folder / f"{hashlib.sha256(content).hexdigest()}.safetensors"
        part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        try:
            part.write_bytes(content)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what exceeds the limit, the least recently used first, and what killed processes left."""
        files: list[tuple[float, int, Path]] = []
        for path in self.folder.parent.glob("*/*"):
            with suppress(OSError):
                status = path.stat()
                files.append((status.st_mtime, status.st_size, path))
        over = sum(size for _, size, _ in files) - self._limit
        for used, size, path in sorted(files):
            if over > 0 or (path.suffix == ".part" and used < time.time() - _STALE_SECONDS):
                over -= size
                with suppress(OSError):
                    path.unlink(missing_ok=True)


def _parsed(content: bytes, width: int) -> tuple[list[bytes], Floats] | None:
    """The digests and embeddings in a file's content; None when it holds something else."""
    try:
        tensors = load(content)
        texts, embeddings = tensors["texts"], tensors["embeddings"]
    except (SafetensorError, KeyError, ValueError):
        return None
    if texts.dtype != np.uint8 or texts.ndim != 2 or texts.shape[1] != _DIGEST_BYTES:
        return None
    if embeddings.dtype != np.float32 or embeddings.shape != (len(texts), width) or not np.isfinite(embeddings).all():
        return None
    packed = texts.tobytes()
    return [packed[i : i + _DIGEST_BYTES] for i in range(0, len(packed), _DIGEST_BYTES)], embeddings
