"""`emotune tune`: objectives, calibration, and with `--out` emotune models made from others."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.special import logit
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
from typer.testing import CliRunner, Result

import tiny
from emotune.artifact import manifest
from emotune.artifact.manifest import DECISION, MANIFEST, verify
from emotune.artifact.opening import open_model
from emotune.cli.app import app
from emotune.decision import probabilities
from emotune.inference.classifier import load
from emotune.labels import Task

NAMES = ("anger", "fear", "joy", "sadness")
TEXTS = ["my brother was happy today", "furious and scared", "the letter", "tears and grief"]


def call(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def tuned(*args: object) -> dict[str, Any]:
    """The JSON of `emotune tune … --json`."""
    (line,) = call("tune", *args, "--json").stdout.splitlines()
    return dict(json.loads(line, parse_constant=pytest.fail))


def foreign_copy(model: Path, target: Path, **changes: Any) -> Path:
    """The files of a model as plain transformers would write them, with other keys in config.json."""
    shutil.copytree(model, target, ignore=shutil.ignore_patterns(MANIFEST, DECISION, "README.md"))
    config = json.loads((target / "config.json").read_text()) | changes
    (target / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return target


@pytest.fixture
def run(multi_label_run: Path, tmp_path: Path) -> Path:
    """A multi-label run that a test may change."""
    return tiny.copy(multi_label_run, tmp_path / "run")


@pytest.fixture
def foreign(multi_label_run: Path, tmp_path: Path) -> Path:
    """A multi-label classifier as transformers writes it."""
    return foreign_copy(multi_label_run / "model", tmp_path / "foreign")


@pytest.fixture
def foreign_classes(multi_class_run: Path, tmp_path: Path) -> Path:
    """A multi-class classifier as transformers writes it."""
    return foreign_copy(multi_class_run / "model", tmp_path / "classes")


# Objectives


def test_an_f_beta_is_named_with_its_beta(run: Path) -> None:
    said = tuned(run, "--objective", "f_beta", "--beta", 0.25, "--method", "auto")
    assert said["objective"] == "f_beta"
    assert {"f_beta", "micro_f_beta", "macro_f1", "micro_f1"} <= said["out_of_fold"].keys()
    assert said["optimism"].keys() == said["out_of_fold"].keys()
    record = json.loads((run / "model" / DECISION).read_text())["tuning"]
    assert (record["objective"], record["beta"]) == ("f_beta", 0.25)
    assert "for f_beta (beta 0.25)" in (run / "model" / "README.md").read_text()
    shown = call("tune", run, "--objective", "micro_f_beta", "--method", "auto").stdout.splitlines()
    assert [name.strip() for name in shown[1].split("  ")][1:] == [
        "macro-F1",
        "micro-F1",
        "macro F-beta",
        "micro F-beta",
    ]
    assert "in-sample micro F-beta" in shown[-1]
    verify(run / "model")


def test_a_precision_is_reached_or_said_not_to_be(run: Path) -> None:
    data = run.parent / "noise.csv"
    texts = tiny.texts(120, lambda i: (["happy"], ["furious"], [])[i % 3])
    rows = [f"{text},{int(i % 3 == 1)},{i % 7 // 6},{int(i % 3 == 0)},0" for i, text in enumerate(texts)]
    data.write_text("\n".join([",".join(["text", *NAMES]), *rows]) + "\n")
    result = call("tune", run, "--data", data, "--objective", "precision", "--at-least", "0.9")
    assert "2 labels (fear, sadness) cannot reach a precision of 0.9 out of fold" in result.stderr
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert "1 (never predicted)" in lines["fear"]
    assert float(lines["anger"].split()[3]) >= 0.9
    assert "per label, precision ≥ 0.9; out of fold" in result.stdout
    decision = json.loads((run / "model" / DECISION).read_text())
    assert decision["thresholds"]["fear"] == 1.0
    assert decision["tuning"]["unreached"] == ["fear", "sadness"]
    assert decision["tuning"]["at_least"] == 0.9
    assert "Never predicted, as they do not reach the precision: fear, sadness." in (
        (run / "model" / "README.md").read_text()
    )
    said = tuned(run, "--data", data, "--objective", "precision", "--at-least", "0.9")
    assert said["unreached"] == ["fear", "sadness"]
    assert said["label_precision"]["anger"] >= 0.9
    assert said["label_recall"]["sadness"] is None
    assert {label for text in TEXTS for label in load(run, device="cpu")(text)[0].labels} <= {"anger", "joy"}


def test_objectives_of_a_recipe_are_those_of_training_and_of_tune(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["tuning"] |= {"objective": "precision", "at_least": 0.7}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert tuned(run)["method"] == "per label, precision ≥ 0.7"


@pytest.mark.parametrize("objective", ["precision", "micro_f_beta"])
def test_training_tunes_for_the_objective(objective: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.getbasetemp()
    options = tiny.options(base, tiny.multi_label(base), epochs=2)
    out = tmp_path_factory.mktemp("objective") / "run"
    call("train", "starter", *options, "--set", f"tuning.objective={objective}", "--out", out)
    record = json.loads((out / "model" / DECISION).read_text())["tuning"]
    assert record["objective"] == objective
    verify(out / "model")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--beta", 2], "--beta belongs to an F-beta"),
        (["--objective", "f_beta", "--beta", 0], "--beta is a finite number above 0"),
        (["--at-least", 0.9], "--at-least belongs to a precision"),
        (["--objective", "precision", "--method", "global"], "each label's own threshold"),
        (["--objective", "precision", "--shrinkage", 3], "each label's own threshold"),
        (["--shrinkage", 3, "--method", "global"], "--shrinkage belongs to the method shrunk"),
        (["--shrinkage", 3, "--method", "per_label"], "--shrinkage belongs to the method shrunk"),
        (["--shrinkage", 3, "--method", "auto"], "--shrinkage belongs to the method shrunk"),
        (["--method", "none"], "leaves the thresholds as they are"),
        (["--calibrate"], "--out DIR"),
        (["--temperatures", "per_label"], "--temperatures requires --calibrate"),
        (["--task", "multi_class"], "has its own labels and task"),
    ],
)
def test_what_has_no_use_is_refused(args: list[object], message: str, multi_label_run: Path) -> None:
    before = tiny.contents(multi_label_run)
    assert message in call("tune", multi_label_run, *args, code=2).stderr
    assert tiny.contents(multi_label_run) == before


IDLE = [
    (["--objective", "micro_f1"], "--objective"),
    (["--objective", "precision", "--at-least", 0.9], "--objective and --at-least"),
    (["--folds", 3], "--folds"),
]


@pytest.mark.parametrize(("args", "named"), IDLE)
def test_without_thresholds_to_choose_their_options_are_refused(
    args: list[object], named: str, run: Path, multi_class_run: Path, tmp_path: Path
) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["tuning"]["method"] = "none"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    out = tmp_path / "new"
    for model in (run, multi_class_run):
        assert f"{named} would change nothing" in call("tune", model, *args, "--out", out, code=2).stderr
    refused = call("tune", multi_class_run, "--method", "shrunk", "--calibrate", "--out", out, code=2).stderr
    assert "no thresholds to tune, and --method would change nothing" in refused
    assert not out.exists()
    call("tune", run, "--calibrate", "--folds", 3, "--out", out)  # which says how to judge the temperature


# A copy of our own, and calibration


def test_a_copy_is_tuned_and_the_source_left_as_it_is(multi_label_run: Path, tmp_path: Path) -> None:
    before = tiny.contents(multi_label_run)
    said = tuned(multi_label_run, "--method", "global", "--out", tmp_path / "new")
    assert tiny.contents(multi_label_run) == before
    assert said["model"] == str(tmp_path / "new")
    manifest, former = (verify(d) for d in (tmp_path / "new", multi_label_run / "model"))
    assert len(set(said["thresholds"].values())) == 1
    changed = {name for name, entry in manifest.files.items() if entry != former.files[name]}
    assert changed == {DECISION, "README.md"}
    assert manifest.data == former.data
    assert load(tmp_path / "new", device="cpu").decision.tuning["method"] == "global"


@pytest.mark.parametrize("temperatures", ["one", "per_label"])
def test_a_temperature_is_folded_into_the_last_layer(temperatures: str, multi_label_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    said = tuned(multi_label_run, "--calibrate", "--temperatures", temperatures, "--out", out)
    found = said["calibration"]
    each = np.array([found["temperatures"][name] for name in NAMES])
    assert (len(set(each)) == 1) == (temperatures == "one")
    assert (
        {"nll", "ece", "brier", "top_label_ece", "positive_region_ece"}
        == found["before"].keys()
        == found["after"].keys()
    )
    before, after = (load(d, device="cpu").logits(TEXTS) for d in (multi_label_run, out))
    np.testing.assert_allclose(after, before / each, rtol=1e-4, atol=1e-5)
    plain = AutoModelForSequenceClassification.from_pretrained(out)
    tokens = AutoTokenizer.from_pretrained(out)(TEXTS, padding=True, return_tensors="pt")
    np.testing.assert_allclose(plain(**tokens).logits.detach(), after, rtol=1e-4, atol=1e-5)
    card = (out / "README.md").read_text()
    assert card.count("## Calibration") == 1
    verify(out)


def test_calibrating_without_tuning_decides_as_before(multi_label_run: Path, tmp_path: Path) -> None:
    result = call("tune", multi_label_run, "--calibrate", "--method", "none", "--out", tmp_path / "new")
    assert result.stdout.splitlines()[1].split() == ["metric", "before", "after"]
    assert result.stdout.splitlines()[-1].startswith("temperature ")
    old, new = (load(d, device="cpu") for d in (multi_label_run, tmp_path / "new"))
    assert old.decision.thresholds != new.decision.thresholds
    assert [p.labels for p in old(TEXTS)] == [p.labels for p in new(TEXTS)]
    kept, carried_over = (dict(c.decision.tuning) for c in (old, new))
    folds, carried_folds = (np.array(list(t.pop("fold_thresholds").values())) for t in (kept, carried_over))
    assert carried_over == kept
    scale = logit(new.decision.thresholds) / logit(old.decision.thresholds)
    np.testing.assert_allclose(logit(carried_folds), logit(folds) * scale[:, None], rtol=1e-3, atol=1e-3)


def test_classes_are_calibrated_and_not_tuned(multi_class_run: Path, tmp_path: Path) -> None:
    assert "no thresholds to tune" in call("tune", multi_class_run, code=2).stderr
    refused = call(
        *("tune", multi_class_run, "--calibrate", "--temperatures", "per_label", "--out", tmp_path / "n"), code=2
    )
    assert "share one temperature" in refused.stderr
    said = tuned(multi_class_run, "--calibrate", "--out", tmp_path / "new")
    assert (said["method"], said["objective"]) == ("none", None)
    old, new = (load(d, device="cpu") for d in (multi_class_run, tmp_path / "new"))
    scaled = old.logits(TEXTS) / said["calibration"]["temperatures"]["joy"]
    np.testing.assert_allclose(new.predict_proba(TEXTS), probabilities(scaled, Task.MULTI_CLASS), atol=1e-5)


def test_the_model_of_the_package_is_changed_in_a_copy_alone(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "_BUNDLED", run / "model")
    before = (run / "model" / DECISION).read_bytes()
    for named in ("default", run):
        result = call("tune", named, "--data", "emotune:starter", code=73)
        assert "part of it" in result.stderr
        assert "--out DIR" in result.stderr
    assert (run / "model" / DECISION).read_bytes() == before


def test_a_place_that_is_taken_is_refused(multi_label_run: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    for out in (tmp_path / "taken", tmp_path / "taken" / "file", multi_label_run, multi_label_run / "model" / "new"):
        refused = call("tune", multi_label_run, "--method", "global", "--out", out, code=73)
        assert "--out DIR" in refused.stderr
    assert tiny.contents(tmp_path / "taken") == {"file": b"mine"}


# Models of others


def test_a_model_of_somebody_else_becomes_one_of_ours(foreign: Path, multi_label_corpus: Path, tmp_path: Path) -> None:
    (foreign / "README.md").write_text("---\nlicense: mit\ntags: [x]\n---\n# theirs\n")
    before, out = tiny.contents(foreign), tmp_path / "ours"
    assert "--out DIR" in call("tune", foreign, "--data", multi_label_corpus, code=2).stderr
    assert "--data PATH" in call("tune", foreign, "--out", out, code=66).stderr
    said = tuned(foreign, "--data", multi_label_corpus, "--out", out)
    assert tiny.contents(foreign) == before
    assert said["rows"] == 40

    manifest = verify(out)
    assert (manifest.kind, manifest.portability, manifest.encoder) == ("encoder", "transformers", str(foreign))
    found = open_model(str(out))
    assert found.notes == ()
    assert found.decision.tuning["split"] == "valid"
    card = (out / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["license"] == "mit"
    assert "base_model" not in yaml.safe_load(card.split("---")[1])
    with pytest.warns(UserWarning, match="untuned"):
        theirs = load(foreign, device="cpu")
    np.testing.assert_allclose(load(out, device="cpu").logits(TEXTS), theirs.logits(TEXTS), atol=1e-6)
    assert "warning: the thresholds were tuned on these rows" in (
        call("evaluate", out, "--data", multi_label_corpus, "--split", "valid", "--json").stderr
    )
    tuned(out, "--data", multi_label_corpus, "--method", "global")
    verify(out)


def test_labels_get_their_names_from_a_file(multi_label_run: Path, multi_label_corpus: Path, tmp_path: Path) -> None:
    numbers = {str(i): f"LABEL_{i}" for i in range(4)}
    nameless = foreign_copy(
        multi_label_run / "model", tmp_path / "foreign", id2label=numbers, label2id=None, problem_type=None
    )
    names, out = tmp_path / "names.txt", tmp_path / "ours"
    common = ["tune", nameless, "--data", multi_label_corpus, "--out", out]
    refused = call(*common, "--task", "multi_label", code=2).stderr
    assert "numbers and no names: LABEL_0, LABEL_1" in refused
    assert "Give the 4 names, one a line in the order of the numbers: --labels FILE" in refused
    names.write_text("\n".join(NAMES[:3]) + "\n")
    assert "3 label names for a model of 4 labels" in call(*common, "--labels", names, code=2).stderr
    names.write_text("anger\nfear\nfear\nsadness\n")
    assert f"{names}:3: the label 'fear' occurs twice" in call(*common, "--labels", names, code=65).stderr
    names.write_text("anger\n\nfear\n")
    assert f"{names}:2: an empty line" in call(*common, "--labels", names, code=65).stderr
    assert "cannot read the label names" in call(*common, "--labels", tmp_path / "none.txt", code=66).stderr

    names.write_text("\ufeff" + "\r\n".join(NAMES) + "\r\n\r\n", encoding="utf-8")
    call(*common, "--labels", names, "--task", "multi_label")
    ours = load(out, device="cpu")
    assert (ours.labels.names, ours.labels.task) == (NAMES, Task.MULTI_LABEL)
    assert json.loads((out / "config.json").read_text())["id2label"]["2"] == "joy"
    answers = pipeline("text-classification", model=str(out), device="cpu", top_k=None)(TEXTS)
    plain = [[{a["label"]: a["score"] for a in answer}[name] for name in NAMES] for answer in answers]
    np.testing.assert_allclose(ours.predict_proba(TEXTS), plain, atol=1e-5)  # the task too is known to transformers


def test_a_model_is_taken_over_without_any_data(foreign_classes: Path, foreign: Path, tmp_path: Path) -> None:
    said = tuned(foreign, "--method", "none", "--out", tmp_path / "ours")
    assert (said["rows"], said["method"]) == (0, "none")
    assert set(said["thresholds"].values()) == {0.5}
    assert "Thresholds: not tuned." in (tmp_path / "ours" / "README.md").read_text()
    load(tmp_path / "ours", device="cpu")


def test_classes_of_somebody_else_become_ours(foreign_classes: Path, multi_class_corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "ours"
    result = call("tune", foreign_classes, "--out", out, "--data", multi_class_corpus)
    assert "warning: --data is ignored" in result.stderr
    assert load(out, device="cpu").labels.task is Task.MULTI_CLASS
    said = tuned(foreign_classes, "--calibrate", "--out", tmp_path / "calibrated", "--data", multi_class_corpus)
    assert said["calibration"]["after"]["nll"] < said["calibration"]["before"]["nll"]
    verify(tmp_path / "calibrated")
