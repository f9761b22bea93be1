"""Train, tune and evaluate from end to end, with a tiny encoder on small corpora that it can learn."""

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner, Result

import emotune
import tiny
from emotune import reports
from emotune.artifact.manifest import verify
from emotune.cli.app import app
from emotune.cli.terminal import Terminal
from emotune.config.loading import load_config
from emotune.config.schema import Config
from emotune.errors import OutputError
from emotune.labels import EKMAN, GOEMOTIONS, SENTIMENT
from emotune.runs import log as training_log
from label_files import load_corpus

RUN_FILES = {"config.yaml", "data.json", "log.jsonl", "valid.safetensors", "train_texts.safetensors", "model"}
TEXT_REPORTS = {"metrics.json", "predictions.csv", "report.md", "report.html"}
METRICS = {
    *("micro_f1", "micro_precision", "micro_recall", "macro_f1", "macro_precision", "macro_recall"),
    *("weighted_f1", "weighted_precision", "weighted_recall", "samples_f1", "accuracy", "hamming_loss"),
    *("macro_average_precision", "macro_auroc", "brier", "ece", "top_label_ece", "positive_region_ece"),
}


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return tiny.copy(run, tmp_path / "copied")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if matplotlib were not installed: pictures take longer than all the rest."""
    monkeypatch.setitem(sys.modules, "emotune.reports.figures", None)
    monkeypatch.delattr(reports, "figures", raising=False)


def call(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def as_json(*args: object) -> dict:
    """The one JSON object that a verb prints on stdout."""
    (line,) = call(*args, "--json").stdout.splitlines()
    return json.loads(line, parse_constant=pytest.fail)


def decision_of(run: Path) -> dict:
    return json.loads((run / "model" / "decision.json").read_text())


def config_of(run: Path) -> Config:
    return load_config(str(run / "config.yaml"))


# Train


def test_training_writes_a_run_that_its_config_repeats_byte_for_byte(base: Path, tmp_path: Path) -> None:
    data, first, again, other = tiny.multi_label(base), tmp_path / "first", tmp_path / "again", tmp_path / "other"
    options = tiny.options(base, data)
    said = as_json("train", "starter", *options, "--out", first)
    assert (said["run"], said["model"], said["interrupted"]) == (str(first), str(first / "model"), False)
    assert said["validation"]["macro_f1"] > 0.9
    assert [epoch["epoch"] for epoch in said["epochs"]] == list(range(1, 9))
    assert {path.name for path in first.iterdir()} == RUN_FILES
    verify(first / "model")
    assert config_of(first) == load_config("starter", [f"data.path={data}", *options[3::2]])

    call("train", first / "config.yaml", "--out", again)
    assert tiny.contents(again / "model") == tiny.contents(first / "model")
    call("train", first / "config.yaml", "--out", other, "--set", "training.seed=1")
    assert tiny.contents(other / "model") != tiny.contents(first / "model")


def test_the_talk_of_training_goes_to_stderr(base: Path, tmp_path: Path) -> None:
    args = ["train", "starter", *tiny.options(base, tiny.multi_label(base), epochs=1)]
    loud, quiet = call(*args), call(*args, "--quiet")
    assert loud.stdout == "model: runs/starter/model\n"
    for said in ("160 train rows, 40 valid rows", "columns of 0/1", "epoch 1: ", "thresholds: ", "next: emotune"):
        assert said in loud.stderr
    assert (quiet.stdout, quiet.stderr) == ("model: runs/starter-2/model\n", "")


def test_what_is_doubtful_in_the_data_is_said_and_kept(base: Path, tmp_path: Path) -> None:
    data = tiny.copy(tiny.multi_label(base), tmp_path / "data")
    first = (data / "train.csv").read_text().splitlines()[1]
    (data / "valid.csv").write_text((data / "valid.csv").read_text() + first + "\n")
    (data / "train.csv").write_text((data / "train.csv").read_text() + '"  ",0,0,1\n')
    result = call("train", "starter", *tiny.options(base, data, epochs=1), "--quiet", "--out", "run")
    findings = json.loads(Path("run/data.json").read_text())["findings"]
    assert result.stderr == "".join(f"warning: {finding}\n" for finding in findings)
    assert findings[0] == "1 empty text in train, left out of training (train.csv:162)"
    assert findings[1] == "1 text of valid also in train, which inflates the score (valid.csv:42)"
    assert len(findings) == 2


def test_the_log_is_json_line_by_line(run: Path) -> None:
    lines = (run / "log.jsonl").read_text().splitlines()
    events = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert [event["event"] for event in events if event["event"] != "step"] == ["start", *["epoch"] * 8, "end"]
    assert events[-2]["metrics"]["macro_f1"] > 0.9
    steps = [event for event in events if event["event"] == "step"]
    assert (steps[0]["step"], steps[-1]["step"]) == (1, steps[-1]["num_steps"])


def test_a_log_holds_null_for_what_is_not_a_number(tmp_path: Path) -> None:
    training_log.write_event(
        tmp_path / "log.jsonl", "epoch", loss=float("inf"), metrics={"macro_f1": float("nan"), "loss": 0.5}
    )
    written = json.loads((tmp_path / "log.jsonl").read_text(), parse_constant=pytest.fail)
    assert written == {"event": "epoch", "loss": None, "metrics": {"macro_f1": None, "loss": 0.5}}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_log_on_a_full_disk_is_an_output_error() -> None:
    with pytest.raises(OutputError, match=r"/dev/full: cannot write: .*\n  Free some space"):
        training_log.write_event(Path("/dev/full"), "start")


@pytest.mark.parametrize("corpus", [tiny.multi_label, tiny.multi_class])
def test_the_kept_validation_logits_are_those_of_the_saved_model(corpus, base: Path) -> None:
    run = tiny.trained(base, corpus(base))
    kept = load_file(run / "valid.safetensors")
    valid = load_corpus(config_of(run).data)
    logits = emotune.load(run).logits([record.text for record in valid.splits["valid"]])
    np.testing.assert_allclose(kept["logits"], logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(kept["targets"], valid.targets("valid"))


def test_a_multi_class_run(base: Path, no_pictures: None) -> None:
    run = tiny.trained(base, tiny.multi_class(base))
    assert decision_of(run)["task"] == "multi_class"
    assert decision_of(run)["tuning"] == {}
    scored = as_json("evaluate", run)
    assert scored["metrics"]["accuracy"] > 0.9
    assert np.sum(scored["confusion"]) == scored["rows"] == 30
    shown = call("evaluate", run).stdout
    assert "\naccuracy " in shown
    assert "subset accuracy" not in shown


def test_of_a_single_file_the_part_left_out_is_scored(base: Path, tmp_path: Path, no_pictures: None) -> None:
    Path("all.csv").write_text(tiny.MULTI_LABEL_HEADER + "\n".join(tiny.multi_label_rows(230)) + "\n")
    call("train", "starter", *tiny.options(base, Path("all.csv"), epochs=1), "--out", "run", "--overwrite")
    result = call("evaluate", "run", "--json")
    assert "also trained on" not in result.stderr
    assert json.loads(result.stdout)["split"] == "test"
    scored = {int(row["line"]) for row in predictions(Path("run/eval/test"))}
    parts = load_corpus(config_of(Path("run")).data, ("train", "valid", "test")).splits
    lines = {name: {record.line for record in records} for name, records in parts.items()}
    assert scored == lines["test"]
    assert scored.isdisjoint(lines["train"] | lines["valid"])
    assert sum(map(len, lines.values())) == 230


def test_paths_in_a_kept_configuration_are_absolute(base: Path, tmp_path: Path, monkeypatch) -> None:
    tiny.copy(tiny.goemotions(base), tmp_path / "data")
    (tmp_path / "data" / "labels.txt").rename(tmp_path / "names.txt")
    tiny.copy(tiny.encoder(base), tmp_path / "encoder")
    settings = ["--set", "data.labels_file=names.txt", "--set", "model.encoder=encoder"]
    call("train", "starter", *tiny.options(base, Path("data"), epochs=1), *settings, "--out", "run")
    config = config_of(Path("run"))
    assert config.data.path == str(tmp_path / "data")
    assert config.data.labels_file == str(tmp_path / "names.txt")
    assert config.model.encoder == str(tmp_path / "encoder")


def test_a_former_run_is_replaced_when_asked(copied: Path, base: Path, tmp_path: Path) -> None:
    (copied / "eval" / "test").mkdir(parents=True)
    (copied / ".model.1234.part").mkdir()  # what is left when a process is killed
    data = tiny.multi_class(base)
    call("train", "starter", *tiny.options(base, data, epochs=1), "--out", copied, "--overwrite")
    assert {path.name for path in copied.iterdir()} == RUN_FILES
    assert config_of(copied).data.path == str(data)
    verify(copied / "model")


def test_a_trained_model_starts_and_teaches_a_smaller_one(run: Path, base: Path) -> None:
    options = tiny.options(base, tiny.multi_label(base), epochs=1)
    smaller = ["--set", f"model.encoder={run / 'model'}", "--set", "model.layers=[2]", "--set", f"data.teacher={run}"]
    call("train", "starter", *options, *smaller, "--out", "small")
    assert json.loads(Path("small/model/config.json").read_text())["num_hidden_layers"] == 1
    assert "| layers of the encoder | 2 |" in Path("small/model/README.md").read_text()
    verify(Path("small/model"))


def test_an_unfinished_run_is_taken_over(copied: Path, base: Path) -> None:
    (copied / "model").rename(copied / ".model.1234.part")
    call("train", "starter", *tiny.options(base, tiny.multi_class(base), epochs=1), "--out", copied)
    assert {path.name for path in copied.iterdir()} == RUN_FILES


def test_ctrl_c_keeps_the_best_model_so_far(base: Path, tmp_path: Path) -> None:
    options = tiny.options(base, tiny.multi_label(base), epochs=100_000)
    command = [sys.executable, "-m", "emotune", "train", "starter", "--out", "run", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as training:
        assert training.stderr
        for line in training.stderr:
            if line.startswith("epoch 3:"):
                break
        training.send_signal(signal.SIGINT)
        stdout, stderr = training.communicate(timeout=100)
    assert training.returncode == 130
    assert stdout == "model: run/model\n"
    assert "warning: interrupted: the model has the weights of epoch " in stderr
    assert "Traceback" not in stderr
    verify(Path("run/model"))
    assert "| interrupted | yes |" in Path("run/model/README.md").read_text()
    assert emotune.load("run")("the cat sat")[0].scores


def test_ctrl_c_in_the_first_epoch_leaves_a_checkpoint_and_no_model(base: Path, monkeypatch) -> None:
    options = tiny.options(base, tiny.multi_label(base), epochs=2)
    with monkeypatch.context() as patch:
        patch.setattr(Terminal, "on_step", lambda self, report: signal.raise_signal(signal.SIGINT))
        result = call("train", "starter", *options, "--out", "run", "--json", code=130)
    assert "warning: interrupted before the end of the first epoch: there is no model yet" in result.stderr
    assert "to resume the training: emotune train --resume run\n" in result.stderr
    said = json.loads(result.stdout)
    assert (said["model"], said["interrupted"], said["epochs"], said["best_epoch"]) == (None, True, [], 0)
    assert not Path("run/model").exists()
    assert "no model yet" in call("predict", "-m", "run", "happy", code=65).stderr
    assert "resuming from step 1 of 40" in call("train", "--resume", "run").stderr
    call("train", "starter", *options, "--out", "whole")
    assert tiny.contents(Path("run/model")) == tiny.contents(Path("whole/model"))


@pytest.mark.parametrize("moment", ["train.load_corpus", "train.make_card"])
def test_ctrl_c_outside_of_training_leaves_no_half_a_model(moment: str, base: Path, monkeypatch) -> None:
    def interrupted(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"emotune.workflows.{moment}", interrupted)
    options = tiny.options(base, tiny.multi_label(base), epochs=1)
    result = call("train", "starter", *options, "--out", "run", code=130)
    assert result.stderr.endswith("error: interrupted\n")
    assert {path.name for path in Path().glob("run/*")} <= RUN_FILES - {"model"} | {"checkpoints"}


# Tune


@pytest.fixture
def with_policies(base: Path, tmp_path: Path) -> Path:
    """A run of GoEmotions' labels whose decision has policies other than the usual; to be changed."""
    policies = ["--set", "decision.when_nothing_passes=neutral", "--set", "decision.neutral_excludes=true"]
    run = tiny.once(
        base,
        "run-with-policies",
        lambda path: call("train", "starter", *tiny.options(base, tiny.goemotions(base)), *policies, "--out", path),
    )
    return tiny.copy(run, tmp_path / "run")


