"""`emotune check`: suites are read with their places, cases judged by kind, and shown with a pass rate."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from emotune.cli.app import app
from emotune.config.behaviour import Case, CaseConfig, Kind, label_for, read_suite
from emotune.errors import ConfigError, MissingInputError, Place
from emotune.inference.classifier import Prediction
from emotune.labels import DAIR, EKMAN, GOEMOTIONS, KNOWN, SEMEVAL, LabelSet, Task
from emotune.workflows.check import judge

OWN = LabelSet(("Anger", "boredom"))


def suite(folder: Path, text: str) -> Path:
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# --- reading -----------------------------------------------------------------------------------------------------


def test_the_suite_of_the_package_covers_every_label_and_kind() -> None:
    cases = read_suite(None, GOEMOTIONS)
    assert len(cases) >= 200
    assert not any(case.skipped for case in cases)
    assert {case.kind for case in cases} == set(Kind)
    expected = {label for case in cases for label in (*(case.expect or ()), *case.also, *case.more)}
    assert expected == set(GOEMOTIONS.names)
    assert min(Counter(case.capability for case in cases).values()) >= 5
    texts = [(case.capability, case.texts) for case in cases]
    assert len(set(texts)) == len(texts)
    for case in cases:  # a case of which every answer is right tests nothing
        assert case.kind is not Kind.MINIMUM or case.expect is None or len(case.expect) < 8, case
        assert len(set(case.texts)) == len(case.texts), case


@pytest.mark.parametrize("labels", KNOWN.values(), ids=KNOWN)
def test_the_suite_of_the_package_applies_to_every_known_label_set(labels: LabelSet) -> None:
    cases = read_suite(None, labels)
    used = {label for case in cases for label in (*(case.expect or ()), *case.also, *case.never, *case.more)}
    assert used == set(labels.names)
    assert sum(not case.skipped for case in cases) >= 200


@pytest.mark.parametrize(
    ("name", "labels", "label"),
    [
        ("annoyance", GOEMOTIONS, "annoyance"),
        ("annoyance", EKMAN, "anger"),
        ("caring", EKMAN, "joy"),
        ("caring", DAIR, "love"),
        ("disgust", EKMAN, "disgust"),
        ("disgust", SEMEVAL, None),
        ("neutral", DAIR, None),
        ("grief", KNOWN["sentiment"], "negative"),
        ("annoyance", OWN, "Anger"),
        ("boredom", OWN, "boredom"),
    ],
)
def test_a_name_stands_for_the_same_label_or_the_coarser_one(name: str, labels: LabelSet, label: str | None) -> None:
    assert label_for(name, labels) == label


def test_the_kinds_and_their_texts(tmp_path: Path) -> None:
    text = """\
negation:
  - {text: "I am not {} at all", fill: [happy, glad], expect: [sadness], never: [joy, sadness]}
  - text: never
    repeat: 3
    expect: []
groups:
  - {same: ["My {} sings"], fill: [wife, husband], within: 0.2}
intensity:
  - {text: very bad, than: bad, more: [anger, annoyance], by: 0.1}
"""
    happy, glad, no, sings, bad = read_suite(suite(tmp_path, text), GOEMOTIONS)
    assert (happy.texts, glad.texts) == (("I am not happy at all",), ("I am not glad at all",))
    assert (happy.expect, happy.never, happy.place.line) == (("sadness",), ("joy",), 2)
    assert (no.texts, no.expect, no.place.line) == (("never never never",), (), 3)
    assert (sings.kind, sings.texts, sings.within) == (Kind.INVARIANCE, ("My wife sings", "My husband sings"), 0.2)
    assert (bad.kind, bad.texts, bad.more, bad.by) == (
        *(Kind.DIRECTIONAL, ("very bad", "bad"), ("anger", "annoyance")),
        0.1,
    )


def test_cases_without_their_most_expected_label_are_skipped(tmp_path: Path) -> None:
    text = """\
a:
  - {text: ew, expect: [disgust, anger]}
  - {text: grr, expect: [anger, disgust]}
  - {text: so so, expect: [joy], also: [sadness]}
  - {text: it is ten, never: [disgust]}
