"""`emotune compare` from end to end: its figures, and the comparisons that it refuses."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner, Result

import tiny
from emotune import reports
from emotune.artifact.manifest import DECISION, read_decision, reseal, seal, verify
from emotune.artifact.opening import FoundModel
from emotune.atomic import json_text
from emotune.cli.app import app
from emotune.errors import EmotuneError
from emotune.inference import classifier
from emotune.inference.classifier import EmotionClassifier, run_model
from emotune.labels import EKMAN, GOEMOTIONS, mapping_to, positives
from emotune.runs import layout
from emotune.runs.layout import read_valid
from emotune.runs.lock import locked
from emotune.scoring.metrics import counting_metrics
from emotune.scoring.tuning import decide_out_of_fold
from emotune.workflows import compare


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(classifier, "AT_LEAST", 0.0)  # a glance is enough here


@pytest.fixture
def runs(run: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A run, and a worse one: in a third of the rows, its cached logits are those of the next label."""
    good, bad = tiny.copy(run, tmp_path / "good"), tiny.copy(run, tmp_path / "bad")
    arrays = load_file(bad / "valid.safetensors")
    logits = arrays["logits"] + np.random.default_rng(0).normal(0, 3, arrays["logits"].shape).astype(np.float32)
    logits[::3] = np.roll(logits[::3], 1, axis=1)
    save_file({**arrays, "logits": logits}, bad / "valid.safetensors")
    return good, bad


def call(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["compare", *map(str, args)])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def as_json(*args: object) -> dict:
    (line,) = call(*args, "--json").stdout.splitlines()
    return dict(json.loads(line, parse_constant=pytest.fail))


def resealed(run: Path, change: Callable[[dict], object]) -> None:
    """Change the record of the data in the manifest of the run's model."""
    model = run / "model"
    fields = {k: v for k, v in asdict(verify(model)).items() if k not in ("files", "digest", "format_version")}
    change(fields["data"])
    seal(model, **fields)


# --- what it says ----------------------------------------------------------------------------------------------


def test_runs_on_their_kept_rows(runs: tuple[Path, Path]) -> None:
    good, bad = runs
    said = as_json(bad, good)
    assert (said["rows"], said["task"], said["metric"], said["reference"]) == (40, "multi_label", "macro_f1", "good")
    best, worst = said["runs"]
    assert (best["name"], worst["name"]) == ("good", "bad")
    for name in ("macro_f1", "micro_f1", "macro_precision", "macro_recall", "hamming_loss"):
        low, high = best["intervals"][name]
        assert low <= best["metrics"][name] <= high
    (d,) = said["differences"]
    assert d["difference"] == pytest.approx(worst["metrics"]["macro_f1"] - best["metrics"]["macro_f1"])
    assert d["interval"][0] < d["difference"] < d["interval"][1]
    assert (d["clear"], d["p_holm"] < 0.05) == (True, True)
    assert sum(worst["label_f1"].values()) / 3 == pytest.approx(worst["metrics"]["macro_f1"])
    assert best["training_seconds"] > 0
    assert best["bytes"] == sum(path.stat().st_size for path in (good / "model").rglob("*"))
    assert best["texts_per_second"] > 0
    assert best["front"][:2] == ["time", "size"]
    assert any("on the first 40 of these texts" in note for note in said["notes"])
    assert {"missed", "said", "texts", "share"} == set(worst["most_confused"][0])


def test_thresholds_tuned_on_the_rows_are_chosen_out_of_fold(runs: tuple[Path, Path]) -> None:
    _, bad = runs
    found = read_decision(bad / "model")
    logits, targets = read_valid(bad, found.labels)
    tuning = layout.read_config(bad).tuning
    honest = counting_metrics(positives(targets), decide_out_of_fold(logits, targets, found, tuning))
    own = counting_metrics(positives(targets), found.decide(found.probabilities(logits)))
    (said,) = (run for run in as_json(*runs)["runs"] if run["name"] == "bad")
    assert said["metrics"] == pytest.approx(honest)
    assert honest["macro_f1"] != own["macro_f1"]