def test_tuning_changes_thresholds_and_nothing_else(with_policies: Path) -> None:
    model = with_policies / "model"
    before, old = tiny.contents(model), decision_of(with_policies)
    said = as_json("tune", with_policies, "--method", "per_label", "--objective", "micro_f1", "--folds", 2)
    after, new = tiny.contents(model), decision_of(with_policies)

    assert said["thresholds"] == new["thresholds"] != old["thresholds"]
    assert (said["method"], said["objective"], said["rows"]) == ("per label", "micro_f1", 40)
    assert said["optimism"]["micro_f1"] == pytest.approx(
        said["in_sample"]["micro_f1"] - said["out_of_fold"]["micro_f1"]
    )
    assert new["tuning"] | {"method": "per label", "objective": "micro_f1", "folds": 2} == new["tuning"]
    assert list(new["tuning"]["fold_thresholds"]) == list(new["tuning"]["positives"]) == list(GOEMOTIONS.names)
    assert {len(each) for each in new["tuning"]["fold_thresholds"].values()} == {2}
    assert (new["when_nothing_passes"], new["neutral_excludes"], new["task"]) == ("neutral", True, "multi_label")

    assert {name for name in before if before[name] != after[name]} == {"decision.json", "README.md", "emotune.json"}
    assert before.keys() == after.keys()
    cards = [old_and_new["README.md"].decode().split("<!-- decision -->") for old_and_new in (before, after)]
    assert cards[0][0] == cards[1][0]
    assert "Thresholds: per label, for micro_f1, on 40 rows of valid." in cards[1][1]
    assert f"| joy | {new['thresholds']['joy']:.3f} |" in cards[1][1]
    verify(model)


