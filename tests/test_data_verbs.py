"""The verbs on data of other formats: soft targets trained on, and `--set data.…` where data is only scored."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

import tiny
from emotune.cli.app import app
from emotune.config.loading import load_config
from emotune.config.schema import LossConfig
from emotune.labels import Task
from emotune.models.losses import bce, cross_entropy, focal, make_loss
from emotune.runs import layout
from emotune.runs.layout import kept_ids
from local_hub import COMMIT, Hub
from test_hub import cache, hub  # noqa: F401 - fixtures


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == code, (result.output, result.exception)
    return result


# --- soft targets ------------------------------------------------------------------------------------------------


def raters_rows() -> str:
    """Three raters of each text; the third sees joy everywhere."""
    lines = ["text,id,rater_id,anger,fear,joy"]
    for i, row in enumerate(tiny.multi_label_rows(80)):
        text, *flags = row.split(",")
        lines += [f"{text},t{i},{rater},{','.join(flags[:2])},{1 if rater == 3 else flags[2]}" for rater in (1, 2, 3)]
    return "\n".join(lines)


def test_a_run_on_soft_targets_keeps_shares_and_scores_halves(base: Path) -> None:
    Path("raters.csv").write_text(raters_rows())
    options = tiny.options(base, Path("raters.csv"), epochs=1)
    said = call("train", "starter", "--out", "soft", *options, "--set", "data.raters=soft").stderr
    assert "240 rows of raters are 80 texts" in said
    assert "targets are the share of raters" in said
    targets = layout.load_arrays(Path("soft", "valid.safetensors"))["targets"]
    assert {round(float(t), 2) for t in np.unique(targets)} == {0.0, 0.33, 1.0}
    scored = json.loads(call("evaluate", "soft", "--json", "--split", "valid").stdout)
    support = {label["label"]: label["support"] for label in scored["labels"]}
    assert support["joy"] == int((targets[:, 2] >= 0.5).sum()) < len(targets)
    assert call("tune", "soft", "--method", "global", "--json").stdout
    assert call("tune", "soft", "--objective", "precision", "--at-least", 0.5).stdout
    tuned = json.loads(call("tune", "soft", "--calibrate", "--out", "calibrated", "--json").stdout)
    assert 0 <= tuned["calibration"]["after"]["brier"] <= 1


def test_losses_take_soft_targets_and_agree_with_hard_ones() -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    hard = torch.eye(4)[[0, 1, 2, 3, 0, 1]]
    weights = torch.tensor([0.5, 1.0, 2.0, 3.0])
    index = hard.argmax(dim=1)
    expected = torch.nn.functional.cross_entropy(logits, index, weight=weights, reduction="sum")
    assert cross_entropy(logits, hard, weights).item() == pytest.approx(expected.item(), rel=1e-6)
    nll = torch.nn.functional.cross_entropy(logits, index, reduction="none")
    focused = ((1 - (-nll).exp()) ** 2 * nll * weights[index]).sum()
    assert focal(logits, hard, weights, 2.0, Task.MULTI_CLASS).item() == pytest.approx(focused.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "task"),
    [("bce", "multi_label"), ("focal", "multi_label"), ("focal", "multi_class"), ("cross_entropy", "multi_class")],
)
def test_a_soft_target_is_the_mean_of_its_raters(name: str, task: str) -> None:
    """Loss on the shares = mean of the losses on each rater's own labels, for these losses are linear in them."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(5, 3, generator=generator).double()
    votes = torch.nn.functional.one_hot(torch.randint(3, (4, 5), generator=generator), 3).double()
    loss = make_loss(LossConfig(name=name), Task(task), votes[0].numpy().astype(np.float32), torch.device("cpu"))
    apart = torch.stack([loss(logits, vote) for vote in votes]).mean()
    assert loss(logits, votes.mean(dim=0)).item() == pytest.approx(apart.item(), rel=1e-9)
    assert bce(logits, votes.mean(dim=0)).item() > 0


