"""`emotune ensemble`: one model of several, for every verb; and what is refused of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner, Result

import cue_kind
import tiny
from emotune.artifact.manifest import read_decision, seal, verify
from emotune.artifact.opening import open_model
from emotune.cli.app import app
from emotune.config import settings
from emotune.config.kinds import KINDS
from emotune.errors import ModelError
from emotune.inference.classifier import load
from emotune.labels import LabelSet, Task, label_difference
from emotune.runs import layout

TEXTS = ["I am so happy and glad today", "furious, and afraid of the long road", "", "tea by an old door"]


def call(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def trained(base: Path, data: Path, name: str, *more: str) -> Path:
    options = tiny.options(base, data, epochs=3)
    return tiny.once(base, name, lambda path: call("train", "starter", "--out", path, *options, *more))


@pytest.fixture(scope="session")
def other(base: Path) -> Path:
    """A run on the same rows as `run`, of another seed; not to be changed."""
    return trained(base, tiny.multi_label(base), "other", "--set", "training.seed=1")


@pytest.fixture(scope="session")
def joined(base: Path, run: Path, other: Path) -> Path:
    """The run of the ensemble of `run` and `other`; not to be changed."""
    return tiny.once(base, "joined", lambda path: call("ensemble", run, other, "--out", path))


@pytest.fixture(scope="session")
def turned(base: Path) -> Path:
    """A run on the same texts whose labels stand in another order; not to be changed."""
    return trained(base, tiny.turned(base), "run-of-turned")


# A model for every verb


def test_its_logits_are_the_mean_of_its_members(run: Path, other: Path, joined: Path) -> None:
    mean, *each = (load(path, device="cpu").logits(TEXTS, batch_size=2) for path in (joined, run, other))
    assert np.allclose(mean, np.mean(each, axis=0), atol=1e-5)
    model = load(joined, device="cpu")
    assert model.manifest.portability == "emotune"
    assert np.allclose(mean, model.logits(TEXTS, batch_size=4), atol=1e-5)
    assert max(model("so happy and glad")[0].scores.items(), key=lambda item: item[1])[0] == "joy"


def test_its_thresholds_are_tuned_on_the_mean_of_the_cached_logits(run: Path, other: Path, joined: Path) -> None:
    kept, *each = (load_file(path / "valid.safetensors") for path in (joined, run, other))
    assert np.allclose(kept["logits"], np.mean([rows["logits"] for rows in each], axis=0), atol=1e-6)
    decision = read_decision(joined / "model")
    tuning, of_first = decision.tuning, verify(run / "model").data["valid"]["sha256"]
    assert (tuning["rows"], tuning["split"], tuning["data_sha256"]) == (40, "valid", of_first)
    card = (joined / "model" / "README.md").read_text()
    assert "| other | encoder | 0." in card
    assert "| their mean |  |" in card


def test_every_verb_takes_it(joined: Path, tmp_path: Path) -> None:
    run = tiny.copy(joined, tmp_path / "run")
    said = json.loads(call("evaluate", run, "--json").stdout)
    assert (said["split"], said["rows"]) == ("test", tiny.SPLITS["test"])
    assert "tuned on these rows" in call("evaluate", run, "--split", "valid").stderr
    assert "say nothing about new texts" in call("evaluate", run, "--split", "train").stderr
    assert json.loads(call("predict", "-m", run, "--json", "happy and glad", "--device", "cpu").stdout)["labels"] == [
        "joy"
    ]
    members = tiny.contents(run / "model" / "members")
    assert json.loads(call("tune", run, "--method", "global", "--json").stdout)["rows"] == tiny.SPLITS["valid"]
    assert len(set(read_decision(run / "model").thresholds)) == 1
    assert tiny.contents(run / "model" / "members") == members
    verify(run / "model")


@pytest.mark.parametrize("temperatures", ["one", "per_label"])
def test_a_temperature_divides_the_weights(temperatures: str, joined: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    more = ("--calibrate", "--temperatures", temperatures, "--out", out, "--json")
    calibration = json.loads(call("tune", joined, *more).stdout)["calibration"]
    divided = np.array([calibration["temperatures"][name] for name in tiny.CUES])
    before, after = (load(path, device="cpu").logits(TEXTS) for path in (joined, out))
    assert np.allclose(after, before / divided, rtol=1e-5, atol=1e-5)
    assert len(open_model(str(out)).members) == 2
    assert call("tune", out, "--data", tmp_path, code=66).stderr


def test_an_ensemble_of_an_ensemble_has_its_members(run: Path, other: Path, joined: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    call("ensemble", joined, run, "--out", out)
    members = open_model(str(out)).members
    assert [member.name for member in members] == ["joined-run-multi_label", "joined-other", "run-multi_label"]
    assert [member.weights.tolist() for member in members] == [[0.25] * 3, [0.25] * 3, [0.5] * 3]
    each = [load(path, device="cpu").logits(TEXTS) for path in (joined, run, out)]
    assert np.allclose(np.mean(each[:2], axis=0), each[2], atol=1e-5)
    assert np.array_equal(
        np.union1d(*(load_file(path / "train_texts.safetensors")["digests"] for path in (run, other))),
        load_file(out / "train_texts.safetensors")["digests"],
    )


def test_labels_in_another_order_are_matched_by_name(run: Path, turned: Path, tmp_path: Path, base: Path) -> None:
    assert open_model(str(turned)).decision.labels.names == ("joy", "anger", "fear")
    out = tmp_path / "run"
    result = call("ensemble", run, turned, "--out", out, "--data", tiny.multi_label(base), "--json")
    assert json.loads(result.stdout)["rows"] == tiny.SPLITS["valid"]
    assert open_model(str(out)).decision.labels.names == ("anger", "fear", "joy")
    first, second, mean = (load(path, device="cpu").logits(TEXTS) for path in (run, turned, out))
    assert np.allclose(mean, (first + second[:, [1, 2, 0]]) / 2, atol=1e-5)


@pytest.mark.parametrize("gone", [None, "first", "second"])
def test_runs_whose_labels_stand_in_another_order_were_validated_on_the_same_rows(
    gone: str | None, run: Path, turned: Path, base: Path, tmp_path: Path
) -> None:
    runs = [tiny.copy(run, tmp_path / "first"), tiny.copy(turned, tmp_path / "second")]
    if gone is not None:
        config = tmp_path / gone / "config.yaml"
        data = tiny.turned(base) if gone == "second" else tiny.multi_label(base)
        config.write_text(config.read_text().replace(str(data), "/nowhere"))
    out = tmp_path / "run"
    said = json.loads(call("ensemble", *runs, "--out", out, "--json").stdout)
    assert (said["rows"], said["tuned_on"]) == (tiny.SPLITS["valid"], "valid")
    mean, one, other = (load_file(path / "valid.safetensors") for path in (out, *runs))
    assert np.array_equal(mean["targets"], one["targets"])
    assert np.allclose(mean["logits"], (one["logits"] + other["logits"][:, [1, 2, 0]]) / 2, atol=1e-6)


def test_multi_class_models_are_joined_too(base: Path, tmp_path: Path) -> None:
    data = tiny.multi_class(base)
    first, second = tiny.trained(base, data), trained(base, data, "other-class", "--set", "training.seed=1")
    out = tmp_path / "run"
    said = json.loads(call("ensemble", first, second, "--out", out, "--json").stdout)
    assert said["scores"]["accuracy"] > 0.5
    assert json.loads(call("evaluate", out, "--json").stdout)["metrics"]["accuracy"] > 0.5


# What it is tuned on


def test_models_that_stand_alone_are_tuned_on_data_that_is_named(
    run: Path, other: Path, base: Path, tmp_path: Path
) -> None:
    alone, out = tiny.copy(run / "model", tmp_path / "alone"), tmp_path / "run"
    assert (
        "alone has no cached logits of validation rows" in call("ensemble", other, alone, "--out", out, code=66).stderr
    )
    assert "--data PATH" in call("ensemble", other, alone, "--out", out, code=66).stderr
    call("ensemble", alone, other / "model", "--out", out, "--data", tiny.multi_label(base) / "test.csv")
    assert len(load_file(out / "valid.safetensors")["logits"]) == tiny.SPLITS["test"]
    assert not (out / "train_texts.safetensors").exists(), "nobody knows what the one that stands alone was trained on"
    assert json.loads(call("tune", out, "--json").stdout)["rows"] == tiny.SPLITS["test"]


def test_untuned_it_decides_at_a_half_with_a_warning(run: Path, tmp_path: Path) -> None:
    alone = tiny.copy(run / "model", tmp_path / "alone")
    result = call("ensemble", run, alone, "--out", tmp_path / "run", "--untuned", "--json")
    assert "untuned, 0.5" in result.stderr
    said = json.loads(result.stdout)
    assert (set(said["thresholds"].values()), said["rows"], said["scores"]) == ({0.5}, 0, None)


def test_tuning_on_rows_that_were_learnt_from_is_warned_of(run: Path, other: Path, base: Path, tmp_path: Path) -> None:
    data = tiny.multi_label(base) / "train.csv"
    said = call("ensemble", run, other, "--out", tmp_path / "run", "--data", data).stderr
    assert "other was trained on 160 of these 160 texts, which inflates the scores" in said


def test_runs_that_were_validated_on_other_rows_are_refused(run: Path, base: Path, tmp_path: Path) -> None:
    data = tiny.copy(tiny.multi_label(base), tmp_path / "data")
    lines = (data / "valid.csv").read_text().splitlines(keepends=True)
    (data / "valid.csv").write_text("".join(lines[:-3]))
    fewer = tmp_path / "fewer"
    call("train", "starter", "--out", fewer, *tiny.options(base, data, epochs=1))
    said = call("ensemble", run, fewer, "--out", tmp_path / "run", code=2).stderr
    assert "run-multi_label and fewer are of different rows (40 and 37)" in said
    assert "row 38: only run-multi_label has “" in said
    assert "--untuned" in said
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_joined_is_refused(run: Path, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    classes = tiny.trained(base, tiny.multi_class(base))
    assert "at least two" in call("ensemble", run, "--out", out, code=2).stderr
    assert "named twice" in call("ensemble", run, run / "model", "--out", out, code=2).stderr
    assert "multi-class, not multi-label" in call("ensemble", run, classes, "--out", out, code=2).stderr
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert "exists and is not empty" in call("ensemble", run, classes, "--out", out, code=73).stderr
    adopted = tiny.copy(run / "model", tmp_path / "adopted")
    for name in ("emotune.json", "decision.json"):
        (adopted / name).unlink()
    assert "emotune tune" in call("ensemble", run, adopted, "--out", tmp_path / "other", code=2).stderr


def test_other_labels_are_named() -> None:
    ours = LabelSet(("joy", "fear"))
    assert label_difference(LabelSet(("fear", "joy")), ours) == ""
    assert label_difference(LabelSet(("joy", "anger")), ours) == "anger in addition; fear missing"
    assert label_difference(ours, LabelSet(tuple("abcdefghij"))).endswith("a, b, c, d, e, f, g, h, … (10) missing")
    assert label_difference(LabelSet(("joy", "fear"), Task.MULTI_CLASS), ours) == "multi-class, not multi-label"


def test_an_ensemble_is_not_trained(base: Path, joined: Path, tmp_path: Path) -> None:
    said = call("train", "starter", "--set", "model.kind=ensemble", "--out", tmp_path / "run", code=2).stderr
    assert "emotune ensemble RUN RUN" in said
    assert "nothing to resume" in call("train", "--resume", joined).stderr
    assert layout.read_config(joined).model.kind == "ensemble"


# Hostile ones


def changed(**changes: object) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        path = model / "ensemble.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def weighted(change: Callable[[dict[str, dict[str, object]]], object]) -> Callable[[Path], None]:
    def apply(model: Path) -> None:
        path = model / "ensemble.json"
        content = json.loads(path.read_text())
        change(content["weights"])
        path.write_text(json.dumps(content))

    return apply


def in_member(change: Callable[[Path], object], *, reseal: bool = True) -> Callable[[Path], None]:
    def apply(model: Path) -> None:
        member = model / "members" / "other"
        change(member)
        if reseal:
            resealed(member)

    return apply


def resealed(model: Path) -> None:
    manifest = json.loads((model / "emotune.json").read_text())
    (model / "emotune.json").unlink()
    seal(model, **{key: manifest[key] for key in manifest.keys() - {"format_version", "files", "digest"}})


def nested(member: Path) -> None:
    manifest = json.loads((member / "emotune.json").read_text()) | {"kind": "ensemble"}
    del manifest["digest"]
    (member / "emotune.json").write_text(json.dumps(manifest))


def relabelled(member: Path) -> None:
    for name in ("config.json", "decision.json"):
        (member / name).write_text((member / name).read_text().replace('"fear"', '"calm"'))


def coded(member: Path) -> None:
    config = json.loads((member / "config.json").read_text()) | {"auto_map": {"AutoModel": "own.Model"}}
    (member / "config.json").write_text(json.dumps(config))


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (changed(weights=None), "it has no weights"),
    "no members": (changed(weights={}), "it has no weights"),
    "a member that leads out": (weighted(lambda w: w.update({"../../other": w.pop("other")})), "cannot be the name"),
    "a hidden member": (weighted(lambda w: w.update({".other": w.pop("other")})), "cannot be the name"),
    "a member that is not there": (weighted(lambda w: w.update(more=w["other"])), "'more' is not in members/"),
    "a member that does not count": (weighted(lambda w: w.pop("other")), "'other' has no weights"),
    "a label without a weight": (weighted(lambda w: w["other"].pop("joy")), "are not one for each label"),
    "a weight that is a word": (weighted(lambda w: w["other"].update(joy="1")), "not a number above 0"),
    "a weight of zero": (weighted(lambda w: w["other"].update(joy=0)), "not a number above 0"),
    "a weight that is true": (weighted(lambda w: w["other"].update(joy=True)), "not a number above 0"),
    "a weight beyond measure": (weighted(lambda w: w["other"].update(joy=1e300)), "not a number above 0"),
    "code in a member": (in_member(coded), "needs its own code"),
    "a pickle in a member": (in_member(lambda m: (m / "a.pkl").write_bytes(b"x")), "a pickle is not allowed"),
    "other labels in a member": (in_member(relabelled), "calm in addition; fear missing"),
    "a member that is none of ours": (in_member(lambda m: (m / "emotune.json").unlink(), reseal=False), "no such file"),
    "a damaged member": (
        in_member(lambda m: (m / "README.md").write_text("other"), reseal=False),
        "the manifest of the ensemble in 'README.md'",
    ),
    "a file beside a member's": (
        in_member(lambda m: (m / "more.json").write_text("{}"), reseal=False),
        "the manifest of the ensemble in 'more.json'",
    ),
    "an ensemble within": (in_member(nested, reseal=False), "members are single models"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_ensemble_is_refused(name: str, joined: Path, tmp_path: Path) -> None:
    spoil, refusal = HOSTILE[name]
    model = tiny.copy(joined / "model", tmp_path / "model")
    spoil(model)
    resealed(model)
    with pytest.raises(ModelError) as caught:
        open_model(str(model))
    assert refusal in str(caught.value)
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("name", ["members/other/model.safetensors", "members/other/emotune.json", "ensemble.json"])
def test_a_flipped_byte_is_found(name: str, joined: Path, tmp_path: Path) -> None:
    model = tiny.copy(joined / "model", tmp_path / "model")
    content = bytearray((model / name).read_bytes())
    content[len(content) // 2] ^= 1
    (model / name).write_bytes(content)
    with pytest.raises(ModelError, match="differs from its sha256"):
        open_model(str(model))


def test_in_the_cache_of_the_hub_which_is_made_of_links_it_is_read(joined: Path, tmp_path: Path) -> None:
    cache = tmp_path / "models--owner--name"
    snapshot = cache / "snapshots" / "abc"
    (cache / "blobs").mkdir(parents=True)
    for number, (name, content) in enumerate(tiny.contents(joined / "model").items()):
        (cache / "blobs" / str(number)).write_bytes(content)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(cache / "blobs" / str(number))
    assert np.array_equal(load(snapshot, device="cpu").logits(TEXTS), load(joined, device="cpu").logits(TEXTS))


# Other kinds


@pytest.fixture
def cues(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options that train a kind of model that is fitted at once."""
    monkeypatch.setattr(settings, "CueConfig", cue_kind.CueConfig, raising=False)
    monkeypatch.setitem(KINDS, cue_kind.NAME, cue_kind.KIND)
    return ["--set", f"model.kind={cue_kind.NAME}"]