"""
    path = suite(tmp_path, text)
    assert [bool(case.skipped) for case in read_suite(path, SEMEVAL)] == [True, False, False, True]
    assert [bool(case.skipped) for case in read_suite(path, DAIR)] == [True, False, True, True]
    assert not any(case.skipped for case in read_suite(path, EKMAN))


@pytest.mark.parametrize(
    ("text", "line", "fault"),
    [
        ("a:\n  - {text: x, expect: [joy]}\n  - {text: x, expct: [joy]}", 3, "Did you mean 'expect'?"),
        ("a:\n  - text: x\n    expect: [joi]", 3, "Did you mean 'joy'?"),
        ("a:\n  - text: x\n    expect: joy", 3, "'expect' is a list: [joy]"),
        ("a:\n  - text: 10\n    expect: [joy]", 2, "put quotes around it"),
        ("a:\n  - text: x\n    expect: [no]", 3, "put quotes around it"),
        ("a:\n  - text: x\n", 2, "expects nothing; add"),
        ("a:\n  - expect: [joy]", 2, "has no 'text'"),
        ("a:\n  - {text: x, more: [joy]}", 2, "has no 'than'"),
        ("a:\n  - {same: [x, y], expect: [joy]}", 2, "has the key 'expect'"),
        ("a:\n  - {text: x, expect: [joy], within: 0.1}", 2, "has the key 'within'"),
        ("a:\n  - {text: x, never: [joy], also: [fear]}", 2, "'also' without"),
        ("a:\n  - {text: x, fill: [a, b], expect: [joy]}", 2, "has no {} to fill"),
        ("a:\n  - {same: [x]}", 2, "'same' needs two texts"),
        ("a:\n  - {text: x, expect: [joy], repeat: 0}", 2, "'repeat'"),
        ("a:\n  - {same: [x, y], within: 2}", 2, "'within'"),
        ("a:\n  - just a text", 2, "a case is a mapping"),
        ("a:\n  text: x", 1, "a list of cases, each after a dash"),
        ("- text: x", None, "a suite is a mapping from capabilities"),
        ("", None, "a suite is a mapping from capabilities"),
        ("a: []", None, "no cases"),
        ("a:\n  - {text: x", 2, "not valid YAML"),
        ("a:\n  - {text: &x y, expect: [joy]}\n  - {text: *x, expect: [joy]}", 3, "aliases"),
    ],
)
def test_what_is_wrong_with_a_suite_has_a_place(tmp_path: Path, text: str, line: int | None, fault: str) -> None:
    path = suite(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        read_suite(path, GOEMOTIONS)
    assert error.value.place is not None
    assert str(error.value.place).startswith(str(path))
    assert error.value.place.line in (line, None if line is None else line + 1)
    assert fault in str(error.value)


def test_a_missing_suite_is_missing_input(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"none\.yaml"):
        read_suite(tmp_path / "none.yaml", GOEMOTIONS)


def test_the_page_about_suites_is_right(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "check.md").read_text(encoding="utf-8")
    example = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert example is not None
    assert len(read_suite(suite(tmp_path, example[1]), GOEMOTIONS)) == 8
    assert f"{len(read_suite(None, GOEMOTIONS))} cases" in page
    assert all(f"`{key}`" in page for key in CaseConfig.model_fields)


# --- judging -----------------------------------------------------------------------------------------------------


def case(kind: Kind, *texts: str, **options) -> Case:
    return Case("a", kind, Place(Path("own.yaml"), 1), texts, **options)


def answers(**scores: dict[str, float]) -> dict[str, Prediction]:
    """Predictions of texts; labels from a half on."""
    return {
        text: Prediction(text, tuple(name for name, score in found.items() if score >= 0.5), found)
        for text, found in scores.items()
    }


@pytest.mark.parametrize(
    ("options", "passed"),
    [
        ({"expect": ("fear", "joy")}, True),
        ({"expect": ("fear",)}, False),
        ({"expect": ("joy",), "also": ("love",)}, True),
        ({"expect": ("joy",), "also": ("fear",)}, False),
        ({"expect": ("joy",), "never": ("love",)}, False),
        ({"never": ("fear",)}, True),
        ({"expect": ()}, False),
    ],
)
def test_minimum_functionality(options: dict, passed: bool) -> None:
    found = judge(case(Kind.MINIMUM, "x", **options), answers(x={"joy": 0.9, "love": 0.6, "fear": 0.4}))
    assert found.passed is passed
    assert found.found == "joy 0.90, love 0.60"


def test_no_label_is_expected_or_not() -> None:
    said = answers(x={"joy": 0.4, "fear": 0.1})
    assert judge(case(Kind.MINIMUM, "x", expect=()), said).passed
    failed = judge(case(Kind.MINIMUM, "x", expect=("joy",)), said)
    assert not failed.passed
    assert failed.found == "no label (highest: joy 0.40, fear 0.10)"


def test_invariance_is_the_range_of_each_label_over_all_texts() -> None:
    said = answers(x={"joy": 0.50, "fear": 0.2}, y={"joy": 0.56, "fear": 0.2}, z={"joy": 0.44, "fear": 0.2})
    assert judge(case(Kind.INVARIANCE, "x", "y"), said).passed
    assert judge(case(Kind.INVARIANCE, "x", "z"), said).passed
    failed = judge(case(Kind.INVARIANCE, "x", "y", "z"), said)
    assert not failed.passed
    assert failed.found == "joy moves by 0.12: 0.44 for 'z' to 0.56 for 'y'"
    assert judge(case(Kind.INVARIANCE, "x", "y", "z", within=0.2), said).passed


@pytest.mark.parametrize(
    ("first", "second", "by", "passed"),
    [
        (0.6, 0.5, 0.0, True),
        (0.5, 0.6, 0.0, False),
        (0.5, 0.5, 0.0, False),
        (0.6, 0.5, 0.2, False),
        (0.8, 0.5, 0.2, True),
        (0.95, 0.97, 0.0, True),  # no room to rise
        (0.95, 0.97, 0.1, False),
        (0.89, 0.97, 0.0, False),
    ],
)
def test_a_direction_is_that_of_the_highest_of_its_labels(first: float, second: float, by: float, passed: bool) -> None:
    said = answers(x={"anger": first, "annoyance": 0.1}, y={"anger": 0.3, "annoyance": second})
    assert judge(case(Kind.DIRECTIONAL, "x", "y", more=("anger", "annoyance"), by=by), said).passed is passed


# --- the command -------------------------------------------------------------------------------------------------


@pytest.fixture
def model(multi_label_run: Path) -> str:
    """A model that knows some words of anger, joy, fear and sadness."""
    return str(multi_label_run)


SUITE = """\
words:
  - {text: "the cat was {}", fill: [happy, glad], expect: [joy], never: [anger, fear]}
  - {text: "the cat was happy", expect: [fear]}
  - {text: "a gross old door", expect: [disgust]}
