"""`emotune search`: spaces, trials, resuming, the rows that no trial sees, and the best settings as a recipe."""

from __future__ import annotations

import csv
import json
import math
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file
from typer.testing import CliRunner, Result

import killing
import tiny
from emotune.cli.app import app
from emotune.cli.terminal import Terminal
from emotune.config.kinds import KINDS
from emotune.config.loading import base_of, load_config, read_recipe, recipe_names, recipe_values
from emotune.config.schema import yaml_text
from emotune.config.space import Choices, Range, default_space, read_space, space_yaml, with_settings
from emotune.data.records import text_key
from emotune.errors import ConfigError, TrainingError, UsageError
from emotune.reports.search import Gain, sentence
from emotune.runs import teacher
from emotune.runs.lock import locked
from emotune.runs.study import Study, Trial
from emotune.scoring.comparison import Difference
from emotune.workflows import search

pytest.importorskip("optuna", reason="emotune search needs the extra search")

SPACE = {"model.C": {"low": 0.1, "high": 30.0, "log": True}, "model.word_ngrams": [[1, 1], [1, 2]]}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["search", *map(str, args)])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def options(base: Path, *more: object, trials: int = 3) -> list[object]:
    """The arguments of a search of n-grams that takes a second."""
    Path("space.yaml").write_text(yaml.safe_dump(SPACE))
    small = ("--set", "model.kind=tfidf", "--set", "tuning.folds=3")
    named = ("--data", tiny.multi_label(base), "--space", "space.yaml", "--out", "out")
    return ["starter", *named, *small, "--trials", trials, *more]


def as_json(*args: object) -> dict[str, Any]:
    return dict(json.loads(call(*args, "--json", "--quiet").stdout, parse_constant=pytest.fail))


def ended(said: dict[str, Any]) -> list[tuple[int, str, float | None, dict[str, Any]]]:
    return [(trial["trial"], trial["state"], trial["score"], trial["settings"]) for trial in said["trials"]]


