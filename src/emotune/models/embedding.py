"""Embeddings of texts: what the layers of a frozen encoder say of a text's tokens, pooled.

A text that has more tokens than `max_length` is read in windows of so many that overlap by a quarter, and its
embedding is the mean of theirs, weighted by tokens. Everything is computed in fp32: in bf16 a text's embedding would
depend on the texts beside it, whose lengths choose the kernels.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from emotune.config.schema import Section
from emotune.data.published import cache_directory
from emotune.data.tokens import batches_by_length
from emotune.errors import ConfigError, UsageError
from emotune.models import encoder as encoders
from emotune.models.encoder import pick_device


class Reading(Section):
    """Which outputs of an encoder are an embedding: layers, each pooled over a text's tokens, then joined.

    Special tokens count as tokens, padding does not.
    """

    pooling: Literal["cls", "mean", "max"] = Field(
        default="mean", description="of a layer's outputs: the first token's, the mean, or the largest of each number"
    )
    layers: list[int] = Field(
        default=[-1], min_length=1, description="0: the word embeddings, 1: the first layer, …; -1: the top one"
    )
    layer_join: Literal["concat", "average"] = "concat"
    max_length: int = Field(
        default=128, ge=8, description="tokens read at a time; a longer text is read in windows, averaged by tokens"
    )


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


Progress = Callable[[int, int], None]
_FORMAT = 1
# a file of the cache holds so many: what an interruption loses at most
_CHUNK = 1024
# what a configuration says that changes no embedding
_INCIDENTAL = {"_name_or_path", "architectures", "dtype", "id2label", "label2id"}
_INCIDENTAL |= {"problem_type", "transformers_version"}


class Embedder:
    """A frozen encoder on one device, read in one way."""

    def __init__(self, source: Path, reading: Reading, device: str = "auto") -> None:
        """Read a checkpoint's folder; raises ModelError as `encoder.build` does, ConfigError for layers it has not."""
        self.reading, self._source = reading, source
        self._model = encoders.load_body(source)
        self._text_encoder = encoders.text_encoder(source, self._model)
        self._layers = _found(reading.layers, len(encoders.layer_names(self._model)))
        self._device = pick_device(device)
        self._model.to(self._device)
        hidden = int(self._model.config.hidden_size)
        self.width = hidden * (len(self._layers) if reading.layer_join == "concat" else 1)

    def embed(self, texts: Sequence[str], batch_size: int) -> Floats:
        """Embeddings of shape (texts, width), in batches of texts of like length."""
        encoded = self._text_encoder.windows(texts, self.reading.max_length)
        encoders.require_known(self._model, encoded)
        out = np.zeros((len(encoded), self.width), dtype=np.float32)
        read = np.flatnonzero(encoded.lengths)  # of no token at all, nothing can be said: a tokenizer may add none
        with torch.inference_mode():
            for rows in batches_by_length(encoded.lengths[read], batch_size):
                out[read[rows]] = self._pooled(*encoded.padded(read[rows], self._text_encoder.pad_id))
        return encoded.averaged(out, len(texts))

    def _pooled(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> Floats:
        """Embeddings of one batch; ids, mask: (rows, tokens)."""
        attended = torch.from_numpy(mask).to(self._device)
        output = self._model(
            input_ids=torch.from_numpy(ids).to(self._device),
            attention_mask=attended,
            output_hidden_states=self._layers != (-1,),
        )
        # the top one by its own name: some classes normalise it after the last layer
        states = [output.last_hidden_state if i == -1 else output.hidden_states[i] for i in self._layers]
        pooled = [_pool(state, attended, self.reading.pooling) for state in states]
        joined = torch.cat(pooled, dim=1) if self.reading.layer_join == "concat" else torch.stack(pooled).mean(dim=0)
        return np.asarray(joined.float().cpu().numpy())

    def about(self) -> dict[str, Any]:
        """All that an embedding depends on but the text; the encoder by the sha256 of its weights and tokenizer."""
        digest = hashlib.sha256(self._text_encoder.to_json().encode())
        for name, tensor in sorted(self._model.state_dict().items()):
            if not name.startswith("pooler."):
                digest.update(name.encode())
                digest.update(np.ascontiguousarray(tensor.cpu().numpy()).data)
        config = {key: value for key, value in self._model.config.to_dict().items() if key not in _INCIDENTAL}
        digest.update(repr(sorted(config.items())).encode())
        max_length = min(self.reading.max_length, self._text_encoder.max_tokens)
        reading = self.reading.model_dump() | {"layers": self._layers, "max_length": max_length}
        return {"format": _FORMAT, "encoder": digest.hexdigest(), "dtype": "float32", **reading}

    def save(self, directory: Path) -> None:
        """Write the encoder and its tokenizer to a folder, where they are not there already."""
        if directory.resolve() == self._source.resolve():
            return
        directory.mkdir(exist_ok=True)
        encoders.save(self._model, self._source, self._text_encoder, directory)


def _found(layers: Sequence[int], num_layers: int) -> tuple[int, ...]:
    """The layers counted from the bottom, the top one as -1."""
    for layer in layers:
        if not -num_layers - 1 <= layer <= num_layers:
            hint = f"0 is its word embeddings, {num_layers} or -1 its top layer."
            raise ConfigError(f"there is no layer {layer}: the encoder has {num_layers}", hint=hint)
    counted = [layer % (num_layers + 1) for layer in layers]
    if len(set(counted)) < len(counted):
        raise ConfigError(f"a layer is named twice: {', '.join(map(str, layers))}")
    return tuple(-1 if layer == num_layers else layer for layer in counted)


def _pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """One row a text; states: (rows, tokens, hidden), mask: (rows, tokens), 1 where there is a token."""
    if pooling == "cls":
        return states[:, 0]
    there = mask.unsqueeze(-1)
    if pooling == "max":
        return states.masked_fill(there == 0, -torch.inf).amax(dim=1)
    return (states * there).sum(dim=1) / there.sum(dim=1)


def embed_texts(
    embedder: Embedder,
    texts: Sequence[str],
    *,
    batch_size: int,
    cached: bool,
    say: Callable[[str], None],
    progress: Progress | None = None,
) -> Floats:
    """Embeddings of shape (texts, width); equal texts are read once, and what the disk's cache holds not at all.

    cached: take from the cache what is there and keep what is not. `progress` is told how many different texts are
    done, of how many. Where the cache cannot be written, `say` is told and the work goes on.
    """
    rows = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    different, out = list(rows), np.zeros((len(rows), embedder.width), dtype=np.float32)
    digests = [text_digest(text) for text in different]
    cache, done = None, np.zeros(len(different), dtype=np.bool_)
    if cached:
        try:
            cache = EmbeddingCache(embedder.about(), embedder.width)
            done = cache.find(digests, out)
        except (OSError, UsageError) as error:
            say(f"the cache of embeddings is not used: {error}")
    if done.any():
        say(f"{done.sum():,} of {len(different):,} different texts are in the cache of embeddings")
    todo, num_done = np.flatnonzero(~done), int(done.sum())
    for start in range(0, len(todo), _CHUNK):
        chunk = todo[start : start + _CHUNK]
        out[chunk] = embedder.embed([different[i] for i in chunk], batch_size)
        num_done += len(chunk)
        if cache is not None and not _kept(cache, [digests[i] for i in chunk], out[chunk], say):
            cache = None
        if progress is not None:
            progress(num_done, len(different))
    if cache is not None and len(todo):
        cache.tidy()
    return out[[rows[text] for text in texts]]


def _kept(cache: EmbeddingCache, digests: Sequence[bytes], embeddings: Floats, say: Callable[[str], None]) -> bool:
    try:
        cache.add(digests, embeddings)
    except OSError as error:
        say(f"embeddings are not kept: {error}")
        return False
    return True
