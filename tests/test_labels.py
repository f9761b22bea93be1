"""Label sets, the mappings between them, and the errors when there is none."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emotune.errors import DataError, UsageError
from emotune.labels import (
    DAIR,
    EKMAN,
    GOEMOTIONS,
    KNOWN,
    MAPPINGS,
    SEMEVAL,
    SENTIMENT,
    LabelSet,
    Task,
    known_set,
    levels,
    mapping_to,
    to_matrix,
)

# as published beside the data set: ekman_mapping.json and sentiment_mapping.json; neutral stands for itself
PUBLISHED = {
    "ekman": {
        "anger": "anger annoyance disapproval",
        "disgust": "disgust",
        "fear": "fear nervousness",
        "joy": "joy amusement approval excitement gratitude love optimism relief pride admiration desire caring",
        "sadness": "sadness disappointment embarrassment grief remorse",
        "surprise": "surprise realization confusion curiosity",
        "neutral": "neutral",
    },
    "sentiment": {
        "positive": "amusement excitement joy love desire optimism caring pride admiration gratitude relief approval",
        "negative": "fear nervousness remorse embarrassment disappointment sadness grief disgust anger annoyance "
        "disapproval",
        "ambiguous": "realization surprise curiosity confusion",
        "neutral": "neutral",
    },
}


@pytest.mark.parametrize("level", PUBLISHED)
def test_goemotions_has_its_published_groups(level: str) -> None:
    members = MAPPINGS["goemotions", level].members
    assert {coarse: set(fine) for coarse, fine in members.items()} == {
        coarse: set(fine.split()) for coarse, fine in PUBLISHED[level].items()
    }


@pytest.mark.parametrize(("fine", "coarse"), MAPPINGS)
def test_a_mapping_names_labels_of_its_two_sets(fine: str, coarse: str) -> None:
    mapping = MAPPINGS[fine, coarse]
    assert mapping.level == coarse
    assert list(mapping.members) == [name for name in KNOWN[coarse].names if name in mapping.members]
    members = [name for group in mapping.members.values() for name in group]
    assert len(members) == len(set(members)), "a fine label stands in one group only"
    assert set(members) <= set(KNOWN[fine].names)
    dropped = set(KNOWN[fine].names) - set(members)
    assert dropped == ({"disgust", "neutral"} if coarse in ("emotion", "semeval2025") and fine != "emotion" else set())


def test_mappings_in_two_steps_come_out_as_in_one() -> None:
    for fine, middle in MAPPINGS:
        for coarse in KNOWN:
            if (middle, coarse) in MAPPINGS and coarse != fine:
                first, second = MAPPINGS[fine, middle].members, MAPPINGS[middle, coarse].members
                joined = {name: {f for m in ms for f in first.get(m, ())} for name, ms in second.items()}
                direct = {name: set(group) for name, group in MAPPINGS[fine, coarse].members.items()}
                kept = {f for group in first.values() for f in group}
                assert {n: g for n, g in joined.items() if g} == {n: g & kept for n, g in direct.items() if g & kept}


@pytest.mark.parametrize("key", KNOWN)
def test_known_sets_are_known_in_any_order(key: str) -> None:
    names = list(KNOWN[key].names)
    random.Random(0).shuffle(names)
    assert known_set(names) == key
    assert known_set(names[1:]) is None
    assert known_set([*names, "boredom"]) is None


def test_known_sets_are_those_of_the_data() -> None:
    assert [len(labels) for labels in (GOEMOTIONS, EKMAN, SENTIMENT, DAIR, SEMEVAL)] == [28, 7, 4, 6, 5]
    assert [key for key, labels in KNOWN.items() if labels.task is Task.MULTI_CLASS] == ["emotion"]
    assert GOEMOTIONS.neutral == 27
    assert SEMEVAL.neutral is None


@pytest.mark.parametrize(
    ("names", "task", "words"),
    [
        ((), Task.MULTI_LABEL, "more labels"),
        (("joy",), Task.MULTI_CLASS, "more labels"),
        (("joy", ""), Task.MULTI_LABEL, "empty"),
        (("joy", " fear"), Task.MULTI_LABEL, "' fear'"),
        (("joy", "fe\nar"), Task.MULTI_LABEL, "control"),
        (("joy", "fe\x85ar"), Task.MULTI_LABEL, "control"),
        (("joy", "fe\ud800ar"), Task.MULTI_LABEL, "control"),
        (("joy", "fear", "joy"), Task.MULTI_LABEL, "repeated .*: joy$"),
    ],
)
def test_what_is_no_label_set_is_refused(names: tuple[str, ...], task: Task, words: str) -> None:
    with pytest.raises(DataError, match=words):
        LabelSet(names, task)


@pytest.mark.parametrize("name", ["joy", "très content", "怒り", "👩‍🚀", "self-doubt", "x_1"])
def test_labels_may_be_any_words(name: str) -> None:
    assert name in LabelSet((name,))
    assert LabelSet((name,)).index(name) == 0


def test_an_unknown_label_is_told_the_nearest() -> None:
    with pytest.raises(DataError, match=r"unknown label 'angr'\n.*'anger'"):
        SEMEVAL.index("angr")


@st.composite
def mapped_rows(draw: st.DrawFn) -> tuple[str, LabelSet, np.ndarray]:
    """A level, a fine label set in any order, and scores over it, shape (n, fine)."""
    fine, level = draw(st.sampled_from(sorted(MAPPINGS)))
    labels = LabelSet(tuple(draw(st.permutations(KNOWN[fine].names))), KNOWN[fine].task)
    rows = st.tuples(st.integers(0, 4), st.just(len(labels)))
    return level, labels, draw(arrays(np.float64, rows, elements=st.floats(0, 1)))


@given(case=mapped_rows(), threshold=st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_a_coarse_score_is_the_largest_and_a_coarse_decision_the_union(
    case: tuple[str, LabelSet, np.ndarray], threshold: float
) -> None:
    level, labels, scores = case
    mapping = mapping_to(level, labels)
    coarse = mapping.label_set(labels)
    coarse_scores, decided = mapping.coarsen(scores, labels), mapping.coarsen(scores >= threshold, labels)
    assert coarse_scores.shape == decided.shape == (len(scores), len(coarse))
    assert decided.dtype == bool
    for i, row in enumerate(scores):
        by_name = dict(zip(labels.names, row, strict=True))
        for j, name in enumerate(coarse.names):
            assert coarse_scores[i, j] == max(by_name[member] for member in mapping.members[name])
            assert decided[i, j] == any(by_name[member] >= threshold for member in mapping.members[name])


def test_a_coarser_level_keeps_the_task_unless_a_class_is_lost() -> None:
    classes = LabelSet(GOEMOTIONS.names, Task.MULTI_CLASS)
    assert mapping_to("ekman", GOEMOTIONS).label_set(GOEMOTIONS) == EKMAN
    assert mapping_to("sentiment", GOEMOTIONS).label_set(GOEMOTIONS) == SENTIMENT
    assert mapping_to("ekman", classes).label_set(classes).task is Task.MULTI_CLASS
    assert mapping_to("semeval2025", classes).label_set(classes) == SEMEVAL
    assert mapping_to("semeval2025", DAIR).label_set(DAIR) == LabelSet(SEMEVAL.names, Task.MULTI_CLASS)


def test_labels_of_another_set_cannot_be_mapped() -> None:
    with pytest.raises(DataError, match="unknown label 'annoyance'"):
        MAPPINGS["goemotions", "ekman"].coarsen(np.zeros((1, 7)), EKMAN)


def test_levels_are_the_coarser_sets() -> None:
    assert levels(GOEMOTIONS) == ["ekman", "sentiment", "emotion", "semeval2025"]
    assert levels(SENTIMENT) == levels(LabelSet(("good", "bad"))) == []


def test_a_level_that_is_not_there_is_told_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no level 'ekmann'\n.*'ekman'"):
        mapping_to("ekmann", GOEMOTIONS)
    with pytest.raises(UsageError, match=r"no level 'colour'\n.*ekman, sentiment, emotion, semeval2025"):
        mapping_to("colour", GOEMOTIONS)
    with pytest.raises(UsageError, match=r"no level 'ekman'\n.*known label set"):
        mapping_to("ekman", LabelSet(("good", "bad")))


@given(rows=st.lists(st.sets(st.integers(0, 4)), max_size=6))
@settings(deadline=None, max_examples=50)
def test_targets_stand_where_the_labels_are(rows: list[set[int]]) -> None:
    targets = to_matrix([sorted(row) for row in rows], 5)
    assert targets.shape == (len(rows), 5)
    assert targets.dtype == np.float32
    assert [set(np.flatnonzero(row)) for row in targets] == rows
    assert set(targets.ravel()) <= {0.0, 1.0}