def test_tuning_as_it_was_trained_changes_nothing(copied: Path) -> None:
    before = tiny.contents(copied / "model")
    call("tune", copied)
    assert tiny.contents(copied / "model") == before


def test_tuning_tells_how_the_methods_compare(copied: Path) -> None:
    result = call("tune", copied, "--method", "auto")
    title, header, *rows = result.stdout.splitlines()
    assert title == "Out of fold, 40 rows, 3 folds"
    assert header.split() == ["thresholds", "macro-F1", "micro-F1"]
    assert [row.rsplit(maxsplit=2)[0] for row in rows[:-1]] == [
        *("global", "shrunk (40)", "shrunk (20)", "shrunk (10)", "shrunk (5)", "per label")
    ]
    assert rows[-1].startswith("thresholds: ")
    assert str(copied / "model") in result.stderr


def test_tuning_a_model_that_stands_alone(copied: Path, base: Path, tmp_path: Path) -> None:
    alone = tiny.copy(copied / "model", tmp_path / "alone")
    data = tiny.multi_label(base)
    assert "--data PATH" in call("tune", alone, code=66).stderr
    said = as_json("tune", alone, "--data", data, "--split", "test", "--method", "global")
    assert (said["rows"], said["model"]) == (30, str(alone))
    assert len(set(said["thresholds"].values())) == 1
    verify(alone)
    assert as_json("tune", alone, "--data", data / "test.csv", "--method", "global")["thresholds"] == said["thresholds"]
    # what it was tuned on is known to the model, and found again
    result = call("evaluate", alone, "--data", data, "--json")
    assert "tuned on these rows" in result.stderr