def test_a_copy_differs_in_nothing(runs: tuple[Path, Path], run: Path) -> None:
    same = tiny.copy(run, Path("same"))
    said = as_json(runs[0], same, "--baseline", "same")
    (d,) = said["differences"]
    assert (d["difference"], d["interval"], d["p"], d["p_holm"], d["clear"]) == (0, [0, 0], 1, 1, False)
    assert (said["by_label"][0]["won"], said["by_label"][0]["lost"], said["disagreements"]) == ([], [], [])


def test_three_runs_are_corrected_for_all_pairs_or_for_those_with_the_baseline(
    runs: tuple[Path, Path], run: Path
) -> None:
    third = tiny.copy(run, Path("third"))
    best = as_json(*runs, third)
    assert (best["reference_is"], best["correction"]["comparisons"]) == ("the best of these rows", 3)
    named = as_json(*runs, third, "--baseline", runs[1])
    assert (named["reference"], named["correction"]["comparisons"]) == ("bad", 2)
    assert {d["other"] for d in named["differences"]} == {"bad"}


def test_the_terminal_shows_all_parts(runs: tuple[Path, Path]) -> None:
    shown = call(*runs, "--resamples", 100).stdout
    parts = ("macro-F1", "Hamming loss", "training", "Pareto", "Differences", "p (Holm)", "higher F1", "▼", "good ")
    for part in (
        *parts,
        "Most confused: missed → predicted instead",
        "both directions together",
        "They disagree most on",
        "valid.csv:",
        "Best: good",
    ):
        assert part in shown


def test_one_class_a_text_is_ranked_by_accuracy(base: Path) -> None:
    run = tiny.trained(base, tiny.multi_class(base))
    one, other = tiny.copy(run, Path("one")), tiny.copy(run, Path("other"))
    arrays = load_file(other / "valid.safetensors")
    save_file({**arrays, "logits": -arrays["logits"]}, other / "valid.safetensors")
    said = as_json(one, other)
    assert (said["task"], said["metric"], said["reference"]) == ("multi_class", "accuracy", "one")
    assert "weighted F1" in call(one, other).stdout
    assert "is the accuracy" in call(one, other, "--metric", "micro_f1", code=2).stderr


def test_labels_without_positives_are_said(runs: tuple[Path, Path]) -> None:
    Path("joys.csv").write_text("text,anger,fear,joy\nI am glad,0,0,1\nhappy cat,0,0,1\nrain,0,0,0\n")
    result = call(*runs, "--data", "joys.csv")
    assert "2 labels without a positive example leave the macro averages: anger, fear" in result.stderr
    assert "undefined" in result.stdout


def test_other_data_is_run_with_the_models_own_thresholds(runs: tuple[Path, Path], base: Path) -> None:
    good, bad = runs
    data = tiny.multi_label(base)
    alone = shutil.copytree(good / "model", Path("alone"))
    said = as_json(alone, bad, "--data", data, "--split", "test")
    scored = CliRunner().invoke(app, ["evaluate", str(good), "--split", "test", "--json"])
    expected = json.loads(scored.stdout)
    for each in said["runs"]:
        assert each["metrics"]["macro_f1"] == expected["metrics"]["macro_f1"]
        assert each["texts_per_second"] > 0
    assert {run["name"]: run["training_seconds"] is None for run in said["runs"]} == {"alone": True, "bad": False}
    own = as_json(*runs, "--split", "test")
    assert own["runs"][0]["metrics"] == said["runs"][0]["metrics"]
    assert "was trained on" in call(*runs, "--split", "train").stderr


def test_the_rows_that_thresholds_were_tuned_on_are_judged_out_of_fold_wherever_they_lie(
    runs: tuple[Path, Path], base: Path
) -> None:
    kept = as_json(runs[0], runs[1])["runs"][0]["metrics"]
    run = as_json(*runs, "--data", tiny.multi_label(base), "--split", "valid")["runs"][0]["metrics"]
    assert run == pytest.approx(kept)


