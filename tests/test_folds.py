"""`train --folds`: members scored on held-out rows, and one model of their mean."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from typer.testing import CliRunner, Result

import killing
import tiny
from emotune.artifact.manifest import read_decision, verify
from emotune.artifact.opening import open_model
from emotune.cli.app import app
from emotune.cli.terminal import Terminal
from emotune.config.loading import load_config
from emotune.data.corpus import folds_of, held_out
from emotune.data.records import Corpus, Record, targets_of, text_key
from emotune.errors import DataError
from emotune.inference.classifier import load
from emotune.labels import LabelSet
from emotune.runs import layout
from emotune.scoring.folds import stratified_folds
from emotune.training.progress import StepReport
from label_files import load_corpus

LABELS = LabelSet(("joy", "fear"))


def call(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def options(base: Path, out: Path, *more: str, epochs: int = 4) -> list[str]:
    return ["train", "starter", *tiny.options(base, tiny.multi_label(base), epochs=epochs), "--out", str(out), *more]


@pytest.fixture(scope="session")
def crossed(base: Path) -> Path:
    """The run of a cross-training with 3 folds; not to be changed."""
    return tiny.once(base, "crossed", lambda path: call(*options(base, path, "--folds", "3", epochs=6)))


# The folds


def records(texts: list[str]) -> list[Record]:
    return [Record(text, (len(text) % 2,), Path("rows.csv"), i + 2) for i, text in enumerate(texts)]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=12, max_size=40), st.integers(2, 4))
def test_every_row_is_in_one_fold_and_equal_texts_are_in_the_same(texts: list[str], num_folds: int) -> None:
    rows = records([*texts, *(f"text {i}" for i in range(num_folds * 4))])
    folds = folds_of(rows, 2, num_folds)
    assert set(folds) == set(range(1, num_folds + 1))
    for i, row in enumerate(rows):
        assert all(folds[i] == folds[j] for j, other in enumerate(rows) if text_key(row.text) == text_key(other.text))
    assert np.array_equal(folds, folds_of(rows, 2, num_folds))


def test_without_equal_texts_the_folds_are_the_stratified_ones() -> None:
    rows = records([f"text {i} {'x' * (i % 3)}" for i in range(50)])
    assert np.array_equal(folds_of(rows, 2, 5), stratified_folds(targets_of(rows, 2), 5, 0) + 1)


def test_each_row_is_held_out_once_and_never_learnt_from_then() -> None:
    corpus = Corpus(LABELS, {"train": records([f"text {i}" for i in range(20)]), "test": records(["t"])}, ())
    parts = [held_out(corpus, number, 4) for number in range(1, 5)]
    assert sorted(r.line for part in parts for r in part.splits["valid"]) == list(range(2, 22))
    for part in parts:
        assert not {r.line for r in part.splits["train"]} & {r.line for r in part.splits["valid"]}
        assert len(part.splits["train"]) + len(part.splits["valid"]) == 20
        assert part.splits["test"] == corpus.splits["test"]


def test_too_few_rows_for_the_folds_are_refused() -> None:
    with pytest.raises(DataError, match=r"too few training rows \(4, 1 different texts\) for 2 folds"):
        folds_of(records(["same"] * 4), 2, 2)


@pytest.mark.parametrize("fold", ["[0,3]", "[4,3]", "[1,1]", "[1]", "3"])
def test_a_fold_that_is_none_is_refused(fold: str) -> None:
    assert "data.fold" in call("train", "starter", "--set", f"data.fold={fold}", code=2).stderr


# The run


def test_a_cross_training_leaves_one_model_of_its_members_and_what_it_is_worth(crossed: Path) -> None:
    found = open_model(str(crossed))
    assert found.manifest is not None
    assert (found.manifest.kind, found.manifest.portability) == ("ensemble", "emotune")
    assert [member.name for member in found.members] == ["fold-1", "fold-2", "fold-3"]
    kept = load_file(crossed / "oof.safetensors")
    assert kept["logits"].shape == kept["targets"].shape == (tiny.SPLITS["train"], 3)
    assert set(kept["fold"]) == {1, 2, 3}
    assert found.decision.tuning["split"] == "train, out of fold"
    assert found.decision.tuning["rows"] == tiny.SPLITS["train"]
    assert {path.name for path in crossed.iterdir()} == {
        *("config.yaml", "data.json", "log.jsonl", "valid.safetensors", "oof.safetensors", "train_texts.safetensors"),
        *("model", "folds"),
    }
    card = (crossed / "model" / "README.md").read_text()
    assert "out of fold, 160 training rows: macro-F1 0." in card
    assert "| fold-1 | encoder |" in card


def test_each_row_is_scored_by_the_member_that_has_not_seen_it(crossed: Path) -> None:
    config = layout.read_config(crossed)
    rows = load_corpus(config.data, ("train",)).splits["train"]
    kept = load_file(crossed / "oof.safetensors")
    factors = []
    for number in (1, 2, 3):
        member = load(crossed / "folds" / str(number), device="cpu")
        inside = kept["fold"] == number
        seen = layout.seen_in_training(crossed / "folds" / str(number), _keys(rows))
        assert seen is not None
        assert np.array_equal(seen, ~inside)
        own = member.logits([r.text for r, held in zip(rows, inside, strict=True) if held])
        factors.append(own / kept["logits"][inside])
    temperature = np.median(np.concatenate(factors))
    assert all(np.allclose(factor, temperature, rtol=1e-3) for factor in factors)
    weights = json.loads((crossed / "model" / "ensemble.json").read_text())["weights"]
    assert weights["fold-2"]["joy"] == pytest.approx(1 / (3 * temperature), rel=1e-4)


def _keys(rows: list[Record]) -> np.ndarray:
    from emotune.data.records import text_keys

    return text_keys(rows)


def test_the_validation_rows_are_scored_by_the_mean_of_the_members(crossed: Path) -> None:
    config = layout.read_config(crossed)
    texts = [r.text for r in load_corpus(config.data, ("valid",)).splits["valid"]]
    kept = load_file(crossed / "valid.safetensors")
    model = load(crossed, device="cpu")
    assert np.allclose(model.logits(texts), kept["logits"], atol=1e-5)
    each = [load(crossed / "folds" / n, device="cpu").logits(texts) for n in "123"]
    assert np.allclose(np.argsort(np.mean(each, axis=0)), np.argsort(kept["logits"]))
    last = json.loads((crossed / "log.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "end"
    assert last["validation"]["macro_f1"] > 0.5
    assert last["out_of_fold"]["macro_f1"] > 0.5


def test_a_fold_is_an_ordinary_run(crossed: Path, tmp_path: Path) -> None:
    fold = tiny.copy(crossed / "folds" / "1", tmp_path / "fold")
    said = json.loads(call("evaluate", fold, "--split", "valid", "--json", "--out", tmp_path / "out").stdout)
    assert said["rows"] == np.sum(load_file(crossed / "oof.safetensors")["fold"] == 1)
    config = layout.read_config(fold)
    assert (config.data.fold, config.training.keep, config.tuning.calibrate) == ([1, 3], "last", False)


def test_training_rows_are_evaluated_out_of_fold(crossed: Path, tmp_path: Path) -> None:
    run = tiny.copy(crossed, tmp_path / "run")
    result = call("evaluate", run, "--split", "train", "--json")
    said = json.loads(result.stdout)
    assert said["rows"] == tiny.SPLITS["train"]
    assert "scored by a member that was not trained on it" in result.stderr
    assert "were also trained on" not in result.stderr
    tuning = read_decision(run / "model").tuning
    assert said["metrics"]["macro_f1"] == pytest.approx(tuning["in_sample"]["macro_f1"])


def test_tune_chooses_thresholds_on_the_rows_out_of_fold(crossed: Path, tmp_path: Path) -> None:
    run = tiny.copy(crossed, tmp_path / "run")
    said = json.loads(call("tune", run, "--method", "global", "--json").stdout)
    assert said["rows"] == tiny.SPLITS["train"]
    decision = read_decision(run / "model")
    assert len(set(decision.thresholds)) == 1
    assert decision.tuning["split"] == "train, out of fold"
    verify(run / "model")
    for member in open_model(str(run)).members:
        assert member.model.decision != decision


def test_data_without_a_validation_split_is_trained_on_whole(base: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.csv").write_bytes((tiny.multi_label(base) / "train.csv").read_bytes())
    run = tmp_path / "run"
    result = call("train", "starter", *tiny.options(base, data, epochs=1), "--folds", 2, "--out", run, "--json")
    said = json.loads(result.stdout)
    assert said["validation"] is None
    assert len(load_file(run / "oof.safetensors")["logits"]) == tiny.SPLITS["train"]
    assert not (run / "valid.safetensors").exists()
    assert "scored by a member" in call("evaluate", run).stderr


def test_settings_that_choose_on_held_out_rows_are_ignored_with_a_message(base: Path, tmp_path: Path) -> None:
    more = ["--folds", "2", "--set", "training.keep=best", "--set", "training.patience=1"]
    result = call(*options(base, tmp_path / "run", *more, epochs=1))
    assert "ignored: training.keep best and training.patience 1, because the held-out rows" in result.stderr
    quiet = call(*options(base, tmp_path / "other", "--folds", "2", "--quiet", "--set", "training.keep=last", epochs=1))
    assert "ignored:" not in quiet.stderr
    assert quiet.stdout == f"model: {tmp_path / 'other' / 'model'}\n"


# Interruptions


def said_of(run: Path) -> Path:
    return run.with_name(f"{run.name}.said")


def args(base: Path, run: Path, *more: str) -> list[str]:
    return options(base, run, "--folds", "2", "--set", "training.checkpoint_steps=5", *more, epochs=2)


@pytest.fixture(scope="session")
def whole(base: Path) -> Path:
    """A cross-training that nothing interrupted; not to be changed."""
    return tiny.once(base, "crossed-whole", lambda path: killing.seconds(args(base, path), said_of(path)))


def logged(run: Path) -> list[dict[str, object]]:
    """The log without how long it took."""
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in event.items() if key != "seconds"} for event in events]


def require_equal(run: Path, whole: Path) -> None:
    """All that the two hold, but for when it was made and where: the second is the first's name."""
    assert {path.name for path in run.iterdir()} == {path.name for path in whole.iterdir()}
    assert tiny.contents(run / "model") == tiny.contents(whole / "model")
    for name in ("oof.safetensors", "valid.safetensors", "config.yaml", "data.json"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    assert logged(run) == logged(whole)
    for fold in ("1", "2"):
        assert tiny.contents(run / "folds" / fold / "model") == tiny.contents(whole / "folds" / fold / "model")


def test_an_interrupt_in_the_last_step_of_a_fold_is_not_lost(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_the_end(_: Terminal, report: StepReport) -> None:
        if report.step == report.num_steps:
            signal.raise_signal(signal.SIGINT)

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Terminal, "on_step", at_the_end)
        result = call(*args(base, run), code=130)
    assert "interrupted in fold 1 of 2" in result.stderr
    assert [path.name for path in (run / "folds").iterdir()] == ["1"]
    assert "fold 1 of 2 is already trained" in call("train", "--resume", run).stderr


def test_an_interrupt_in_the_first_epoch_of_a_fold_is_resumed(
    base: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Terminal, "on_step", lambda _, report: report.step == 2 and signal.raise_signal(signal.SIGINT))
        result = call(*args(base, run), code=130)
    assert "interrupted in fold 1 of 2" in result.stderr
    assert not (run / "folds/1/model").exists()
    assert "resuming from step 2" in call("train", "--resume", run).stderr
    require_equal(run, whole)


PLACES = (
    ("manifest.json synced", 2),  # checkpoints of the first member
    ("emotune.workflows.train.make_card", 1),
    ("emotune.workflows.train._session", 2),  # the second member begins
    ("renamed", 3),
    ("emotune.workflows.cross_train.tune_decision", 1),
    ("emotune.workflows.cross_train.save_rows", 2),
    ("emotune.atomic._put_in_place", 3),  # the mean's, after those of its members
)


def test_killed_in_one_place_after_the_other_the_bytes_are_the_same(base: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for place in ("manifest.json synced", "emotune.workflows.cross_train.save_rows"):
        assert killing.emotune(args(base, run, "--resume"), said_of(run), kill=place) == -9, said_of(run).read_text()
    assert killing.emotune(["train", "--resume", str(run)], said_of(run)) == 0, said_of(run).read_text()
    assert "fold 1 of 2 is already trained\nfold 2 of 2 is already trained" in said_of(run).read_text()
    require_equal(run, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("place", "nth"), PLACES)
def test_killed_in_a_place_the_bytes_are_the_same(
    place: str, nth: int, base: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert killing.emotune(args(base, run), said_of(run), kill=place, nth=nth) == -9, said_of(run).read_text()
    assert killing.emotune(["train", "--resume", str(run)], said_of(run)) == 0, said_of(run).read_text()
    require_equal(run, whole)


@pytest.fixture
def stopped(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cross-training whose second member was interrupted by Ctrl-C after its step 7."""
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        begun = []

        def on_step(self: Terminal, report: object) -> None:
            begun.append(report.step)
            if begun.count(7) == 2 and report.step == 7:
                os.kill(os.getpid(), 2)

        patch.setattr(Terminal, "on_step", on_step)
        result = call(*args(base, run, "--json"), code=130)
    said = json.loads(result.stdout)
    assert (said["interrupted"], said["fold"], said["model"]) == (True, 2, None)
    assert f"emotune train --resume {run}" in result.stderr
    return run


def test_an_interrupted_run_resumes_the_current_fold(stopped: Path, whole: Path) -> None:
    assert "holds an unfinished run" in call("train", "starter", "--out", stopped, code=73).stderr
    result = call("train", "--resume", stopped)
    assert "fold 1 of 2 is already trained" in result.stderr
    assert "resuming from step 7" in result.stderr
    require_equal(stopped, whole)
    assert "nothing to resume" in call("train", "--resume", stopped).stderr


def test_it_resumes_with_the_same_data_and_configuration_only(stopped: Path, tmp_path: Path, base: Path) -> None:
    assert "training.folds is 3, and 2 in the run" in call("train", "--resume", stopped, "--folds", 3, code=2).stderr
    data = tiny.copy(tiny.multi_label(base), tmp_path / "data")
    path = stopped / "config.yaml"
    path.write_text(path.read_text().replace(str(tiny.multi_label(base)), str(data)))
    with (data / "train.csv").open("a") as file:
        file.write("one more happy cat,0,0,1\n")
    result = call("train", "--resume", stopped, code=65)
    assert "the train split is not the one that the run began with (160 rows then, 161 now)" in result.stderr


def test_overwrite_keeps_a_backup_until_the_new_run_has_succeeded(crossed: Path, tmp_path: Path, base: Path) -> None:
    run = tiny.copy(crossed, tmp_path / "run")
    assert "holds a trained model" in call(*options(base, run, "--folds", "2"), code=73).stderr
    missing = ["--set", "model.encoder=nowhere/at-all-12", "--overwrite"]
    call(*options(base, run, "--folds", "2", *missing), code=66)
    assert tiny.contents(run) == tiny.contents(crossed)
    call(*options(base, run, "--folds", "2", "--overwrite", epochs=1))
    assert len(open_model(str(run)).members) == 2
    assert not (run / ".former").exists()


def test_folds_are_part_of_the_configuration() -> None:
    assert load_config("starter", ["training.folds=4"]).training.folds == 4
    assert "training.folds" in call("train", "starter", "--set", "training.folds=1", code=2).stderr