# Evaluate


def predictions(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_an_evaluation_and_its_files(copied: Path) -> None:
    result = call("evaluate", copied, "--json")
    found = json.loads(result.stdout, parse_constant=pytest.fail)
    assert (found["split"], found["rows"], found["task"]) == ("test", 30, "multi_label")
    assert set(found["metrics"]) == METRICS
    assert all(isinstance(value, float) and 0 <= value <= 1 for value in found["metrics"].values())
    for name, (low, high) in found["intervals"].items():
        assert low <= found["metrics"][name] <= high
    assert {"macro_f1", "micro_f1", "accuracy"} <= set(found["intervals"])
    assert [label["label"] for label in found["labels"]] == ["anger", "fear", "joy"]
    assert "warning" not in result.stderr

    folder = copied / "eval" / "test"
    stems = ("label_f1", "missed_extra", "precision_recall", "reliability", "threshold_stability", "training")
    pictures = {f"{stem}.png" for stem in stems}
    drawings = {f"{stem}.svg" for stem in stems}
    assert {path.name for path in folder.iterdir()} == {*TEXT_REPORTS, *pictures, *drawings}
    assert json.loads((folder / "metrics.json").read_text()) | {"folder": str(folder)} == found
    report = (folder / "report.md").read_text()
    assert all(f"]({name})" in report and (folder / name).stat().st_size for name in pictures)
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == len(stems) - 1 + 3
    assert "test.csv:" in page
    rows = predictions(folder)
    assert len(rows) == 30
    exact = np.mean([set(row["labels"].split("|")) == set(row["predicted"].split("|")) for row in rows])
    assert exact == pytest.approx(found["metrics"]["accuracy"])
    verify(copied / "model")


def test_an_evaluation_for_people(copied: Path, no_pictures: None) -> None:
    result = call("evaluate", copied)
    metrics = json.loads((copied / "eval" / "test" / "metrics.json").read_text())["metrics"]
    lines = result.stdout.split("Most confused")[0].splitlines()
    shown = dict(line.split("  ", 1) for line in lines if "  " in line)
    assert shown["macro-F1"].split()[0] == f"{metrics['macro_f1']:.3f}"
    assert shown["subset accuracy"].split()[0] == f"{metrics['accuracy']:.3f}"
    assert shown["joy"].split()[0].isdigit()
    assert "pip install '.[reports]'" in result.stderr
    assert f"report: {copied / 'eval' / 'test' / 'report.html'}" in result.stderr
    assert {path.name for path in (copied / "eval" / "test").iterdir()} == TEXT_REPORTS
    page = (copied / "eval" / "test" / "report.html").read_text()
    assert f"{metrics['macro_f1']:.3f}" in page
    assert config_of(copied).to_yaml().splitlines()[-1] in page
    assert decision_of(copied)["tuning"]["data_sha256"] in page


def test_the_user_bounds_the_texts_of_a_report(copied: Path, no_pictures: None) -> None:
    Path("wrong.csv").write_text("text,anger,fear,joy\nthe cat happy,1,0,0\nfurious tea drank,0,0,1\nrain fell,0,1,0\n")
    for texts in (0, 1):
        call("evaluate", copied, "--data", "wrong.csv", "--texts", texts, "--out", "out")
        page = (Path("out") / "report.html").read_text()
        assert (page.count("wrong.csv:") > 0) is (texts > 0)
        assert "--texts" in page
    assert "Invalid value for '--texts'" in call("evaluate", copied, "--texts", -1, code=2).stderr


def test_scores_that_flatter_are_said_to(copied: Path, no_pictures: None) -> None:
    tuned = call("evaluate", copied, "--split", "dev", "--json")
    assert "warning: the thresholds were tuned on these rows" in tuned.stderr
    assert any("tuned on these rows" in warning for warning in json.loads(tuned.stdout)["warnings"])
    assert "tuned on these rows" in (copied / "eval" / "valid" / "report.md").read_text()
    trained = call("evaluate", copied, "--split", "train", "--quiet")
    assert "160 of 160 texts were also trained on: these scores say nothing about new texts" in trained.stderr


def test_a_leak_is_counted_and_the_rest_scored(copied: Path, base: Path, no_pictures: None) -> None:
    data = tiny.multi_label(base)
    header, *trained = (data / "train.csv").read_text().splitlines()
    clean = (data / "test.csv").read_text().splitlines()[1:]
    Path("mixed.csv").write_text("\n".join([header, *trained[:7], *clean]) + "\n")
    rest = as_json("evaluate", copied)["metrics"]
    said = call("evaluate", copied, "--data", "mixed.csv").stderr
    wanted = f"without them micro-F1 {rest['micro_f1']:.3f}, macro-F1 {rest['macro_f1']:.3f}"
    assert f"7 of 37 texts were also trained on; {wanted}" in said


def test_what_is_undefined_is_null_and_said(copied: Path, no_pictures: None) -> None:
    Path("joys.csv").write_text("text,anger,fear,joy\nthe cat sat happy,0,0,1\nrain fell glad,0,0,1\n")
    result = call("evaluate", copied, "--data", "joys.csv")
    assert "2 labels without a positive example leave the macro averages: anger, fear" in result.stderr
    (anger,) = [line for line in result.stdout.splitlines() if line.startswith("anger")]
    assert "undefined" in anger
    found = as_json("evaluate", copied, "--data", "joys.csv")
    assert found["labels_without_positives"] == ["anger", "fear"]
    assert [found["labels"][0][name] for name in ("support", "f1", "auroc")] == [0, None, None]

    Path("none.csv").write_text("text,anger,fear,joy\nthe cat sat,0,0,0\nrain fell,0,0,0\n")
    assert as_json("evaluate", copied, "--data", "none.csv")["metrics"]["macro_f1"] is None
    assert "macro-F1" in (line := call("evaluate", copied, "--data", "none.csv").stdout.splitlines()[2])
    assert "undefined" in line


@pytest.mark.parametrize("level", [EKMAN, SENTIMENT], ids=["ekman", "sentiment"])
def test_scores_at_a_coarser_level(level, with_policies: Path, no_pictures: None) -> None:
    name = {EKMAN: "ekman", SENTIMENT: "sentiment"}[level]
    found = as_json("evaluate", with_policies, "--level", name)
    assert [label["label"] for label in found["labels"]] == list(level.names)
    assert all(isinstance(value, float) for value in found["metrics"].values())
    assert found["level"] == name
    assert found["folder"] == str(with_policies / "eval" / f"test-{name}")
    assert (
        f" on test at the level {name}\n" in Path(found["folder"], "report.md").read_text().splitlines(keepends=True)[0]
    )
    page = Path(found["folder"], "report.html").read_text()
    assert f"Evaluation of {with_policies.name} on test at the level {name}" in page
    assert ("Labels at the level Sentiment" in page) is (level is EKMAN)

    # data that speaks only the coarser labels
    rows = predictions(with_policies / "eval" / f"test-{name}")
    coarse = [[int(label in row["labels"].split("|")) for label in level.names] for row in rows]
    lines = [",".join(map(str, [row["text"], *flags])) for row, flags in zip(rows, coarse, strict=True)]
    Path("coarse.csv").write_text("\n".join([",".join(["text", *level.names]), *lines]) + "\n")
    again = as_json("evaluate", with_policies, "--level", name, "--data", "coarse.csv")
    assert again["metrics"] == found["metrics"]


def test_other_data_never_replaces_the_scores_of_the_runs_own(copied: Path, base: Path, no_pictures: None) -> None:
    call("evaluate", copied)
    own = tiny.contents(copied / "eval")
    other = tiny.copy(tiny.multi_label(base), Path("other"))
    (other / "test.csv").write_text(tiny.MULTI_LABEL_HEADER + "the cat sat happy,0,0,1\n")
    assert as_json("evaluate", copied, "--data", other)["folder"] == str(copied / "eval" / "other-test")
    assert as_json("evaluate", copied, "--data", other / "test.csv")["rows"] == 1
    assert {name: tiny.contents(copied / "eval")[name] for name in own} == own


def test_other_data_may_be_laid_out_like_the_runs_own_or_not(base: Path, no_pictures: None) -> None:
    data = Path("renamed")
    tiny.copy(tiny.multi_label(base), data)
    for file in data.iterdir():
        file.write_text(file.read_text().replace("text,", "what they wrote,", 1))
    setting = ["--set", "data.text_column=what they wrote"]
    call("train", "starter", *tiny.options(base, data, epochs=1), *setting, "--out", "run")
    alike = as_json("evaluate", "run", "--data", data / "test.csv")
    usual = as_json("evaluate", "run", "--data", tiny.multi_label(base) / "test.csv")
    assert alike["metrics"] == usual["metrics"]


def test_a_model_that_stands_alone_writes_only_where_it_is_told(
    run: Path, base: Path, tmp_path: Path, no_pictures: None
) -> None:
    alone = tiny.copy(run / "model", tmp_path / "alone")
    data = tiny.multi_label(base)
    assert "--data PATH" in call("evaluate", alone, code=66).stderr
    before = tiny.contents(tmp_path)
    result = call("evaluate", alone, "--data", data)
    assert "macro-F1" in result.stdout
    assert "--out DIR" in result.stderr
    assert tiny.contents(tmp_path) == before
    assert as_json("evaluate", alone, "--data", data, "--out", "reports")["folder"] == "reports"
    assert {path.name for path in Path("reports").iterdir()} == TEXT_REPORTS
    verify(alone)