def test_reports_are_written(runs: tuple[Path, Path]) -> None:
    said = as_json(*runs, "--out", "report")
    names = {path.name for path in Path("report").iterdir()}
    pictures = {f"{stem}.{kind}" for stem in ("quality_cost", "label_comparison") for kind in ("png", "svg")}
    assert names == {"comparison.json", "report.md", "report.html"} | pictures
    assert said["report"] == "report/report.html"
    kept = json.loads(Path("report/comparison.json").read_text())
    assert kept == {key: value for key, value in said.items() if key != "report"}
    page, text = Path("report/report.html").read_text(), Path("report/report.md").read_text()
    assert page.count("<svg") == 2
    for part in ("good", "bad", "Holm", "Most confused"):
        assert part in page
        assert part in text
    assert "](quality_cost.png)" in text


# --- coarser levels --------------------------------------------------------------------------------------------


@pytest.fixture
def coarse(base: Path) -> Path:
    """A run on the texts of the tiny GoEmotions, labelled with Ekman's emotions."""

    def build(folder: Path) -> None:
        folder.mkdir()
        members = mapping_to("ekman", GOEMOTIONS).members
        of = {fine: name for name, fines in members.items() for fine in fines}
        (folder / "labels.txt").write_text("\n".join(EKMAN.names) + "\n")
        for path in tiny.goemotions(base).glob("*.tsv"):
            rows = [line.split("\t") for line in path.read_text().splitlines()]
            given = [sorted({EKMAN.index(of[GOEMOTIONS.names[int(i)]]) for i in row[1].split(",")}) for row in rows]
            lines = (f"{row[0]}\t{','.join(map(str, ids))}\t{row[2]}\n" for row, ids in zip(rows, given, strict=True))
            (folder / path.name).write_text("".join(lines))

    return tiny.trained(base, tiny.once(base, "ekman", build))


def test_runs_of_other_label_sets_are_compared_at_a_level(base: Path, coarse: Path) -> None:
    fine = tiny.trained(base, tiny.goemotions(base))
    refused = call(fine, coarse, code=2).stderr
    assert "run-ekman has other labels than run-goemotions: " in refused
    assert "admiration, amusement, annoyance" in refused
    assert "--level ekman" in refused
    said = as_json(fine, coarse, "--level", "ekman")
    assert (said["labels"], said["rows"], len(said["runs"])) == (list(EKMAN.names), 40, 2)
    at_data = as_json(fine, coarse, "--level", "ekman", "--data", tiny.goemotions(base), "--split", "valid")
    assert at_data["support"] == said["support"]
    assert as_json(fine, coarse, "--level", "sentiment")["labels"] == ["positive", "negative", "ambiguous", "neutral"]
    assert "no level 'ekmann'" in call(fine, coarse, "--level", "ekmann", code=2).stderr


# --- labels in another order -----------------------------------------------------------------------------------


def unwilling(run: Path, name: str) -> Path:
    """A copy of the run whose own thresholds nothing reaches: only out of fold it predicts labels."""
    copied = tiny.copy(run, Path(name))
    model, decision = copied / "model", read_decision(copied / "model")
    changed = replace(decision, thresholds=(0.999999,) * len(decision.labels))
    reseal(model, verify(model), {DECISION: json_text(changed.to_json())})
    return copied


def scores_of(said: dict, name: str) -> dict:
    (found,) = (run["metrics"] for run in said["runs"] if run["name"] == name)
    return dict(found)