empty:
  - {text: "", expect: []}
groups:
  - {same: ["the cat was glad", "the cat was happy"], within: 0.5}
  - {same: ["the cat was glad", "the cat was furious"], within: 0.5}
"""


def run(*args: str):
    return CliRunner().invoke(app, ["check", *args])


def test_pass_rates_by_capability_and_the_failed_cases(model: str, tmp_path: Path) -> None:
    path = suite(tmp_path, SUITE)
    done = run(model, str(path))
    assert done.exit_code == 0, done.output
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["words", "2", "3", "66.7", "%", "1"] in rows
    assert ["all", "4", "6", "66.7", "%", "1"] in rows
    assert "Failed (2)" in done.stdout
    shown = " ".join(done.stdout.split())
    assert "expected: fear" in shown
    assert "the cat was furious" in shown
    assert "gross" not in shown
    everything = run(model, str(path), "--all").stdout
    assert "Passed (4)" in everything
    assert "Skipped (1)" in everything
    assert "no label for disgust" in " ".join(everything.split())


def test_json_has_every_case_and_the_exit_code_follows_the_pass_rate(model: str, tmp_path: Path) -> None:
    path = suite(tmp_path, SUITE)
    done = run(model, str(path), "--json", "--min-pass-rate", "0.6")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert (found["cases"], found["passed"], found["skipped"], found["min_pass_rate"]) == (6, 4, 1, 0.6)
    assert found["pass_rate"] == pytest.approx(4 / 6)
    assert found["capabilities"]["empty"] == {"cases": 1, "passed": 1, "skipped": 0, "pass_rate": 1.0}
    assert [result["passed"] for result in found["results"]] == [True, True, False, None, True, True, False]
    assert [result["line"] for result in found["results"]] == [2, 2, 3, 4, 6, 8, 9]
    assert found["results"][3]["skipped"] == "the model has no label for disgust"
    failed = run(model, str(path), "--min-pass-rate", "0.7")
    assert failed.exit_code == 1
    assert "the pass rate 0.667 is below 0.7" in failed.stderr


def test_the_suite_of_the_package_runs_on_any_model(model: str, multi_class_run: Path) -> None:
    for name in (model, str(multi_class_run)):
        found = json.loads(run(name, "--json").stdout)
        assert found["suite"] == "behaviour.yaml"
        assert found["cases"] > 100
        assert found["capabilities"]["empty"]["passed"] >= 4


def test_a_suite_of_which_no_case_applies_is_a_usage_error(model: str, tmp_path: Path) -> None:
    done = run(model, str(suite(tmp_path, "a:\n  - {text: ew, expect: [disgust]}")))
    assert done.exit_code == 2
    assert "none of the 1 cases applies" in done.stderr
    assert "anger, fear, joy" in done.stderr


def test_a_wrong_label_has_its_line_and_the_nearest_name(model: str, tmp_path: Path) -> None:
    done = run(model, str(suite(tmp_path, "a:\n  - text: ew\n    expect: [disgus]")))
    assert done.exit_code == 2
    assert "own.yaml:3" in done.stderr
    assert "'disgust'" in done.stderr


def test_multi_class_models_skip_cases_of_two_labels(tmp_path: Path) -> None:
    labels = LabelSet(("joy", "sadness"), Task.MULTI_CLASS)
    (found,) = read_suite(suite(tmp_path, "a:\n  - {text: so so, expect: [joy], also: [sadness]}"), labels)
    assert found.skipped == "a multi-class model predicts one label"
