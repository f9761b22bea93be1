"""Token ids of texts, and batches of texts of similar length. No torch.

The token ids of all texts are in one array without padding, to save memory. A batch is padded to its longest text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, chain
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from emotune.data import emoji
from emotune.errors import ModelError, Place

Ints = npt.NDArray[np.int64]
_CHUNK = 4096
_BUCKET_BATCHES = 200
_OVERLAP = 4  # windows overlap by one fourth
# bounds for the tokens of a text: a character may become several; a word of 16 characters is mostly several tokens
_TOKENS_OF_A_CHARACTER, _CHARACTERS_OF_A_TOKEN = 16, 16
_ALWAYS_TOKENIZED = 1 << 20  # characters; they take about half a second
_TOKENS_OF_A_ROW = 32  # on average in a batch for scoring: longer rows make smaller batches, which bounds the memory


@dataclass(frozen=True)
class Encoded:
    """Token ids of n texts: those of text i are `ids[offsets[i]:offsets[i + 1]]`, special tokens included.

    `owner[i]` is the text of row i: a long text has several rows, its windows. `num_cut`: the texts that lost tokens.
    """

    ids: npt.NDArray[np.int32]
    offsets: Ints
    owner: Ints
    num_cut: int = 0

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        """Tokens of each row, shape (n,)."""
        return self.offsets[1:] - self.offsets[:-1]

    def averaged(self, rows: npt.NDArray[np.float32], num_texts: int) -> npt.NDArray[np.float32]:
        """The values of rows, shape (rows, d), averaged over the windows of each text, weighted by tokens."""
        if len(self) == num_texts:
            return rows
        weights = np.maximum(self.lengths, 1).astype(np.float64)
        sums = np.zeros((num_texts, rows.shape[1]))
        np.add.at(sums, self.owner, rows * weights[:, None])
        return (sums / np.bincount(self.owner, weights)[:, None]).astype(np.float32)

    def padded(self, rows: npt.NDArray[np.int64], pad_id: int) -> tuple[Ints, Ints]:
        """Token ids and attention mask (1 token, 0 padding) of the rows, each of shape (rows, longest)."""
        starts, ends = self.offsets[rows], self.offsets[rows + 1]  # `lengths` would compute those of all rows
        lengths = ends - starts
        mask = np.arange(lengths.max()) < lengths[:, None]
        out = np.full(mask.shape, pad_id, dtype=np.int64)
        out[mask] = np.concatenate([self.ids[start:end] for start, end in zip(starts, ends, strict=True)])
        return out, mask.astype(np.int64)


class TextEncoder:
    """A tokenizer whose texts are cut or windowed here, not by padding and truncation of its own.

    `max_tokens`: the most tokens that the model takes, special tokens included.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int, pad_id: int) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._truncating = Lock()  # truncation is a state of the tokenizer, which threads share
        self._truncation: tuple[int, int] | None = None
        self.max_tokens = max_tokens
        self.pad_id = pad_id
        self._num_special = tokenizer.num_special_tokens_to_add(is_pair=False)
        if 2 * self._num_special > max_tokens:
            message = f"its tokenizer adds {self._num_special} tokens to each text; the model takes {max_tokens}"
            raise ModelError(message)

    @classmethod
    def from_file(cls, path: Path, max_tokens: int, pad_id: int) -> "TextEncoder":
        """Read `tokenizer.json`; raises ModelError for an invalid one."""
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the tokenizers library raises nothing narrower
            raise ModelError(f"not a tokenizer: {error}", place=Place(path)) from error
        return cls(tokenizer, max_tokens, pad_id)

    def with_emoji(self) -> tuple["TextEncoder", dict[int, emoji.Origin]]:
        """Return one with tokens for emoji and emoticons, and the origins of these; the same if it knows all emoji."""
        tokenizer, origins = emoji.with_tokens(self._tokenizer)
        return TextEncoder(tokenizer, self.max_tokens, self.pad_id) if origins else self, origins

    def cut(self, texts: Sequence[str], max_tokens: int) -> Encoded:
        """One row for each text, cut to `max_tokens`."""
        return self._encode(texts, min(max_tokens, self.max_tokens), windowed=False)

    def windows(self, texts: Sequence[str], max_tokens: int | None = None) -> Encoded:
        """One row for each text, or several for a text longer than a window: windows that overlap by a quarter.

        max_tokens: the tokens of a window, at most and by default those that the model takes.
        """
        return self._encode(texts, min(max_tokens or self.max_tokens, self.max_tokens), windowed=True)

    def within(self, texts: Sequence[str], max_windows: int, max_tokens: int | None = None) -> tuple[list[str], Ints]:
        """The texts cut to what `windows` reads in `max_windows` windows, and the characters cut from each, shape (n,).

        Of a text that is far too long, only the start is tokenized.
        """
        room = self._room(max_windows, min(max_tokens or self.max_tokens, self.max_tokens))
        kept, cut = list(texts), np.zeros(len(texts), dtype=np.int64)
        for i, text in enumerate(texts):
            if len(text) * _TOKENS_OF_A_CHARACTER > room:
                kept[i] = self._start(text[: max(_ALWAYS_TOKENIZED, room * _CHARACTERS_OF_A_TOKEN)], room)
                cut[i] = len(text) - len(kept[i])
        return kept, cut

    def _room(self, max_windows: int, max_tokens: int) -> int:
        """The tokens of a text, without special tokens, that so many windows read."""
        size = max_tokens - self._num_special
        return size + (max_windows - 1) * (size - size // _OVERLAP)

    def _start(self, text: str, room: int) -> str:
        """The start of a text that has at most `room` tokens, special tokens aside."""
        while True:
            with self._truncating:
                self._truncate_to(None)
                encoding = self._tokenizer.encode(_without_surrogates(text), add_special_tokens=False)
            if len(encoding.ids) <= room:
                return text
            # tokens can differ in front of the cut, so the shorter text is counted again
            text = text[: min(encoding.offsets[room - 1][1], len(text) - 1)]

    def _encode(self, texts: Sequence[str], max_tokens: int, *, windowed: bool) -> Encoded:
        ids: list[npt.NDArray[np.int32]] = []
        lengths: list[int] = []
        owner: list[int] = []
        num_cut = 0
        stride = (max_tokens - self._num_special) // _OVERLAP if windowed else 0
        for start, chunk in self._encodings(texts, (max_tokens, stride)):
            rows: list[list[int]] = []
            for i, encoding in enumerate(chunk, start=start):
                more = encoding.overflowing if len(encoding) == max_tokens else []
                num_cut += bool(more) and not windowed
                windows = [encoding, *(more if windowed else ())]
                rows.extend(window.ids for window in windows)
                owner.extend([i] * len(windows))
            lengths.extend(map(len, rows))
            ids.append(np.fromiter(chain.from_iterable(rows), dtype=np.int32))  # one array per chunk
        offsets = np.array([0, *accumulate(lengths)], dtype=np.int64)
        joined = ids[0] if len(ids) == 1 else np.concatenate([np.zeros(0, dtype=np.int32), *ids])
        return Encoded(joined, offsets, np.array(owner, dtype=np.int64), num_cut)

    def token_counts(self, texts: Sequence[str]) -> Ints:
        """The number of tokens of each whole text, special tokens included, shape (n,)."""
        counts = [len(encoding) for _, chunk in self._encodings(texts) for encoding in chunk]
        return np.asarray(counts, dtype=np.int64)

    def unknown(self, texts: Sequence[str]) -> dict[int, str]:
        """The characters, ASCII aside, that the tokenizer has no token for, each once, by the number of the text."""
        number = emoji.unknown_id(self._tokenizer)
        if number is None:
            return {}
        found: dict[int, str] = {}
        for start, chunk in self._encodings(texts):
            found |= {i: texts[i] for i, encoding in enumerate(chunk, start=start) if number in encoding.ids}
        knows = cache(lambda char: emoji.knows(self._tokenizer, char, number))
        characters = {
            i: "".join(dict.fromkeys(c for c in text if not c.isascii() and not knows(c))) for i, text in found.items()
        }
        return {i: odd for i, odd in characters.items() if odd}

    def _encodings(
        self, texts: Sequence[str], truncation: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, list[Encoding]]]:
        """The encodings of the texts in chunks, with the number of the first text.

        truncation: the most tokens of an encoding, and how many of them the next one repeats.
        """
        for start in range(0, len(texts), _CHUNK):
            chunk = [_without_surrogates(text) for text in texts[start : start + _CHUNK]]
            with self._truncating:
                self._truncate_to(truncation)
                found = self._tokenizer.encode_batch_fast(chunk)
            yield start, found

    def _truncate_to(self, truncation: tuple[int, int] | None) -> None:
        """Give the tokenizer a truncation, see `_encodings`; the caller has the lock."""
        if truncation is None and self._truncation is not None:
            self._tokenizer.no_truncation()
        elif truncation is not None and truncation != self._truncation:
            self._tokenizer.enable_truncation(truncation[0], stride=truncation[1])
        self._truncation = truncation

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`, without padding and truncation."""
        # not Tokenizer.save, whose failures are bare exceptions: a full disk must be an OSError
        path.write_text(self.to_json(), encoding="utf-8")

    def to_json(self) -> str:
        """The content of `tokenizer.json`, without padding and truncation."""
        with self._truncating:
            self._truncate_to(None)
            return str(self._tokenizer.to_str(pretty=True))


def _without_surrogates(text: str) -> str:
    """The text with lone surrogates, which no tokenizer takes, replaced by as many other characters."""
    return text.encode("utf-8", "replace").decode("utf-8")


def batches_by_length(lengths: Ints, batch_size: int) -> Iterator[Ints]:
    """Batches of rows sorted by length, the longest first: for scoring, which does not depend on the order.

    A batch has at most `batch_size` rows, and at most 32 × `batch_size` tokens unless it is one row.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        size = max(1, min(batch_size, batch_size * _TOKENS_OF_A_ROW // longest))
        yield order[start : start + size]
        start += size


def batches_of_one_length(lengths: Ints, batch_size: int) -> Iterator[Ints]:
    """Batches of rows that all have the same length, for scoring without padding; sizes as in `batches_by_length`."""
    order = np.argsort(-lengths, kind="stable")
    for same in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        for batch in batches_by_length(lengths[same], batch_size):
            yield same[batch]


def shuffled_buckets(lengths: Ints, batch_size: int, rng: "np.random.Generator") -> list[Ints]:
    """All rows once, in shuffled batches of texts of similar length: for training.

    Rows are shuffled, sorted by length within chunks of 200 batches, and cut into batches. The batches are shuffled;
    incomplete ones come last.
    """
    order = rng.permutation(len(lengths))
    chunk = batch_size * _BUCKET_BATCHES
    batches: list[Ints] = []
    for start in range(0, len(order), chunk):
        part = order[start : start + chunk]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches.extend(part[i : i + batch_size] for i in range(0, len(part), batch_size))
    incomplete = [b for b in batches if len(b) < batch_size]
    full = [b for b in batches if len(b) == batch_size]
    return [full[i] for i in rng.permutation(len(full))] + incomplete