# --- how data is read, for verbs that only score it ----------------------------------------------------------------


def write_other() -> None:
    Path("other.csv").write_text("satz,mood\nthe cat happy,joy\nwe hate tea,anger\nscared of rain,fear\n")


OTHER = ["--set", "data.text_column=satz", "--set", "data.label_column=mood", "--set", "data.format=table"]


def test_evaluate_reads_other_data_as_it_is_told(run: Path) -> None:
    write_other()
    refused = call("evaluate", run, "--data", "other.csv", code=65)
    assert re.search(r"other\.csv:1: the header has no column 'text'.*\n.*--set data\.text_column=NAME", refused.stderr)
    scored = json.loads(call("evaluate", run, "--data", "other.csv", *OTHER, "--json").stdout)
    assert scored["rows"] == 3


def test_tune_reads_other_data_as_it_is_told(run: Path) -> None:
    write_other()
    copied = tiny.copy(run, Path("copied"))
    tuned = call("tune", copied, "--data", "other.csv", *OTHER, "--folds", 2, "--method", "global", "--json")
    assert json.loads(tuned.stdout)["rows"] == 3
    assert "--data" in call("tune", copied, *OTHER, code=2).stderr


@pytest.mark.parametrize("verb", ["evaluate", "tune"])
def test_other_keys_than_those_of_data_are_refused(run: Path, verb: str) -> None:
    write_other()
    for wrong in ("training.epochs=3", "epochs", "path=x"):
        refused = call(verb, run, "--data", "other.csv", "--set", wrong, code=2)
        assert "data.{" in refused.stderr
    refused = call(verb, run, "--data", "other.csv", "--set", "data.text_colum=x", code=2)
    assert "Did you mean 'text_column'?" in refused.stderr
    call(verb, run, "--data", "other.csv", "--set", "data.raters=perhaps", code=2)