@pytest.fixture(scope="module")
def finished(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of three trials; not to be changed."""

    def build(out: Path) -> None:
        with pytest.MonkeyPatch.context() as here:
            here.chdir(tmp_path_factory.mktemp("search"))
            call(*options(base), "--out", out)

    return tiny.once(base, "search", build)


# The space


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("optimizer.lrr: {low: 1, high: 2}", 1, "Did you mean 'lr'"),
        ("training.epochs: [2, 3]\nepochs: [1, 2]", 2, "Did you mean 'training.epochs'"),
        ("training.epochs: {low: 2, hihg: 6}", 1, "Did you mean 'high'"),
        ("training.epochs:\n  low: 0\n  high: 6", 2, "greater than or equal to 1"),
        ("training.epochs:\n  low: 6\n  high: 2", 2, "low is 6, and high is 2"),
        ("training.epochs: {low: 2}", 1, "no 'high'"),
        ("training.epochs: {low: 2, high: 6, step: 0.5}", 1, "step is a number like low and high"),
        ("training.epochs: {low: 2, high: 6, step: 5}", 1, "at most 4"),
        ("optimizer.lr: {low: 1.0e-5, high: 1.0e-3, log: yes please}", 1, "log is true or false"),
        ("model.dropout: {low: 0.0, high: 0.3, log: true}", 1, "low is above 0"),
        ("optimizer.lr: {low: 1.0e-5, high: 1.0e-3, log: true, step: 1.0e-5}", 1, "without log"),
        ("loss.name:\n  - bce\n  - asll", 3, "Did you mean 'asl'"),
        ("loss.name: {low: bce, high: focal}", 1, "not a number"),
        ("loss.name: [bce]", 1, "--set fixes a value"),
        ("loss.name:\n- bce\n- bce", 3, "twice"),
        ("loss.name: bce", 1, "--set"),
        ("optimizer:\n  lr: {low: 1, high: 2}", 1, "optimizer.lr"),
        ("loss.focal_gamma: [1.0, 3.0]", 1, "applies only with loss.name focal"),
        ("training.seed: [1, 2]", 1, "by chance"),
        ("model.kind: [tfidf, ngrams]", 1, "emotune ladder"),
        ("data.path: [a, b]", 1, "the same rows"),
        ("model.C: [1, 2]", 1, "unknown key 'model.C'"),
        ("training.epochs: [2, 3]\ntraining.epochs: [3, 4]", 2, "twice"),
        ("", None, "mapping"),
        ("{}", None, "mapping"),
    ],
)
def test_a_wrong_space_is_refused_with_its_line(text: str, line: int | None, told: str, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_space(path, load_config("goemotions"))
    error = caught.value
    assert told in f"{error.message} {error.hint}"
    assert error.place is not None
    assert (error.place.path, error.place.line) == (path, line)


def test_a_wrong_space_is_refused_before_anything_is_written(base: Path) -> None:
    args = options(base)
    Path("space.yaml").write_text("model.C: {low: 1}")
    assert "space.yaml:1: model.C has no 'high'" in call(*args, code=2).stderr
    assert not Path("out").exists()


def test_numbers_have_the_type_of_the_setting(tmp_path: Path) -> None:
    text = "training.epochs: {low: 2, high: 6}\noptimizer.weight_decay: {low: 0, high: 1}\noptimizer.lr: [1e-4, 1e-3]"
    (tmp_path / "space.yaml").write_text(text)
    space = read_space(tmp_path / "space.yaml", load_config("goemotions"))
    assert space == {
        "training.epochs": Range(2, 6),
        "optimizer.weight_decay": Range(0.0, 1.0),
        "optimizer.lr": Choices((1e-4, 1e-3)),
    }
    assert isinstance(space["training.epochs"].low, int)
    assert isinstance(space["optimizer.weight_decay"].low, float)


@pytest.mark.parametrize("recipe", recipe_names())
def test_each_recipe_has_a_default_space(recipe: str, tmp_path: Path) -> None:
    config = load_config(recipe)
    if config.model.kind == "dummy":
        with pytest.raises(ConfigError, match="no default space"):
            default_space(config)
        return
    space, left_out = default_space(config)
    assert len(space) >= 5
    assert set(space) | {reason.partition(" ")[0] for reason in left_out} == set(
        read_recipe("search/spaces").values[config.model.kind]
    )
    (tmp_path / "space.yaml").write_text(space_yaml(space))
    assert read_space(tmp_path / "space.yaml", config) == space


def test_default_spaces_are_of_kinds() -> None:
    assert set(read_recipe("search/spaces").values) < set(KINDS)
    _, left_out = default_space(load_config("goemotions", ["loss.name=asl", "loss.gamma_neg=2"]))
    assert left_out == [reason for reason in left_out if reason.startswith("loss.name is not searched")]
    assert left_out


# Recipes


@pytest.mark.parametrize("recipe", recipe_names())
def test_a_recipe_is_written_by_what_differs(recipe: str, tmp_path: Path) -> None:
    config = load_config(recipe, ["training.seed=7", "data.path=/tmp/über-\u2028"])
    values = recipe_values(config, base_of(recipe))
    assert set(values) <= {"extends", "data", "model", "training"}
    (tmp_path / "own.yaml").write_text(yaml_text(values))
    assert load_config(str(tmp_path / "own.yaml")) == config
    assert base_of(str(tmp_path / "own.yaml")) == recipe


@pytest.mark.parametrize("extends", [None, "goemotions"])
def test_another_kind_is_written_too(extends: str | None, tmp_path: Path) -> None:
    config = load_config("goemotions", ["model.kind=tfidf", "model.char_ngrams=null"])
    (tmp_path / "own.yaml").write_text(yaml_text(recipe_values(config, extends)))
    assert load_config(str(tmp_path / "own.yaml")) == config


# The result


def test_table_sentence_recipe_and_report(finished: Path, base: Path) -> None:
    out = tiny.copy(finished, Path("out"))
    shown = call("--resume", out)
    said = as_json("--resume", out)
    assert said["sentence"] in " ".join(shown.stdout.split())
    assert f"recipe: {out / 'best.yaml'}" in shown.stdout
    assert [trial["trial"] for trial in said["trials"]] == [0, 1, 2, 3]
    assert all(trial["state"] == "finished" and trial["seconds"] > 0 for trial in said["trials"])
    best = max(said["trials"], key=lambda trial: (trial["score"], -trial["trial"]))
    assert said["best"] == {key: best[key] for key in ("trial", "score", "settings")}
    assert said["gain"]["scored"] == best["score"] - said["trials"][0]["score"]
    assert (said["gain"]["scored_rows"], said["gain"]["unseen_rows"]) == (tiny.SPLITS["valid"], 32)
    assert (said["metric"], said["folds"], said["recipe"]) == ("macro_f1", None, "starter")
    rows = list(csv.DictReader((out / "trials.csv").read_text().splitlines()))
    assert [row["score"] for row in rows] == [str(trial["score"]) for trial in said["trials"]]
    assert [row["model.C"] for row in rows] == ["2.0", *(str(t["settings"]["model.C"]) for t in said["trials"][1:])]
    for file in ("report.html", "report.md", "search.json"):
        assert "model.word" in (out / "report" / file).read_text()
    assert said["sentence"] in json.loads((out / "report" / "search.json").read_text())["sentence"]


def test_the_best_settings_are_a_recipe_that_trains(finished: Path, base: Path) -> None:
    text = (finished / "best.yaml").read_text()
    assert text.startswith("# ")
    said = json.loads((finished / "report" / "search.json").read_text())
    values = yaml.safe_load(text)
    assert (values["extends"], values["name"]) == ("starter", "starter-best")
    changed = [f"{key}={json.dumps(value)}" for key, value in said["best"]["settings"].items()]
    given = [f"data.path={tiny.multi_label(base)}", "model.kind=tfidf", "tuning.folds=3", *changed]
    best, same = load_config(str(finished / "best.yaml")), load_config("starter", given)
    assert best.model_copy(update={"name": "starter", "about": same.about}) == same
    result = CliRunner().invoke(app, ["train", str(finished / "best.yaml"), "--out", "run"])
    assert result.exit_code == 0, result.output


def test_what_stays_is_small_and_has_the_weights_of_the_best_alone(finished: Path) -> None:
    best = json.loads((finished / "report" / "search.json").read_text())["best"]["trial"]
    assert [path.parent.parent.name for path in finished.rglob("emotune.json")] == [str(best)]
    files = {"best.yaml", "config.yaml", "search.json", "space.yaml", "trials.csv", "trials.log"}
    assert {path.name for path in finished.iterdir()} == {*files, "report", "trials", "unseen"}
    assert {path.stem for path in (finished / "unseen").iterdir()} == {"0", str(best)}


def test_no_trial_sees_the_held_back_rows(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search._Search, "_tidy", lambda self: None)
    call(*options(base, trials=1))
    texts = [row["text"] for row in csv.DictReader((tiny.multi_label(base) / "train.csv").read_text().splitlines())]
    keys = {int.from_bytes(text_key(text), "little") for text in texts}
    for number in (0, 1):
        seen = set(load_file(f"out/trials/{number}/train_texts.safetensors")["digests"].tolist())
        assert len(seen) == 128
        assert len(keys - seen) == 32  # those that are held back
    assert len(load_file("out/unseen/0.safetensors")["logits"]) == 32


def test_the_scores_are_those_of_the_runs(finished: Path) -> None:
    said = json.loads((finished / "report" / "search.json").read_text())
    arrays = load_file(finished / "trials" / str(said["best"]["trial"]) / "valid.safetensors")
    manifest = json.loads((finished / "trials" / str(said["best"]["trial"]) / "data.json").read_text())
    assert manifest["splits"]["train"]["rows"] == 128
    assert any("held back from the search" in line for line in manifest["description"])
    assert len(arrays["logits"]) == tiny.SPLITS["valid"]


def test_with_folds_all_training_rows_are_scored(base: Path) -> None:
    said = as_json(*options(base, "--folds", 2, trials=1))
    assert (said["folds"], said["gain"]["scored_rows"], said["gain"]["unseen_rows"]) == (2, 128, 32)
    assert "training" not in yaml.safe_load(Path("out/best.yaml").read_text())
    assert len(load_file(f"out/trials/{said['best']['trial']}/oof.safetensors")["logits"]) == 128


def test_a_teacher_scores_the_texts_once_for_all_trials(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    find = teacher._open
    monkeypatch.setattr(teacher, "_open", lambda name, labels: (opened.append(name), find(name, labels))[1])
    result = call(*options(base, "--set", f"data.teacher={tiny.ngrams(base)}", trials=1))
    assert len(opened) == 1
    assert "next:" not in result.stderr  # the best is not significantly better


def test_multi_class_data_is_scored_by_accuracy(base: Path) -> None:
    said = as_json(*options(base, "--data", tiny.multi_class(base), trials=1))
    assert said["metric"] == "accuracy"
    assert as_json(*options(base, "--out", "other", "--metric", "micro_f1", trials=1))["metric"] == "micro_f1"
    assert "Did you mean 'micro_f1'" in call(*options(base, "--metric", "mikro_f1"), code=2).stderr


# --- the sentence ----------------------------------------------------------------------------------------------


def said_of(value: float, low: float, high: float, p: float, scored: float = 0.012) -> str:
    trials = [Trial(0, {}, "finished", 0.62, 1.0), Trial(1, {}, "finished", 0.62 + scored, 1.0)]
    gain = Gain(116, scored, 554, Difference(1, 0, 90, value, low, high, p, p), 0.6 + value, 0.6)
    return sentence(trials, trials[1], gain, "macro_f1")


def test_the_sentence_calls_nothing_a_gain_that_is_not_significant() -> None:
    few = said_of(0.004, -0.006, 0.013, 0.4)
    assert "macro-F1 0.632 instead of 0.620 (+0.012) on the 116 rows that the trials were scored on" in few
    assert "0.604 instead of 0.600 (+0.004, 95 % interval -0.006 to +0.013, p 0.400) on 554 rows that no" in few
    for unclear in (few, said_of(-0.01, -0.02, 0.004, 0.2), said_of(0.004, math.nan, math.nan, 0.4)):
        assert "not significant: keep the recipe" in unclear
        assert "gain" not in unclear
    assert "gain" not in said_of(0.01, -0.0001, 0.02, 0.049)  # p and interval differ
    assert said_of(0.01, 0.004, 0.016, 0.002).endswith("83 % of the gain is left there, and it is significant.")
    assert "100 % of the gain" in said_of(0.03, 0.01, 0.05, 0.002)
    assert "significantly worse" in said_of(-0.01, -0.02, -0.004, 0.002)
    assert "interval" not in said_of(0.004, math.nan, math.nan, 0.4)
    recipe = Trial(0, {}, "finished", 0.62, 1.0)
    none = sentence([recipe, Trial(1, {}, "pruned", 0.4, 1.0)], recipe, Gain(116, 0, 554, None, 0.6, 0.6), "macro_f1")
    assert none.startswith("None of 1 trials is better than the recipe as it is: macro-F1 0.620")


# --- resuming --------------------------------------------------------------------------------------------------


def interrupted_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the search stop when it has trained a trial, before the score is recorded."""
    train_on = search.train_on

    def train(material: Any, out: Path, **more: Any) -> Any:
        outcome = train_on(material, out, **more)
        if out.name == str(number):
            raise KeyboardInterrupt
        return outcome

    monkeypatch.setattr(search, "train_on", train)


@pytest.mark.parametrize("number", [0, 2])
def test_interrupted_it_tries_the_same_settings_again(
    number: int, finished: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupted_at(patch, number)
        result = call(*options(base), code=130)
    assert "emotune search --resume out" in result.stderr
    said = as_json("--resume", "out")
    assert ended(said) == ended(json.loads((finished / "report" / "search.json").read_text()))
    for name in ("best.yaml", "unseen/0.safetensors"):
        assert Path("out", name).read_bytes() == (finished / name).read_bytes()


def test_more_trials_continue_a_finished_search(finished: Path, base: Path) -> None:
    Path("out/trials").mkdir(parents=True)
    assert "not a search" in call(*options(base), code=73).stderr
    Path("out/trials").rmdir()
    call(*options(base, trials=1))
    assert "holds a search" in call(*options(base), code=73).stderr
    result = call("--resume", "out", "--trials", 3)
    assert "1 of 3 trials have ended" in result.stderr
    theirs = json.loads((finished / "report" / "search.json").read_text())
    assert ended(json.loads(Path("out/report/search.json").read_text())) == ended(theirs)
    said = as_json(*options(base), "--resume")  # the same command with --resume, and nothing left to do
    assert ended(said) == ended(theirs)
    assert len(as_json(*options(base, "--overwrite", trials=1))["trials"]) == 2


def test_other_settings_rows_or_spaces_are_refused(finished: Path, base: Path) -> None:
    tiny.copy(finished, Path("out"))
    before = tiny.contents(Path("out"))
    same = [*options(base), "--resume"]
    assert "model.lowercase is False, and True" in call(*same, "--set", "model.lowercase=false", code=2).stderr
    assert "hold_back is 0.3, and 0.2" in call(*same, "--hold-back", 0.3, code=2).stderr
    assert "folds is 2, and None" in call(*same, "--folds", 2, code=2).stderr
    Path("space.yaml").write_text("model.C: [1.0, 2.0]")
    assert "space.yaml: the space is not the one" in call(*same, code=2).stderr
    assert "leave out --set" in call("--resume", "out", "--set", "model.C=3", code=2).stderr.casefold()
    assert "Leave one of them out" in call("--resume", "out", "--out", "other", code=2).stderr
    assert "Leave one of them out" in call(*same, "--overwrite", code=2).stderr
    assert "no search to resume" in call(*options(base), "--out", "elsewhere", "--resume", code=66).stderr
    after = tiny.contents(Path("out"))
    assert {name for name in before if before[name] != after[name]} <= {"search.json"}
    data = tiny.copy(tiny.multi_label(base), Path("data"))
    (data / "valid.csv").write_text((data / "valid.csv").read_text() + "one more happy cat,0,0,1\n")
    config = Path("out/config.yaml")
    config.write_text(config.read_text().replace(str(tiny.multi_label(base)), str(data.resolve())))
    assert "the valid split is not the one" in call("--resume", "out", code=65).stderr


def test_two_searches_at_once_are_locked_out(base: Path) -> None:
    with locked(Path("out")):
        assert "process" in call(*options(base), code=73).stderr
    assert not Path("out").exists()


def test_a_torn_journal_is_repaired(finished: Path) -> None:
    out = tiny.copy(finished, Path("out"))
    with (out / "trials.log").open("ab") as file:
        file.write(b'{"op_code": 4, "worker')
    (out / "trials.log.lock").write_text("")  # of a killed process
    assert len(as_json("--resume", out, "--trials", 4)["trials"]) == 5


def test_a_trial_in_which_the_process_always_ends_is_given_up(tmp_path: Path) -> None:
    space = {"model.C": Range(0.1, 10.0, log=True)}
    Study(tmp_path / "log", space, 0).start().finish(0.5)
    settings = [Study(tmp_path / "log", space, 0).start().settings for _ in range(3)]
    assert settings[0] == settings[1] == settings[2] != {}
    study = Study(tmp_path / "log", space, 0)
    assert [(trial.number, trial.state) for trial in study.trials] == [(0, "finished"), (1, "failed")]
    assert "3 times" in study.trials[1].reason
    assert study.start().number == 2


# --- trials ----------------------------------------------------------------------------------------------------


def test_a_trial_that_is_worse_than_most_is_pruned(tmp_path: Path) -> None:
    study = Study(tmp_path / "log", {"model.dropout": Range(0.0, 0.5)}, 0)
    for score in (0.5, 0.6, 0.7, 0.8, 0.9):
        trial = study.start()
        assert not trial.should_stop(1, score)
        trial.finish(score)
    good, bad = study.start(), None
    assert not good.should_stop(1, 0.75)
    good.finish(0.95)
    bad = study.start()
    assert bad.should_stop(1, 0.55)
    bad.prune("pruned after epoch 1")
    assert study.trials[-1] == Trial(
        6, bad.settings, "pruned", 0.55, study.trials[-1].seconds, reason="pruned after epoch 1"
    )
    assert study.best is not None
    assert study.best.number == 5


def test_a_failing_trial_has_its_reason(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_on = search.train_on

    def train(material: Any, out: Path, **more: Any) -> Any:
        if out.name == "1":
            raise TrainingError("the loss is nan", hint="Lower the rate.")
        return train_on(material, out, **more)

    monkeypatch.setattr(search, "train_on", train)
    result = call(*options(base, "--json", trials=2))
    assert "trial  1 of 2: failed, the loss is nan (Lower the rate.)" in result.stderr
    trials = json.loads(result.stdout)["trials"]
    assert [trial["state"] for trial in trials] == ["finished", "failed", "finished"]
    assert trials[1]["reason"] == "the loss is nan (Lower the rate.)"


def test_an_error_of_the_recipe_ends_the_search(base: Path) -> None:
    hidden = ("--set", "model.kind=features", "--set", "model.encoder=./nowhere")
    Path("space.yaml").write_text("model.C: [1.0, 2.0]")
    call("starter", "--data", tiny.multi_label(base), *hidden, "--out", "out", code=66)


def test_a_budget_ends_the_search_and_a_larger_one_continues(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = SimpleNamespace(seconds=0.0)
    train_on = search.train_on

    def train(*args: Any, **more: Any) -> Any:
        now.seconds += 100
        return train_on(*args, **more)

    monkeypatch.setattr(search, "train_on", train)
    monkeypatch.setattr(search, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    monkeypatch.setattr("emotune.cli.search.time", search.time)
    result = call(*options(base, "--budget", "4m", trials=9))
    assert "the budget of 4.0 min is used up after 2 of 9 trials" in result.stderr
    result = call("--resume", "out", "--budget", "9m")
    assert "the budget of 9.0 min is used up after 5 of 9 trials" in result.stderr
    assert "a time such as" in call(*options(base, "--budget", "soon"), code=2).stderr


def test_few_validation_rows_are_warned_of(base: Path) -> None:
    assert "--folds 5" in call(*options(base, trials=1)).stderr


def test_settings_are_readable_numbers_of_the_range(tmp_path: Path) -> None:
    space = {"a.b": Range(1e-5, 1.2345678e-5, log=True), "c.d": Range(1, 9, step=2), "e.f": Choices((None, [1, 2]))}
    study = Study(tmp_path / "log", space, 0)
    study.start().finish(0.5)
    for _ in range(12):
        trial = study.start()
        assert 1e-5 <= trial.settings["a.b"] <= 1.2345678e-5
        assert len(f"{trial.settings['a.b']:g}") <= 8
        assert trial.settings["c.d"] in (1, 3, 5, 7, 9)
        assert trial.settings["e.f"] in (None, [1, 2])
        trial.finish(np.random.default_rng(trial.number).random())
    assert [trial.settings for trial in Study(tmp_path / "log", space, 0).trials] == [t.settings for t in study.trials]


def test_a_share_that_is_none_is_refused(tmp_path: Path) -> None:
    request = search.SearchRequest("starter", 0.0, out=tmp_path / "out", hold_back=1.5)
    with pytest.raises(UsageError, match="--hold-back is a share"):
        search.search(request, Terminal())


def test_settings_change_one_key_each() -> None:
    config = load_config("goemotions")
    changed = with_settings(config, {"optimizer.lr": 0.5, "loss.name": "focal"})
    assert (changed.optimizer.lr, changed.loss.name) == (0.5, "focal")
    assert with_settings(changed, {"optimizer.lr": config.optimizer.lr, "loss.name": config.loss.name}) == config


# --- trained kinds, and kills ----------------------------------------------------------------------------------


def network(base: Path, trials: int) -> list[str]:
    space = {"optimizer.lr": {"low": 1e-6, "high": 1e-2, "log": True}, "training.epochs": [2, 3]}
    Path("space.yaml").write_text(yaml.safe_dump(space))
    data = tiny.options(base, tiny.multi_label(base), epochs=3)
    return ["starter", *data, "--space", "space.yaml", "--trials", str(trials), "--out", "out"]


@pytest.mark.slow
def test_an_encoder_is_searched_with_pruning(base: Path) -> None:
    said = as_json(*network(base, 12))
    states = [trial["state"] for trial in said["trials"]]
    assert set(states) == {"finished", "pruned"}
    pruned = [trial for trial in said["trials"] if trial["state"] == "pruned"]
    assert all(trial["reason"].startswith("pruned after epoch") for trial in pruned)
    assert said["best"]["settings"]["optimizer.lr"] > 1e-4
    assert said["gain"]["unseen"] is not None


@pytest.mark.slow
def test_ctrl_c_in_a_training(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def on_step(_: Terminal, report: Any) -> None:
        if report.step == 5:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Terminal, "on_step", on_step)
        assert "--resume out" in call(*network(base, 1), code=130).stderr
    assert len(as_json("--resume", "out")["trials"]) == 2


POINTS = (
    ("emotune.workflows.train.seal", 1),  # in the recipe's training
    ("emotune.workflows.search.counting_metrics", 2),  # a trial is trained, and its score is not recorded
    ("emotune.workflows.search.with_settings", 1),  # before a trial
    ("emotune.workflows.search.open_model", 2),  # the recipe's model has judged, the best trial's has not
    ("emotune.workflows.search.write_report", 1),
)


@pytest.mark.slow
def test_killed_anywhere_it_resumes_to_the_same_result(base: Path) -> None:
    args = ["search", *network(base, 4)]
    assert killing.emotune([*args, "--out", "whole"], Path("said")) == 0, Path("said").read_text()
    for i, (point, nth) in enumerate(POINTS):
        code = killing.emotune(["search", "--resume", "out"] if i else args, Path("said"), kill=point, nth=nth)
        assert code == -9, (point, Path("said").read_text())
    assert killing.emotune(["search", "--resume", "out"], Path("said")) == 0, Path("said").read_text()
    ours, theirs = (json.loads(Path(out, "report/search.json").read_text()) for out in ("out", "whole"))
    assert ended(ours) == ended(theirs)
    assert ours["gain"] == theirs["gain"]
    assert Path("out/best.yaml").read_bytes() == Path("whole/best.yaml").read_bytes()
