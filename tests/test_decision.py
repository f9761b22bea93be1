"""The decision rule: against plain Python, against scipy, and to JSON and back."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, softmax

from emotune.decision import Decision, Fallback
from emotune.errors import EmotuneError, ModelError, UsageError
from emotune.labels import LabelSet, Task

MOODS = LabelSet(("joy", "fear", "neutral", "anger"))
CLASSES = replace(MOODS, task=Task.MULTI_CLASS)

logit_rows = arrays(np.float64, st.tuples(st.integers(0, 5), st.just(4)), elements=st.floats(-1000, 1000))
# few values, so that scores meet their thresholds and each other
levels = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
probability_rows = arrays(np.float64, st.tuples(st.integers(0, 5), st.just(4)), elements=levels)
decisions = st.builds(
    Decision,
    st.just(MOODS),
    st.tuples(levels, levels, levels, levels),
    st.sampled_from(Fallback),
    st.booleans(),
)


@given(logits=logit_rows)
@settings(deadline=None, max_examples=50)
def test_probabilities_are_those_of_scipy(logits: np.ndarray) -> None:
    np.testing.assert_allclose(Decision.default(MOODS).probabilities(logits), expit(logits), rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(
        Decision.default(CLASSES).probabilities(logits), softmax(logits, axis=1), rtol=1e-12, atol=1e-300
    )


@pytest.mark.parametrize("labels", [MOODS, CLASSES])
def test_probabilities_of_extreme_logits_are_0_and_1(labels: LabelSet) -> None:
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        found = Decision.default(labels).probabilities(np.float32([[1000, -1000, -1000, -1000]]))
    assert found.dtype == np.float64
    assert found.tolist() == [[1, 0, 0, 0]]


def expected_labels(decision: Decision, row: list[float]) -> set[int]:
    """The rule of a multi-label decision in plain Python."""
    given_labels = {j for j, score in enumerate(row) if score >= decision.thresholds[j] and decision.thresholds[j] < 1}
    neutral = MOODS.index("neutral")
    if decision.neutral_excludes and given_labels != {neutral}:
        given_labels -= {neutral}
    if given_labels or decision.fallback is Fallback.NOTHING:
        return given_labels
    return {neutral} if decision.fallback is Fallback.NEUTRAL else {row.index(max(row))}


@given(decision=decisions, probabilities=probability_rows)
@settings(deadline=None, max_examples=200)
def test_a_decision_does_what_its_words_say(decision: Decision, probabilities: np.ndarray) -> None:
    before = probabilities.copy()
    decided = decision.decide(probabilities)
    assert decided.shape == probabilities.shape
    assert [set(np.flatnonzero(row)) for row in decided] == [expected_labels(decision, list(row)) for row in before]
    np.testing.assert_array_equal(probabilities, before)


@pytest.mark.parametrize(
    ("policies", "row", "names"),
    [
        ({}, [0.5, 0.4, 0.4, 0.4], ["joy"]),  # a threshold is reached by its own value
        ({}, [0.4, 0.4, 0.4, 0.4], []),
        ({"fallback": Fallback.BEST}, [0.1, 0.4, 0.4, 0.2], ["fear"]),
        ({"fallback": Fallback.BEST}, [0.6, 0.4, 0.7, 0.2], ["neutral", "joy"]),
        ({"fallback": Fallback.NEUTRAL}, [0.4, 0.4, 0.0, 0.4], ["neutral"]),
        ({"fallback": Fallback.NEUTRAL}, [0.5, 0.4, 0.0, 0.4], ["joy"]),
        ({"neutral_excludes": True}, [0.5, 0.4, 0.9, 0.4], ["joy"]),
        ({"neutral_excludes": True}, [0.4, 0.4, 0.9, 0.4], ["neutral"]),
    ],
)
def test_policies(policies: dict, row: list[float], names: list[str]) -> None:
    decision, p = replace(Decision.default(MOODS), **policies), np.array([row])
    assert decision.names(decision.decide(p), p) == [names]


@given(probabilities=probability_rows)
@settings(deadline=None, max_examples=50)
def test_a_class_is_the_first_of_the_best(probabilities: np.ndarray) -> None:
    rule = Decision(CLASSES, (0.9, 0.1, 1.0, 0.0), Fallback.NEUTRAL, neutral_excludes=True)
    decided = rule.decide(probabilities)
    assert (decided.sum(axis=1) == 1).all()
    assert [list(row).index(True) for row in decided] == [list(row).index(max(row)) for row in probabilities]


def test_names_come_most_probable_first_and_in_label_order_among_equals() -> None:
    p = np.array([[0.6, 0.9, 0.6, 0.7], [0.1, 0.1, 0.1, 0.1]])
    decided = np.array([[True, True, True, False], [False] * 4])
    assert Decision.default(MOODS).names(decided, p) == [["fear", "joy", "neutral"], []]
    many = LabelSet(tuple(f"label {j}" for j in range(60)))
    two_values = np.where(np.arange(60) % 3 == 0, 0.9, 0.6)[None]
    assert Decision.default(many).names(two_values > 0, two_values) == [
        [f"label {j}" for j in sorted(range(60), key=lambda j: j % 3 != 0)]
    ]


@pytest.mark.parametrize("shape", [(4,), (2, 3), (1, 2, 4)])
def test_probabilities_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        Decision.default(MOODS).decide(np.zeros(shape))


@pytest.mark.parametrize("threshold", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_threshold_beyond_0_and_1_is_refused(threshold: float) -> None:
    with pytest.raises(UsageError, match=r"between 0 and 1; that of 'neutral'"):
        Decision(MOODS, (0.0, 1.0, threshold, 0.5))
    with pytest.raises(UsageError, match="between 0 and 1"):
        Decision.default(MOODS).with_threshold(threshold)


def test_a_threshold_is_needed_for_each_label() -> None:
    with pytest.raises(ModelError, match="3 thresholds for 4 labels"):
        Decision(MOODS, (0.5, 0.5, 0.5))


@pytest.mark.parametrize("policies", [{"fallback": Fallback.NEUTRAL}, {"neutral_excludes": True}])
def test_policies_about_neutral_need_that_label(policies: dict) -> None:
    with pytest.raises(UsageError, match="neutral"):
        replace(Decision.default(LabelSet(("joy", "fear"))), **policies)


def test_one_threshold_for_all_keeps_the_policies_and_forgets_the_tuning() -> None:
    tuned = Decision(MOODS, (0.1, 0.2, 0.3, 0.4), Fallback.BEST, neutral_excludes=True, tuning={"rows": 3})
    assert tuned.with_threshold(0.7) == Decision(MOODS, (0.7,) * 4, Fallback.BEST, neutral_excludes=True)


def _is_label(name: str) -> bool:
    try:
        LabelSet((name,))
    except EmotuneError:
        return False
    return True


label_names = st.text(min_size=1).filter(_is_label)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def any_decision(draw: st.DrawFn) -> Decision:
    names = draw(st.lists(label_names | st.just("neutral"), min_size=2, max_size=5, unique=True))
    has_neutral = "neutral" in names
    finite = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    return Decision(
        LabelSet(tuple(names), draw(st.sampled_from(Task))),
        tuple(draw(st.floats(0, 1)) for _ in names),
        draw(st.sampled_from(Fallback if has_neutral else [Fallback.NOTHING, Fallback.BEST])),
        draw(st.booleans()) if has_neutral else False,
        # a tuning on known rows must have more keys; Hypothesis finds the name of its key in the source
        draw(st.dictionaries(st.text().filter(lambda key: key != "data_sha256"), finite, max_size=3)),
    )


@given(decision=any_decision())
@settings(deadline=None, max_examples=100)
def test_json_gives_back_the_very_decision(decision: Decision) -> None:
    read = Decision.from_json(json.loads(json.dumps(decision.to_json(), allow_nan=False)))
    assert read == decision
    assert list(read.labels.names) == list(decision.labels.names)


SOUND = Decision.default(MOODS).to_json()


@given(
    content=json_values | st.tuples(st.sampled_from(sorted(SOUND)), json_values).map(lambda pair: SOUND | dict([pair]))
)
@settings(deadline=None, max_examples=300)
def test_junk_is_no_decision(content: Any) -> None:
    try:
        read = Decision.from_json(content)
    except ModelError:
        return
    assert read.to_json() == {name: content[name] for name in SOUND}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("task", "regression", "regression"),
        ("thresholds", {}, "needs more labels"),
        ("thresholds", [0.5], "'thresholds'"),
        ("thresholds", {"joy": "0.5"}, "not a number"),
        ("thresholds", {"joy": True}, "not a number"),
        ("thresholds", {"joy": None}, "not a number"),
        ("thresholds", {"joy": 1.5}, "between 0 and 1"),
        ("thresholds", {"joy": float("nan")}, "between 0 and 1"),
        ("thresholds", {"joy": 10**400}, "too large"),
        ("thresholds", {" joy": 0.5}, "blanks"),
        ("when_nothing_passes", "noting", "noting"),
        ("neutral_excludes", "false", "'neutral_excludes'"),
        ("neutral_excludes", 0, "'neutral_excludes'"),
        ("tuning", None, "'tuning'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(name: str, value: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Decision.from_json(SOUND | {name: value})


@pytest.mark.parametrize("name", sorted(SOUND))
def test_every_part_of_the_file_is_needed(name: str) -> None:
    with pytest.raises(ModelError, match=name):
        Decision.from_json({key: value for key, value in SOUND.items() if key != name})


def test_a_policy_about_a_missing_label_is_refused_in_a_file_too() -> None:
    with pytest.raises(ModelError, match="neutral"):
        Decision.from_json(SOUND | {"thresholds": {"joy": 0.5}, "when_nothing_passes": "neutral"})
