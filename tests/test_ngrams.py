"""The kind `ngrams`: hashes of n-grams, weights in int8, and the fit of all labels at once."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from emotune.config.loading import config_from
from emotune.config.settings import NgramsConfig
from emotune.errors import ConfigError
from emotune.labels import Task
from emotune.models import linear, ngrams
from emotune.models.hashing import Rows, chunks, words_of
from emotune.models.ngrams import NgramsModel, Terms
from emotune.models.tfidf import WORD
from test_linear_kinds import ANY_TEXT, fit_data

SENTENCES = ["so happy today", "Happy, happy; so HAPPY!", "furious and scared", "scared of you 😀", "so so happy"]
GOLDEN_WORDS = [
    "0x5245c3335a7dc8ba",
    "0x9467cccf6a685237",
    "0x387c6a46ff5c8e69",
    "0xefa48d71104ef130",
    "0xefa48d71104ef130",
    "0xba66976c67fea8ff",
]
GOLDEN_PAIRS = ["0xa0c92f92899c46ac", "0xe713bba12729a554", "0x4fccff20e0a0fbad"]
GOLDEN_CHARACTERS = ["0xf8f2bdfb6e86ed4f", "0xddfbf46dddd97593", "0x5ea58c29021fc4d7", "0xbb45a2f501a280c9"]


# Hashes


def test_hashes_are_those_that_saved_models_have() -> None:
    words = words_of(["Don't stop", "", "STOP 😀"], lowercase=True)
    assert words.number.tolist() == [4, 0, 2]
    assert words.owner.tolist() == [0, 0, 0, 0, 2, 2]
    assert [hex(found) for found in words.hashes.tolist()] == GOLDEN_WORDS
    assert [hex(found) for found in words.ngrams(2)[[0, 1, 4]].tolist()] == GOLDEN_PAIRS
    hashes, owner = words.characters(np.array([3]), 3)
    assert [hex(found) for found in hashes.tolist()] == GOLDEN_CHARACTERS
    assert owner.tolist() == [0] * 4


@settings(deadline=None, max_examples=150)
@given(texts=st.lists(ANY_TEXT, max_size=8), lowercase=st.booleans())
def test_words_are_those_of_tfidf_and_equal_words_have_equal_hashes(texts: list[str], lowercase: bool) -> None:
    found = words_of(texts, lowercase)
    read = [re.findall(WORD, text.lower() if lowercase else text) for text in texts]
    assert found.number.tolist() == [len(words) for words in read]
    flat = [word for words in read for word in words]
    assert len({*zip(flat, found.hashes.tolist(), strict=True)}) == len({*flat}) == len({*found.hashes.tolist()})
    pairs = [pair for words in read for pair in zip([None, *words], words, strict=False)]
    assert len({*zip(pairs, found.ngrams(2).tolist(), strict=True)}) == len({*pairs})
    for size in (1, 2, 3):
        hashes, owner = found.characters(np.arange(len(flat)), size)
        terms = sorted((i, term) for i, word in enumerate(flat) for term in terms_of(word, size))
        assert sorted(owner.tolist()) == [i for i, _ in terms]
        assert len({*hashes.tolist()}) == len({term for _, term in terms})


def terms_of(word: str, size: int) -> list[tuple[str, str]]:
    """The n-grams of characters of a word, each with its end of the word; those at an end are a character shorter."""
    inside = [("", word[i : i + size]) for i in range(len(word) - size + 1)]
    ends = [("start", word[: size - 1]), ("end", word[1 - size :])]
    return inside + (ends if size > 1 and len(word) >= size - 1 else [])


@given(st.sets(st.integers(0, 2**64 - 1), max_size=60), st.lists(st.integers(0, 2**64 - 1), max_size=30))
def test_rows_of_hashes_are_found(keys: set[int], others: list[int]) -> None:
    ordered = sorted(keys | {0, 2**64 - 1} if len(keys) % 2 else keys)
    near = [min(key + 1, 2**64 - 1) for key in ordered]
    wanted = np.array([*ordered, *others, *near, 0, 2**64 - 1], dtype=np.uint64)
    expected = [ordered.index(key) + 1 if key in ordered else 0 for key in wanted.tolist()]
    assert Rows(np.array(ordered, dtype=np.uint64)).find(wanted).tolist() == expected


def test_hashes_that_all_begin_alike_are_found() -> None:
    keys = np.arange(5000, dtype=np.uint64)
    assert (Rows(keys).find(np.arange(5002, dtype=np.uint64)) == [*range(1, 5001), 0, 0]).all()


def test_chunks_hold_every_text_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emotune.models.hashing._CHUNK", 10)
    texts = ["", "abc", "d" * 30, "", "efg", "hij", "k", ""]
    parts = [list(part) for part in chunks(texts)]
    assert [text for part in parts for text in part] == texts
    assert all(sum(map(len, part)) <= 10 or len(part) == 1 for part in parts)
    assert list(chunks([])) == []


# Logits


def made(**weights: list[int]) -> NgramsModel:
    """A model of two labels with the weights of some words."""
    words = words_of(list(weights), lowercase=True)
    order = np.argsort(words.hashes)
    terms = Terms(words.hashes[order], np.array(list(weights.values()), dtype=np.int8)[order])
    none = Terms(np.zeros(0, dtype=np.uint64), np.zeros((0, 2), dtype=np.int8))
    config = NgramsConfig(word_ngrams=1, char_ngrams=None)
    return NgramsModel(config, terms, none, np.array([0.5, 2], np.float32), np.array([1, -1], np.float32))


def test_logits_are_the_sum_of_the_squares_over_the_root_of_the_words() -> None:
    model = made(happy=[3, -2], sad=[-127, 127])
    expected = [[1 + 0.5 * 9, -1 - 2 * 4], [1 + 0.5 * (9 + 9 - 127**2) / 2, -1 + 2 * (127**2 - 8) / 2], [1, -1]]
    np.testing.assert_allclose(model.logits(["Happy", "happy happy sad x", ""], 1), expected, rtol=1e-6)
    model.divide_logits(np.array([2.0, 4.0]))
    np.testing.assert_allclose(model.logits(["happy"], 1), [[5.5 / 2, -9 / 4]], rtol=1e-6)


def test_a_text_longer_than_a_chunk_is_read_whole() -> None:
    number = 90_000  # 540,000 characters
    found = made(happy=[1, 0]).logits(["happy " * number, "happy"], 1)
    np.testing.assert_allclose(found[:, 0], [1 + 0.5 * np.sqrt(number), 1.5], rtol=1e-6)


def test_int8_is_close_to_the_float_weights_and_words_include_their_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {}

    def fitted(matrix: csr_matrix, *arguments: object) -> linear.Linear:
        kept["fitted"] = linear_fit(matrix, *arguments)
        kept["logits"] = matrix @ kept["fitted"].weights + kept["fitted"].bias
        return kept["fitted"]

    linear_fit = linear.fit_together
    monkeypatch.setattr(linear, "fit_together", fitted)
    targets = [[1, 0.2], [0.9, 0], [0, 1], [0.3, 1], [1, 0]]
    model = ngrams.fit(fit_data(SENTENCES, targets), NgramsConfig(min_df=1, char_ngrams=[2, 4]))
    rounding = np.abs(model.logits(SENTENCES, 1) - kept["logits"])
    rows = np.array([2 * words_of([text], True).number[0] for text in SENTENCES])
    assert (rounding <= model._scale * 127 * (rows / np.sqrt(rows / 2))[:, None] + 1e-5).all()
    assert np.abs(kept["logits"][0] - kept["logits"][2]).min() > 0.5


# Fitting


@pytest.mark.parametrize("task", list(Task))
def test_the_fit_is_that_of_scikit_learn(task: Task) -> None:
    rng = np.random.default_rng(0)
    rows = rng.random((80, 6)) * (rng.random((80, 6)) < 0.5)
    classes = np.argmax(rows @ rng.normal(size=(6, 3)) + rng.gumbel(size=(80, 3)), axis=1)
    targets = np.eye(3, dtype=np.float32)[classes]
    matrix = csr_matrix(rows.astype(np.float32))
    found = linear.fit_together(matrix, targets, task, 2.0, 500)
    logits = rows @ found.weights + found.bias
    if task is Task.MULTI_CLASS:
        expected = LogisticRegression(C=2.0).fit(rows, classes).predict_log_proba(rows)
        logits = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    else:
        models = [LogisticRegression(C=2.0).fit(rows, column) for column in targets.T]
        expected = np.stack([model.decision_function(rows) for model in models], axis=1)
    np.testing.assert_allclose(logits, expected, atol=0.05)


def test_soft_targets_are_the_expectation_of_hard_ones() -> None:
    texts = ["good day"] * 4 + ["bad day"] * 4
    soft = ngrams.fit(fit_data(texts, [[0.75]] * 4 + [[0.25]] * 4), NgramsConfig(min_df=1))
    hard = ngrams.fit(fit_data(texts, [[1], [1], [1], [0], [0], [0], [0], [1]]), NgramsConfig(min_df=1))
    np.testing.assert_allclose(soft.logits(texts, 1), hard.logits(texts, 1), atol=0.02)


def test_the_most_frequent_terms_are_kept_and_too_rare_ones_are_refused(tmp_path: Path) -> None:
    model = ngrams.fit(fit_data(["a b", "a c", "a b"], [[1], [0], [1]]), NgramsConfig(max_features=1, char_ngrams=None))
    assert model._terms["word"].keys == words_of(["a"], True).hashes
    with pytest.raises(ConfigError, match="no word occurs in 2 training texts") as caught:
        ngrams.fit(fit_data(["one", "two"], [[1], [0]]), NgramsConfig())
    assert "model.min_df=1" in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"word_ngrams": 0}, "greater than or equal to 1"),
        ({"char_ngrams": [4, 3]}, "the smaller one first"),
        ({"sublinear_tf": True}, "unknown key 'model.sublinear_tf'"),
    ],
)
def test_invalid_settings_are_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_from({"model": {"kind": "ngrams", **keys}})
