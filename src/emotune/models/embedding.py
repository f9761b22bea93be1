"""Embeddings of texts by a frozen encoder, and the cache of them on the disk.

A text longer than `max_length` tokens is read in windows that overlap by a quarter; its embedding is the mean of
theirs, weighted by tokens. Everything is computed in fp32: in bf16 the lengths of a batch choose the kernels, so an
embedding would depend on the other texts of its batch.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from emotune.config.settings import EmbeddingConfig
from emotune.data.published import cache_directory
from emotune.data.tokens import batches_by_length
from emotune.errors import ConfigError, UsageError
from emotune.models import encoder as encoders
from emotune.models.scoring import pick_device, require_known

Floats = npt.NDArray[np.float32]
Progress = Callable[[int, int], None]
FOLDER = "embeddings"
_LIMIT = 4 << 30
_FORMAT = 1
_CHUNK = 1024  # texts in a file of the cache: an interruption loses at most these
_DIGEST_BYTES = 32
_STALE_SECONDS = 24 * 3600
# keys of a configuration that change no embedding
_INCIDENTAL = {"_name_or_path", "architectures", "dtype", "id2label", "label2id"}
_INCIDENTAL |= {"problem_type", "transformers_version"}


class Embedder:
    """A frozen encoder on one device, with its pooling."""

    def __init__(
        self, source: Path, config: EmbeddingConfig, device: str = "auto", *, emoji_tokens: bool = False
    ) -> None:
        """Read a checkpoint's folder; raises ModelError as `encoder.build` does, ConfigError for invalid layers.

        emoji_tokens: add a token for each emoji that the tokenizer does not know, with the mean embedding of its name.
        """
        self.config, self._source = config, source
        self.network = encoders.load_body(source)
        self.encoder = encoders.text_encoder(source, self.network)
        if emoji_tokens:
            self.encoder, origins = self.encoder.with_emoji()
            known = self.network.get_input_embeddings().weight
            new = {number: known[origin.words].mean(dim=0) for number, origin in origins.items()}
            encoders.add_embeddings(self.network, new)
        top = len(encoders.layer_names(self.network))
        for layer in config.layers:
            if not -top - 1 <= layer <= top:
                hint = f"0 is its word embeddings, {top} or -1 its top layer."
                raise ConfigError(f"there is no layer {layer}: the encoder has {top}", hint=hint)
        layers = [layer % (top + 1) for layer in config.layers]
        if len(set(layers)) < len(layers):
            raise ConfigError(f"a layer is listed twice: {', '.join(map(str, config.layers))}")
        # counted from the bottom, the top one as -1
        self._layers = tuple(-1 if layer == top else layer for layer in layers)
        self._device = pick_device(device)
        self.network.to(self._device)
        hidden = int(self.network.config.hidden_size)
        self.width = hidden * (len(self._layers) if config.layer_join == "concat" else 1)

    @property
    def max_tokens(self) -> int:
        """The maximum number of tokens of a window."""
        return min(self.config.max_length, self.encoder.max_tokens)

    def within(self, texts: Sequence[str], max_windows: int) -> tuple[list[str], npt.NDArray[np.int64]]:
        """Return the texts cut to `max_windows` windows, and the characters cut from each, shape (texts,)."""
        return self.encoder.within(texts, max_windows, self.config.max_length)

    def num_windows(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Return the number of windows of each text, shape (texts,)."""
        return np.bincount(self.encoder.windows(texts, self.config.max_length).owner, minlength=len(texts))

    def embed(self, texts: Sequence[str], batch_size: int) -> Floats:
        """Return embeddings of shape (texts, width); batches have texts of similar length."""
        encoded = self.encoder.windows(texts, self.config.max_length)
        require_known(encoded, self.network.get_input_embeddings().num_embeddings)
        out = np.zeros((len(encoded), self.width), dtype=np.float32)
        read = np.flatnonzero(encoded.lengths)  # a text without tokens keeps zeros
        with torch.inference_mode():
            for rows in batches_by_length(encoded.lengths[read], batch_size):
                padded = encoded.padded(read[rows], self.encoder.pad_id)
                ids, mask = (torch.from_numpy(each).to(self._device) for each in padded)
                out[read[rows]] = self.pooled(ids, mask).float().cpu().numpy()
        return encoded.averaged(out, len(texts))

    def pooled(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the embeddings of one batch. Shapes: (rows, tokens) each → (rows, width)."""
        output = self.network(input_ids=ids, attention_mask=mask, output_hidden_states=self._layers != (-1,))
        # not hidden_states[-1]: some classes normalise the top layer afterwards
        states = [output.last_hidden_state if i == -1 else output.hidden_states[i] for i in self._layers]
        pooled = [_pool(state, mask, self.config.pooling) for state in states]
        return torch.cat(pooled, dim=1) if self.config.layer_join == "concat" else torch.stack(pooled).mean(dim=0)

    def about(self) -> dict[str, Any]:
        """Return all that an embedding depends on besides the text; weights and tokenizer as one sha256."""
        digest = hashlib.sha256(self.encoder.to_json().encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            if not name.startswith("pooler."):
                digest.update(name.encode())
                digest.update(np.ascontiguousarray(tensor.cpu().numpy()).data)
        network = {key: value for key, value in self.network.config.to_dict().items() if key not in _INCIDENTAL}
        digest.update(repr(sorted(network.items())).encode())
        settings = self.config.model_dump() | {"layers": self._layers, "max_length": self.max_tokens}
        return {"format": _FORMAT, "encoder": digest.hexdigest(), "dtype": "float32", **settings}

    def save(self, directory: Path) -> None:
        """Write the encoder and its tokenizer to a folder, unless it is their own."""
        if directory.resolve() == self._source.resolve():
            return
        directory.mkdir(exist_ok=True)
        encoders.save(self.network, self._source, self.encoder, directory)


def _pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Pool over tokens. Shapes: (rows, tokens, hidden), mask (rows, tokens) → (rows, hidden)."""
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
    info: Callable[[str], None],
    progress: Progress | None = None,
) -> Floats:
    """Return embeddings of shape (texts, width). Each distinct text is embedded once, or taken from the cache.

    cached: read and write the cache. If it cannot be used, `info` reports it and everything is embedded.
    progress: called with the number of distinct texts done, and of all.
    """
    rows = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    distinct, out = list(rows), np.zeros((len(rows), embedder.width), dtype=np.float32)
    digests = [text_digest(text) for text in distinct]
    cache, done = None, np.zeros(len(distinct), dtype=np.bool_)
    if cached:
        try:
            cache = EmbeddingCache(embedder.about(), embedder.width)
            done = cache.find(digests, out)
        except (OSError, UsageError) as error:
            info(f"the cache of embeddings is not used: {error}")
    if done.any():
        info(f"{done.sum():,} of {len(distinct):,} distinct texts are in the cache of embeddings")
    todo, num_done = np.flatnonzero(~done), int(done.sum())
    for start in range(0, len(todo), _CHUNK):
        chunk = todo[start : start + _CHUNK]
        out[chunk] = embedder.embed([distinct[i] for i in chunk], batch_size)
        num_done += len(chunk)
        if cache is not None:
            try:
                cache.add([digests[i] for i in chunk], out[chunk])
            except OSError as error:
                info(f"embeddings are not cached: {error}")
                cache = None
        if progress is not None:
            progress(num_done, len(distinct))
    if cache is not None and len(todo):
        cache.tidy()
    return out[[rows[text] for text in texts]]


