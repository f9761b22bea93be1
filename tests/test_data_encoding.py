"""Texts become token ids that lose nothing but what is cut, and batches that hold every row once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing

from emotune.data.tokens import Encoded, TextEncoder, batches_by_length, shuffled_buckets
from emotune.errors import ModelError

PAD, UNKNOWN, CLS, SEP = range(4)
FIRST_WORD = 4
NUM_WORDS = 60
PROPERTY = settings(deadline=None, max_examples=60)
TEXTS = st.lists(st.lists(st.integers(0, NUM_WORDS - 1), max_size=40), max_size=8)
LENGTHS = st.lists(st.integers(0, 30), max_size=300).map(lambda values: np.asarray(values, dtype=np.int64))


def make_tokenizer() -> Tokenizer:
    """One word, one token: `w0` is 4, `w1` is 5, …"""
    vocabulary = {"[PAD]": PAD, "[UNK]": UNKNOWN, "[CLS]": CLS, "[SEP]": SEP}
    vocabulary |= {f"w{i}": FIRST_WORD + i for i in range(NUM_WORDS)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair=None, special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    return tokenizer


TOKENIZER = make_tokenizer()


def encoder(max_tokens: int = 12) -> TextEncoder:
    return TextEncoder(TOKENIZER, max_tokens, PAD)


def written(words: list[int]) -> str:
    return " ".join(f"w{word}" for word in words)


def rows_of(encoded: Encoded) -> list[list[int]]:
    return [encoded.ids[a:b].tolist() for a, b in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)]


def tokens_of(words: list[int]) -> list[int]:
    return [FIRST_WORD + word for word in words]


# --- encoding ----------------------------------------------------------------------------------------------------


@PROPERTY
@given(texts=TEXTS, cut_at=st.integers(3, 20))
def test_cut_keeps_the_first_tokens_of_each_text(texts: list[list[int]], cut_at: int) -> None:
    encoded = encoder(12).cut([written(words) for words in texts], cut_at)
    room = min(cut_at, 12) - 2
    assert rows_of(encoded) == [[CLS, *tokens_of(words)[:room], SEP] for words in texts]
    assert encoded.owner.tolist() == list(range(len(texts)))
    assert encoded.num_cut == sum(len(tokens_of(words)) > room for words in texts)


@PROPERTY
@given(texts=TEXTS, max_tokens=st.integers(4, 20))
def test_windows_cover_every_token_and_overlap_by_a_quarter(texts: list[list[int]], max_tokens: int) -> None:
    encoded = encoder(max_tokens).windows([written(words) for words in texts])
    overlap = (max_tokens - 2) // 4
    windows: dict[int, list[list[int]]] = {i: [] for i in range(len(texts))}
    for owner, row in zip(encoded.owner.tolist(), rows_of(encoded), strict=True):
        assert (row[0], row[-1]) == (CLS, SEP)
        assert len(row) <= max_tokens
        windows[owner].append(row[1:-1])
    assert encoded.owner.tolist() == sorted(encoded.owner.tolist())
    for words, (first, *later) in zip(texts, windows.values(), strict=True):
        covered = list(first)
        for window in later:
            assert window[:overlap] == covered[len(covered) - overlap :]
            assert len(window) > overlap
            covered += window[overlap:]
        assert covered == tokens_of(words)


def test_a_text_that_fits_has_one_window() -> None:
    encoded = encoder(12).windows([written(list(range(10))), written(list(range(11)))])
    assert encoded.owner.tolist() == [0, 1, 1]


def test_cut_and_windows_do_not_disturb_each_other() -> None:
    both, text = encoder(12), [written(list(range(30)))]
    before = both.cut(text, 6).ids.tolist()
    assert len(both.windows(text)) > 1
    assert both.cut(text, 6).ids.tolist() == before


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", []), (" \n\t", []), ("\ud800", [UNKNOWN]), ("w1 \udfff w2", [5, UNKNOWN, 6]), ("👩‍👧", [UNKNOWN])],
)
def test_odd_texts_are_encoded(text: str, tokens: list[int]) -> None:
    for encoded in (encoder().cut([text], 12), encoder().windows([text])):
        assert rows_of(encoded) == [[CLS, *tokens, SEP]]


def test_no_texts_give_no_rows() -> None:
    encoded = encoder().windows([])
    assert (len(encoded), encoded.ids.shape, encoded.owner.shape) == (0, (0,), (0,))
    assert list(batches_by_length(encoded.lengths, 4)) == []


def test_more_texts_than_are_encoded_at_once_keep_their_owners() -> None:
    encoded = encoder(4).windows(["w1", "w1 w2 w3"] * 2500)
    assert np.bincount(encoded.owner).tolist() == [1, 2] * 2500


@PROPERTY
@given(texts=TEXTS.filter(bool), data=st.data())
def test_padded_is_what_naive_padding_gives(texts: list[list[int]], data: st.DataObject) -> None:
    encoded = encoder(12).windows([written(words) for words in texts])
    rows = data.draw(st.lists(st.integers(0, len(encoded) - 1), min_size=1, max_size=10))
    ids, mask = encoded.padded(np.asarray(rows, dtype=np.int64), PAD)
    chosen = [rows_of(encoded)[row] for row in rows]
    longest = max(map(len, chosen))
    assert ids.tolist() == [row + [PAD] * (longest - len(row)) for row in chosen]
    assert mask.tolist() == [[1] * len(row) + [0] * (longest - len(row)) for row in chosen]
    assert encoded.lengths[rows].tolist() == list(map(len, chosen))


def test_a_saved_tokenizer_neither_pads_nor_truncates(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.enable_padding(length=7)
    tokenizer.enable_truncation(5)
    before = TextEncoder(tokenizer, 12, PAD)
    encoded = before.cut([written(list(range(9)))], 8)
    assert encoded.lengths.tolist() == [8]
    before.save(tmp_path / "tokenizer.json")
    saved = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert (saved.padding, saved.truncation) == (None, None)
    after = TextEncoder.from_file(tmp_path / "tokenizer.json", 12, PAD)
    assert rows_of(after.cut([written(list(range(9)))], 8)) == rows_of(encoded)


@pytest.mark.parametrize("content", ["", "{}", "[1"])
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match="not a tokenizer") as caught:
        TextEncoder.from_file(tmp_path / "tokenizer.json", 12, PAD)
    assert str(caught.value.place) == str(tmp_path / "tokenizer.json")


# --- batching ----------------------------------------------------------------------------------------------------


@PROPERTY
@given(lengths=LENGTHS, batch_size=st.integers(1, 9))
def test_batches_by_length_hold_every_row_once_the_longest_first(lengths: np.ndarray, batch_size: int) -> None:
    batches = list(batches_by_length(lengths, batch_size))
    rows = np.concatenate([np.zeros(0, dtype=np.int64), *batches])
    assert sorted(rows.tolist()) == list(range(len(lengths)))
    assert (np.diff(lengths[rows]) <= 0).all()
    assert all(len(batch) == batch_size for batch in batches[:-1])


@PROPERTY
@given(lengths=LENGTHS, batch_size=st.integers(1, 9), seed=st.integers(0, 5))
def test_shuffled_buckets_hold_every_row_once_and_only_the_last_is_ragged(
    lengths: np.ndarray, batch_size: int, seed: int
) -> None:
    batches = shuffled_buckets(lengths, batch_size, np.random.default_rng(seed))
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(len(lengths)))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert all(0 < len(batch) <= batch_size for batch in batches[-1:])
    again = shuffled_buckets(lengths, batch_size, np.random.default_rng(seed))
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in again]


def test_shuffled_buckets_change_with_the_seed_and_hold_texts_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 1600)
    first, second = (shuffled_buckets(lengths, 32, np.random.default_rng(seed)) for seed in (0, 1))
    assert {frozenset(batch.tolist()) for batch in first} != {frozenset(batch.tolist()) for batch in second}
    padded = sum(len(batch) * lengths[batch].max() for batch in first)
    assert padded < 1.1 * lengths.sum()
    means = [float(lengths[batch].mean()) for batch in first]
    assert means != sorted(means)