def test_a_model_scores_jsonl_and_parquet(run: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"text": "the cat happy", "labels": ["joy"]}, {"text": "we hate tea", "labels": ["anger"]}]
    Path("a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    parquet.write_table(pa.Table.from_pylist(rows), "b.parquet")
    for path in ("a.jsonl", "b.parquet"):
        assert json.loads(call("evaluate", run, "--data", path, "--json").stdout)["rows"] == 2


# --- a data set of the hub -----------------------------------------------------------------------------------------


def test_a_run_on_a_hub_data_set_is_scored_again_without_the_hub(hub: Hub, base: Path) -> None:  # noqa: F811
    files = tiny.contents(tiny.multi_class(base))
    hub.repositories["owner/moods"] = {f"data/{Path(name).name}": content for name, content in files.items()}
    said = call("train", "starter", "--out", "run", *tiny.options(base, Path("owner/moods"), epochs=1)).stderr
    assert f"owner/moods from the hub, revision {COMMIT}" in said
    kept = load_config(str(Path("run", "config.yaml"))).data
    assert (kept.path, kept.revision) == ("owner/moods", COMMIT)
    hub.gone = True
    scored = call("evaluate", "run", "--json")
    assert json.loads(scored.stdout)["split"] == "test"
    assert "from the hub's cache" in scored.stderr
    other = call("evaluate", "run", "--data", "owner/moods", "--split", "valid", "--json")
    assert json.loads(other.stdout)["folder"].endswith("moods-valid")


# --- what inspect sees ---------------------------------------------------------------------------------------------


def test_a_hub_data_set_is_inspected_by_its_id(hub: Hub, base: Path) -> None:  # noqa: F811
    files = tiny.contents(tiny.multi_class(base))
    hub.repositories["owner/moods"] = {f"data/{Path(name).name}": content for name, content in files.items()}
    found = json.loads(call("inspect", "owner/moods", "--json").stdout)
    assert (found["data"], list(found["splits"])) == ("owner/moods", ["train", "valid", "test"])
    assert found["description"][0] == f"owner/moods from the hub, revision {COMMIT}"


@pytest.mark.parametrize("raters", ["majority", "soft"])
def test_rows_of_raters_are_inspected_as_texts(raters: str) -> None:
    Path("raters.csv.gz").write_bytes(gzip.compress(raters_rows().encode()))
    found = json.loads(call("inspect", "raters.csv.gz", "--set", f"data.raters={raters}", "--json").stdout)
    assert {name: split["rows"] for name, split in found["splits"].items()} == {"raters": found["rows"]}
    assert any(line.startswith("240 rows of raters are 80 texts") for line in found["description"])
    assert found["splits"]["raters"]["label_counts"]["joy"] < found["rows"] <= 80


# --- label ids of other data ----------------------------------------------------------------------------------------


def test_label_ids_of_other_data_are_those_that_the_model_was_trained_on(base: Path) -> None:
    mood = {"anger": 7, "fear": 3, "joy": 5}  # neither from 0 nor in the order of the labels
    rows = [row.split(",") for row in tiny.multi_label_rows(80)]
    lines = [
        f"{t},{'|'.join(str(i) for i, flag in zip(mood.values(), flags, strict=True) if flag == '1')}"
        for t, *flags in rows
    ]
    Path("data").mkdir()
    Path("data", "labels.json").write_text(json.dumps(mood))
    Path("data", "train.csv").write_text("text,label\n" + "\n".join(lines))
    call("train", "starter", "--out", "run", *tiny.options(base, Path("data"), epochs=1))
    Path("alone").mkdir()
    Path("alone", "x.csv").write_text("text,label\nso happy,5\nso cross,7\nboth,5|7\n")
    scored = json.loads(call("evaluate", "run", "--data", "alone/x.csv", "--json").stdout)
    assert {label["label"]: label["support"] for label in scored["labels"]} == {"fear": 0, "joy": 2, "anger": 2}
    tuned = call("tune", "run", "--data", "alone/x.csv", "--folds", 2, "--method", "global", "--json")
    assert json.loads(tuned.stdout)["rows"] == 3


def test_a_run_that_did_not_keep_its_label_ids_reads_goemotions_files_as_before(base: Path) -> None:
    tiny.copy(tiny.trained(base, tiny.goemotions(base)), Path("run"))
    Path("test.tsv").write_text((tiny.goemotions(base) / "test.tsv").read_text())
    expected = json.loads(call("evaluate", "run", "--data", "test.tsv", "--json").stdout)["labels"]
    kept = json.loads(Path("run", "data.json").read_text())
    assert kept.pop("label_ids")["27"] == "neutral"
    Path("run", "data.json").write_text(json.dumps(kept))
    assert json.loads(call("evaluate", "run", "--data", "test.tsv", "--json").stdout)["labels"] == expected


@pytest.mark.parametrize(
    ("described", "found"),
    [
        ("x.csv: comma-separated table, text in column 'text', label ids in column 'label'", {0: "joy", 1: "awe"}),
        ("x.txt: one text and one label id a line, semicolon between them, no header", {0: "joy", 1: "awe"}),
        ("x.csv: comma-separated table, text in column 'text', labels in column 'label'", {}),
    ],
)
def test_what_was_said_of_the_data_tells_whether_it_had_ids(described: str, found: dict[int, str]) -> None:
    Path("data.json").write_text(json.dumps({"description": [described, "2 labels"], "labels": ["joy", "awe"]}))
    assert kept_ids(Path("data.json")) == found
    assert kept_ids(Path("nowhere.json")) == {}


def test_a_model_trained_on_names_does_not_take_ids_for_positions(run: Path) -> None:
    Path("x.csv").write_text("text,label\nso happy,0\nso cross,1\nso,2\n")
    refused = call("evaluate", run, "--data", "x.csv", code=65)
    assert re.search(r"x\.csv:2.*unknown label '0'\n.*data\.labels_file", refused.stderr)