def text_digest(text: str) -> bytes:
    """Return the key of a text in the cache, 32 bytes."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class EmbeddingCache:
    """The cached embeddings of one `Embedder`, of `width` numbers each.

    about: everything that they depend on, as JSON values. limit: bytes of all files of all embedders together.
    """

    def __init__(self, about: Mapping[str, Any], width: int, *, limit: int = _LIMIT) -> None:
        name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        self.folder = cache_directory() / FOLDER / name[:_DIGEST_BYTES]
        self._width, self._limit = width, limit

    def find(self, digests: Sequence[bytes], out: Floats) -> npt.NDArray[np.bool_]:
        """Fill the rows of `out` whose texts are cached; return which, shape (texts,). The digests are distinct."""
        found = np.zeros(len(digests), dtype=np.bool_)
        rows = {digest: i for i, digest in enumerate(digests)}
        for path in sorted(self.folder.glob("*.safetensors")):
            if found.all():
                break
            texts, embeddings = self._read(path)
            pairs = [(i, j) for j, text in enumerate(texts) if (i := rows.get(text)) is not None]
            if pairs:
                here, there = np.array(pairs).T
                out[here] = embeddings[there]
                found[here] = True
        return found

    def _read(self, path: Path) -> tuple[list[bytes], Floats]:
        """Return the digests and embeddings of a file; none of a missing one, or a damaged one, which is removed."""
        nothing: tuple[list[bytes], Floats] = [], np.zeros((0, self._width), dtype=np.float32)
        try:
            content = path.read_bytes()
        except OSError:
            return nothing
        if hashlib.sha256(content).hexdigest() == path.stem:
            with suppress(SafetensorError, KeyError, ValueError):
                tensors = load(content)
                texts, embeddings = tensors["texts"], tensors["embeddings"]
                keyed = texts.dtype == np.uint8 and texts.ndim == 2 and texts.shape[1] == _DIGEST_BYTES
                fits = embeddings.dtype == np.float32 and embeddings.shape == (len(texts), self._width)
                if keyed and fits and np.isfinite(embeddings).all():
                    with suppress(OSError):
                        os.utime(path)  # the time of last use
                    return [row.tobytes() for row in texts], embeddings
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return nothing

    def add(self, digests: Sequence[bytes], embeddings: Floats) -> None:
        """Add embeddings, shape (texts, width); raises OSError."""
        texts = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, _DIGEST_BYTES)
        content = save({"texts": texts, "embeddings": np.ascontiguousarray(embeddings, dtype=np.float32)})
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # embeddings reveal their texts in part
        path = self.folder / f"{hashlib.sha256(content).hexdigest()}.safetensors"
        part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        try:
            part.write_bytes(content)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove files beyond the limit, the least recently used first, and partial files of killed processes."""
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