def test_rows_are_known_again_where_labels_stand_in_another_order(base: Path, run: Path) -> None:
    turned = unwilling(tiny.trained(base, tiny.turned(base)), "turned")
    kept = as_json(run, turned)
    assert scores_of(kept, "turned")["macro_f1"] > 0.5
    for data in (tiny.multi_label(base), tiny.turned(base)):
        said = as_json(unwilling(run, f"on-{data.name}"), turned, "--data", data, "--split", "valid")
        assert scores_of(said, "turned") == pytest.approx(scores_of(kept, "turned"))
        assert scores_of(said, f"on-{data.name}") == pytest.approx(scores_of(kept, run.name))
    config = turned / "config.yaml"
    config.write_text(config.read_text().replace(str(tiny.turned(base)), "/nowhere"))
    assert scores_of(as_json(run, turned), "turned") == scores_of(kept, "turned")


def test_rows_are_known_again_where_the_data_speaks_finer_labels(base: Path, coarse: Path) -> None:
    fine, copied = tiny.trained(base, tiny.goemotions(base)), unwilling(coarse, "coarse")
    kept = as_json(fine, copied, "--level", "ekman")
    said = as_json(fine, copied, "--level", "ekman", "--data", tiny.goemotions(base), "--split", "valid")
    assert scores_of(said, "coarse") == pytest.approx(scores_of(kept, "coarse"))


# --- what it refuses -------------------------------------------------------------------------------------------


def test_what_is_not_a_comparison(runs: tuple[Path, Path]) -> None:
    good, bad = runs
    assert "at least two models" in call(good, code=2).stderr
    twice = call("default", "default", code=2).stderr
    assert "named twice" in twice
    assert "run" not in twice
    assert "named twice" in call(good, f"{good}/model", code=2).stderr
    assert "Did you mean 'good'?" in call(good, bad, "--baseline", "god", code=2).stderr
    assert "Did you mean 'macro_f1'?" in call(good, bad, "--metric", "macrof1", code=2).stderr
    assert "no split 'tset'" in call(good, bad, "--split", "tset", code=66).stderr
    assert "no model 'nowhere'" in call(good, "nowhere", code=66).stderr


def test_multi_class_with_multi_label(run: Path, base: Path) -> None:
    refused = call(run, tiny.trained(base, tiny.multi_class(base)), code=2).stderr
    assert "run-multi_class is multi-class (exactly one label a text), run-multi_label is multi-label" in refused
    assert "data.task=multi_label" in refused


def test_other_labels(run: Path, base: Path) -> None:
    refused = call(run, tiny.trained(base, tiny.goemotions(base)), code=2).stderr
    assert "run-goemotions has other labels than run-multi_label: admiration, amusement, annoyance" in refused
    assert "… (25) in addition" in refused
    assert "missing" not in refused


def test_other_rows_are_named(runs: tuple[Path, Path], base: Path, tmp_path: Path) -> None:
    good, bad = runs
    data = tiny.copy(tiny.multi_label(base), tmp_path / "data")
    lines = (data / "valid.csv").read_text().splitlines()
    lines[3] = f"another text altogether,{lines[3].partition(',')[2]}"
    (data / "valid.csv").write_text("\n".join(lines) + "\n")
    config = (bad / "config.yaml").read_text().replace(str(tiny.multi_label(base)), str(data))
    (bad / "config.yaml").write_text(config)
    resealed(bad, lambda record: record["valid"].update(sha256="0" * 64))
    gone = call(good, bad, code=65).stderr
    assert "fingerprints differ" in gone
    assert "the data of bad is gone or changed" in gone

    from emotune.data.records import fingerprint
    from label_files import load_corpus

    corpus = load_corpus(layout.read_config(bad).data)
    digest = fingerprint(corpus.splits["valid"], corpus.labels)
    resealed(bad, lambda record: record["valid"].update(sha256=digest))
    named = call(good, bad, code=65).stderr
    assert "good and bad are of different rows" in named
    assert "row 3: good has “" in named
    assert "bad has “another text altogether” (" in named
    assert "row 4" not in named


def test_a_half_written_run(runs: tuple[Path, Path]) -> None:
    good, bad = runs
    shutil.rmtree(bad / "model")
    refused = call(good, bad, code=65).stderr
    assert f"run {bad} is unfinished" in refused
    assert f"emotune train --resume {bad}" in refused
    with locked(bad):
        assert "has no model yet: process" in call(good, bad, code=65).stderr


