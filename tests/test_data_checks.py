"""What is doubtful about a corpus is counted and placed, and its digests tell what is the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotune.data.quality.checks import Finding, check
from emotune.data.records import Corpus, Record, fingerprint, relabelled, targets_of, text_key, text_keys
from emotune.labels import LabelSet, in_order

LABELS = LabelSet(("anger", "joy", "awe"))
PROPERTY = settings(deadline=None, max_examples=80)
ALL = (0, 1, 2)


def records(split: str, *rows: tuple[str, tuple[int, ...]]) -> list[Record]:
    return [Record(text, labels, Path(f"data/{split}.csv"), i) for i, (text, labels) in enumerate(rows, start=2)]


def corpus_of(**splits: list[tuple[str, tuple[int, ...]]]) -> Corpus:
    return Corpus(LABELS, {split: records(split, *rows) for split, rows in splits.items()}, ())


def findings(kind: str, corpus: Corpus) -> list[Finding]:
    return [finding for finding in check(corpus) if finding.kind == kind]


def test_a_sound_corpus_has_no_findings() -> None:
    assert check(corpus_of(train=[("a", ALL), ("a", ALL)], valid=[("b", ALL)])) == []


def test_empty_texts_are_found_in_every_split() -> None:
    corpus = corpus_of(train=[("a", ALL), ("", (0,)), (" \n", (1,))], test=[("\u3000", ALL)])
    train, test = findings("empty", corpus)
    assert (train.count, train.examples) == (2, ("train.csv:3", "train.csv:4"))
    assert str(train) == "2 empty texts in train, left out of training (train.csv:3, train.csv:4)"
    assert str(test) == "1 empty text in test (test.csv:2)"
    assert len(check(corpus)) == 2


def test_equal_texts_with_different_labels_are_found() -> None:
    rows = [("So it goes", (0,)), ("b", ALL), ("so  IT goes ", (1,)), ("", (0,)), ("", (1,)), ("b", ALL), ("c", (2,))]
    (found,) = findings("conflict", corpus_of(train=rows))
    assert (found.count, found.examples) == (2, ("train.csv:2", "train.csv:4"))
    assert "2 rows in train repeat 1 text with different labels" in str(found)


def test_texts_shared_by_any_two_splits_are_found() -> None:
    corpus = corpus_of(
        train=[("a", ALL), ("", ALL)],
        valid=[("A ", ALL), ("b", (0,)), ("", ALL)],
        test=[("b", (1,)), ("b", (1,)), ("c", ALL)],
    )
    first, second = findings("leak", corpus)
    assert (first.count, first.examples) == (1, ("valid.csv:2",))
    assert "1 text of valid also in train" in str(first)
    assert (second.count, second.examples) == (2, ("test.csv:2", "test.csv:3"))
    assert "2 texts of test also in valid" in str(second)


def test_labels_without_a_positive_example_are_named() -> None:
    train, valid = findings("no_positives", corpus_of(train=[("a", (0,)), ("b", ())], valid=[("c", (0, 1))]))
    assert (train.count, str(train)) == (2, "2 labels without a positive in train: joy, awe")
    assert (valid.count, str(valid)) == (1, "1 label without a positive in valid: awe")


def test_of_many_places_some_are_shown() -> None:
    (found,) = check(corpus_of(train=[("", ALL)] * 5))
    assert found.count == 5
    assert str(found).endswith("(train.csv:2, train.csv:3, train.csv:4, …)")


def test_a_split_may_have_any_name() -> None:
    corpus = Corpus(LABELS, {"{odd} name": records("x", ("", ALL))}, ())
    assert [str(finding) for finding in check(corpus)] == ["1 empty text in {odd} name (x.csv:2)"]


# --- digests -----------------------------------------------------------------------------------------------------

TEXTS = st.text(max_size=8) | st.text("\x1d\x1e\x1f\n\"', []", max_size=4)
ROWS = st.lists(st.tuples(TEXTS, st.sets(st.sampled_from(ALL)).map(lambda s: tuple(sorted(s)))), max_size=5)


@PROPERTY
@given(first=ROWS, second=ROWS)
def test_fingerprints_are_equal_only_for_equal_rows(
    first: list[tuple[str, tuple[int, ...]]], second: list[tuple[str, tuple[int, ...]]]
) -> None:
    same = fingerprint(records("a", *first), LABELS) == fingerprint(records("b", *second), LABELS)
    assert same == (first == second)


def test_a_fingerprint_changes_with_text_label_order_and_label_names() -> None:
    rows = records("a", ("x", (0,)), ("y", (1,)))
    variants = [
        rows,
        rows[::-1],
        rows[:1],
        [],
        [replace(rows[0], text="X"), rows[1]],
        [replace(rows[0], labels=(0, 2)), rows[1]],
        [replace(rows[0], labels=()), rows[1]],
        records("a", ("x\x1eanger\x1dy", (1,))),
    ]
    digests = [fingerprint(variant, LABELS) for variant in variants]
    digests.append(fingerprint(rows, LabelSet(("rage", "joy", "awe"))))
    assert len(set(digests)) == len(digests)


@PROPERTY
@given(rows=ROWS, order=st.permutations(LABELS.names))
def test_relabelled_records_carry_the_same_names(rows: list[tuple[str, tuple[int, ...]]], order: list[str]) -> None:
    ours, turned = records("a", *rows), LabelSet(tuple(order))
    ours += [replace(record, shares=tuple((i, 0.75) for i in record.labels)) for record in ours]
    found = relabelled(ours, LABELS, turned)
    assert np.array_equal(in_order(targets_of(found, 3), turned, LABELS), targets_of(ours, 3))
    assert all(record.labels == tuple(sorted(record.labels)) for record in found)
    assert relabelled(found, turned, LABELS) == ours


def test_a_fingerprint_is_of_names_not_positions_and_not_of_places() -> None:
    first = fingerprint(records("a", ("x", (0,))), LABELS)
    assert first == fingerprint(records("b", ("x", (1,))), LabelSet(("joy", "anger")))
    assert len(first) == 64


@pytest.mark.parametrize(
    ("text", "other", "equal"),
    [
        ("So it goes", " so  IT\tgoes\n", True),
        ("STRASSE", "straße", True),
        ("a\u00a0b", "a b", True),
        ("", " \n", True),
        ("so it goes", "so it goes.", False),
        ("ab", "a b", False),
        ("\ud800", "\ud801", False),
    ],
)
def test_text_keys_are_equal_up_to_case_and_blanks(text: str, other: str, equal: bool) -> None:
    first, second = text_keys(records("a", (text, ()), (other, ())))
    assert (first == second) == equal
    assert (text_key(text) == text_key(other)) == equal


@PROPERTY
@given(words=st.lists(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), max_size=5))
def test_text_keys_ignore_case_and_blanks_of_any_words(words: list[str]) -> None:
    assert text_key(" ".join(words)) == text_key("\n" + " \t".join(words).upper() + " ")


def test_text_keys_of_no_records_are_none() -> None:
    keys = text_keys([])
    assert (keys.shape, keys.dtype) == ((0,), np.uint64)