def test_members_may_be_of_different_kinds(run: Path, base: Path, cues: list[str], tmp_path: Path) -> None:
    words, out = tmp_path / "words", tmp_path / "run"
    call("train", "starter", "--data", tiny.multi_label(base), *cues, "--out", words)
    said = json.loads(call("ensemble", run, words, "--out", out, "--json").stdout)
    assert [member["kind"] for member in said["members"]] == ["encoder", "cues"]
    assert json.loads(call("evaluate", out, "--json").stdout)["metrics"]["macro_f1"] > 0.5
    first, second, mean = (load(path, device="cpu").logits(TEXTS) for path in (run, words, out))
    assert np.allclose(mean, (first + second) / 2, atol=1e-5)


def test_what_is_fitted_at_once_is_cross_trained_too(base: Path, cues: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    data = tiny.multi_label(base)
    said = json.loads(call("train", "starter", "--data", data, *cues, "--folds", 3, "--out", out, "--json").stdout)
    assert said["out_of_fold"]["macro_f1"] > 0.5
    assert [member.model.manifest.kind for member in open_model(str(out)).members] == ["cues"] * 3
    assert len(load_file(out / "oof.safetensors")["logits"]) == tiny.SPLITS["train"]
    (out / "model").rename(tmp_path / "away")
    before = {path: path.stat().st_mtime_ns for path in (out / "folds").rglob("*.json")}
    call("train", "--resume", out)
    assert tiny.contents(out / "model") == tiny.contents(tmp_path / "away")
    assert before == {path: path.stat().st_mtime_ns for path in (out / "folds").rglob("*.json")}