def test_runs_without_what_is_compared(runs: tuple[Path, Path]) -> None:
    good, bad = runs
    alone = shutil.copytree(good / "model", Path("alone"))
    assert "--data PATH" in call(alone, bad, code=66).stderr
    (bad / "valid.safetensors").unlink()
    refused = call(good, bad, code=66).stderr
    assert "valid.safetensors" in refused
    assert "--data PATH" in refused


def test_an_interrupted_run_is_compared_and_said_to_be_one(runs: tuple[Path, Path]) -> None:
    good, bad = runs
    with (bad / "log.jsonl").open("a") as log:
        log.write('{"event": "end", "interrupted": true}\n')
    assert "bad was interrupted" in call(good, bad).stderr


def test_without_its_data_texts_are_told_by_their_rows(runs: tuple[Path, Path], base: Path) -> None:
    for run in runs:
        config = (run / "config.yaml").read_text().replace(str(tiny.multi_label(base)), "/nowhere")
        (run / "config.yaml").write_text(config)
    said = as_json(*runs)
    assert said["disagreements"][0]["text"] is None
    assert any("gone or changed" in note for note in said["notes"])
    assert [run["texts_per_second"] for run in said["runs"]] == [None, None]
    assert "row " in call(*runs).stdout
    assert "are ignored" not in call(*runs).stderr
    assert "--device and --batch-size are ignored" in call(*runs, "--device", "cpu").stderr
    assert "--device and --batch-size are ignored" in call(*runs, "--batch-size", 8).stderr


def test_a_model_that_cannot_be_run_is_compared_without_a_speed(
    runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(found: FoundModel, **options: Any) -> EmotionClassifier:
        if "bad" in str(found.directory):
            raise EmotuneError("nothing to run it with")
        return run_model(found, **options)

    monkeypatch.setattr(compare, "run_model", refuse)
    said = as_json(*runs)
    assert {run["name"]: run["texts_per_second"] is None for run in said["runs"]} == {"good": False, "bad": True}
    assert "the speed of bad is not known: nothing to run it with" in said["notes"]
    assert said["reference"] == "good"


def test_evaluate_lists_the_pairs_most_confused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "emotune.reports.figures", None)  # pictures take longer than all the rest
    monkeypatch.delattr(reports, "figures", raising=False)
    run = tiny.trained(base, tiny.goemotions(base))
    outcome = CliRunner().invoke(app, ["evaluate", str(run), "--out", "eval", "--json"])
    said = json.loads(outcome.stdout)
    pair = said["most_confused"][0]
    i, j = (GOEMOTIONS.index(pair[key]) for key in ("missed", "said"))
    assert pair["texts"] == said["confusion"][i][j] == max(map(max, said["confusion"]))
    assert pair["share"] == pytest.approx(pair["texts"] / said["labels"][i]["support"])
    both = said["confused_pairs"][0]
    i, j = (GOEMOTIONS.index(both[key]) for key in ("first", "second"))
    assert (both["first_for_second"], both["second_for_first"]) == (said["confusion"][i][j], said["confusion"][j][i])
    assert both["texts"] == said["confusion"][i][j] + said["confusion"][j][i] >= pair["texts"]
    assert said["two_label_errors"][0].keys() == {"missed", "said", "texts"}
    kept = json.loads(Path("eval/metrics.json").read_text())
    assert all(kept[key] == said[key] for key in ("most_confused", "confused_pairs", "two_label_errors"))
    shown = CliRunner().invoke(app, ["evaluate", str(run), "--out", "eval"]).stdout
    for text in (shown, *((Path("eval") / name).read_text() for name in ("report.md", "report.html"))):
        assert "of its support" in text
        assert "Most confused: missed → predicted instead, in the same text" in text
        assert "Label pairs confused with each other, both directions together" in text
        assert "Texts with two labels: one found, the other confused" in text
