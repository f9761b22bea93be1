"""Nearly equal texts are found, however many there are, and unlike ones are not."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotune.data.quality import near_duplicates as module
from emotune.data.quality.near_duplicates import SIMILARITY, near_duplicates, plain, similarity
from emotune.data.records import Record, text_keys

PROPERTY = settings(deadline=None, max_examples=60)
LINE = "the cat sat on a mat while rain fell and we drank black tea by an old door near this long road home"
WORDS = LINE.split()


def groups(texts: Sequence[str]) -> list[list[int]]:
    keys = text_keys([Record(text, (), Path("x"), i) for i, text in enumerate(texts)])
    return [members.tolist() for members in near_duplicates(texts, keys)]


def group_of(texts: Sequence[str]) -> list[int]:
    """The group of each text, -1 without one."""
    found = [-1] * len(texts)
    for number, members in enumerate(groups(texts)):
        for i in members:
            found[i] = number
    return found


def sentence(rng: random.Random, length: int = 14) -> list[str]:
    return rng.choices(WORDS, k=length)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("I love it!", "i love it"),
        ("So, it goes on and on…", "so it goes on and on"),
        ("We drank black tea by the old door near the road", "We drank black tea by the old door near a road"),
        ("我今天非常高兴，因为天气很好，我们一起去公园散步了", "我今天非常高兴，因为天气很好，我们一起去公园散步"),
        ("😂 😂 😂", "😂  😂 😂 "),
        ("\ud800 half a character", "\ud800 half a character!"),
    ],
)
def test_near_texts_make_a_group_unless_they_are_equal(text: str, other: str) -> None:
    assert similarity(text, other) >= SIMILARITY
    equal = " ".join(text.casefold().split()) == " ".join(other.casefold().split())
    assert groups([text, "quite another text", other]) == ([] if equal else [[0, 2]])


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [""],
        ["", " ", "!", "?"],
        ["a"],
        ["no", "on"],
        ["so it goes", "So  it goes", "so it goes"],
        ["the first of two texts", "an entirely different thing"],
    ],
)
def test_blank_equal_and_unlike_texts_make_none(texts: list[str]) -> None:
    assert groups(texts) == []


def test_equal_texts_join_the_group_of_what_is_near_to_them() -> None:
    assert groups(["Thank you!", "a mat", "thank you", "Thank you!", "THANK  YOU!"]) == [[0, 2, 3, 4]]


def test_nearly_all_pairs_at_the_limit_are_found() -> None:
    """As found by comparing each with each: two of 20 bands of 5 miss fewer than one pair in a hundred."""
    rng = random.Random(0)
    texts = []
    for _ in range(150):
        words = sentence(rng)
        changed = list(words)
        changed[rng.randrange(len(words))] = rng.choice(WORDS)
        texts += [" ".join(words), " ".join(changed)]
    pairs = [(i, i + 1) for i in range(0, len(texts), 2) if SIMILARITY <= similarity(texts[i], texts[i + 1]) < 1]
    group = group_of(texts)
    assert len(pairs) > 60
    assert sum(group[i] == group[j] >= 0 for i, j in pairs) >= 0.98 * len(pairs)


def test_no_member_of_a_group_is_far_from_all_others() -> None:
    rng = random.Random(1)
    texts = [" ".join(sentence(rng, 5)) for _ in range(400)]
    for members in groups(texts):
        for i in members:
            assert max(similarity(texts[i], texts[j]) for j in members if j != i) >= SIMILARITY


@PROPERTY
@given(
    texts=st.lists(st.text(max_size=12) | st.sampled_from(["so it goes", "so it goes!", "So it goes on"]), max_size=8)
)
def test_any_texts_can_be_compared(texts: list[str]) -> None:
    group = group_of(texts)
    for i in range(len(texts)):
        for j in range(i):
            if texts[i].strip() and plain(texts[i]) == plain(texts[j]) and texts[i].split() != texts[j].split():
                same = " ".join(texts[i].split()).casefold() == " ".join(texts[j].split()).casefold()
                assert same or group[i] == group[j] >= 0


@PROPERTY
@given(text=st.text(max_size=30), other=st.text(max_size=30))
def test_similarity_is_symmetric_and_one_for_the_same(text: str, other: str) -> None:
    assert similarity(text, text) == 1
    assert 0 <= similarity(text, other) == similarity(other, text) <= 1


def test_work_does_not_grow_with_the_square_of_alike_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """All share their bands: comparing each with each would be two million comparisons."""
    compared = 0
    real = module.similarity

    def counting(first: str, second: str) -> float:
        nonlocal compared
        compared += 1
        return real(first, second)

    monkeypatch.setattr(module, "similarity", counting)
    texts = [f"your order number {i} was sent today and will reach you on monday morning" for i in range(2000)]
    assert len(set(group_of(texts))) == 1
    assert compared < 20 * len(texts)


def test_the_order_of_texts_does_not_matter_to_who_is_alike() -> None:
    texts = ["Thank you!", "Thank you", "I was there", "i was there...", "alone", *(f"filler {w} {w}" for w in WORDS)]
    order = np.random.default_rng(0).permutation(len(texts))
    shuffled = groups([texts[i] for i in order])
    assert {frozenset(texts[order[i]] for i in g) for g in shuffled} == {
        frozenset(texts[i] for i in g) for g in groups(texts)
    }
