"""`emotune ladder` from end to end with tiny encoders: budget, going on, refusals, and what it says in the end."""

import errno
import json
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner, Result

import killing
import tiny
from emotune.cli.app import app
from emotune.cli.terminal import Terminal
from emotune.config import kinds
from emotune.errors import TrainingError
from emotune.reporter import NullReporter
from emotune.training.progress import StepReport
from emotune.workflows import ladder, ladder_steps
from emotune.workflows.ladder_costs import Ending, Estimate
from emotune.workflows.ladder_state import LadderState, require_ladder
from emotune.workflows.ladder_steps import Limited, TooSlowError
from emotune.workflows.train import Material

SMALL = ("--set", "training.epochs=1", "--set", "training.precision=fp32")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No rehearsal and no pictures, which take a second each."""
    monkeypatch.setattr(ladder, "rehearse", lambda *_: Ending(0.0, 0.0))
    monkeypatch.setattr("emotune.reports.comparison_pictures.draw_comparison", lambda _: [])


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`costs(dummy=1, full=9)`: what the rungs are estimated at."""

    def say(**seconds: float) -> None:
        def estimate(config: object, *_: object) -> Estimate:
            return Estimate(seconds[config.name])  # type: ignore[attr-defined]

        monkeypatch.setattr(ladder, "estimate", estimate)

    return say


def call(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["ladder", *map(str, args)])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def options(base: Path, rungs: str, *more: object, budget: str = "10m") -> list[object]:
    return ["--encoder", tiny.encoder(base), "--rungs", rungs, "--budget", budget, *SMALL, *more]


def as_json(*args: object) -> dict:
    return dict(json.loads(call(*args, "--json", "--quiet").stdout, parse_constant=pytest.fail))


def trained(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "runs").iterdir())


@pytest.fixture(scope="module")
def climbed(base: Path) -> Path:
    """A ladder with a rung of each way to learn; not to be changed."""

    def build(path: Path) -> None:
        call(tiny.multi_label(base), *options(base, "dummy,tfidf,full"), "--seeds-max", 2, "--out", path)

    return tiny.once(base, "ladder", build)


# --- what it says ----------------------------------------------------------------------------------------------


def test_all_parts_are_told(climbed: Path, base: Path, tmp_path: Path) -> None:
    out = tiny.copy(climbed, tmp_path / "out")
    again = [tiny.multi_label(base), *options(base, "dummy,tfidf,full"), "--seeds-max", 2, "--out", out]
    before = tiny.contents(out / "runs")
    shown = call(*again)
    for part in ("macro-F1", "micro-F1", "Hamming loss", "macro precision", "texts/s", "front", "± 0.", "Rungs"):
        assert part in shown.stdout
    assert "transformer" in " ".join(shown.stdout.split())
    assert "going on with" in shown.stderr
    said = as_json(*again)
    assert said["spent_seconds"] == json.loads((climbed / "ladder.json").read_text())["spent"]  # nothing was done
    assert tiny.contents(out / "runs") == before  # nothing is trained again
    assert [(rung["name"], rung["seeds"]) for rung in said["rungs"]] == [
        ("dummy", [0]),
        ("tfidf", [0]),
        ("full", [0, 1]),
    ]
    assert all(rung["expected_seconds"] > 0 and rung["skipped"] is None for rung in said["rungs"])
    by_name = {run["name"]: run for run in said["runs"]}
    assert by_name["full"]["sd_over_seeds"]["macro_f1"] is not None
    assert all(run["texts_per_second"] > 0 and run["bytes"] > 0 for run in by_name.values())
    assert by_name["full"]["training_seconds"] > 0
    assert {"front", "intervals"} <= set(by_name["dummy"])
    assert (said["worth"]["encoder"], said["worth"]["sentence"] in shown.stdout.replace("\n", " ")) == ("full", True)
    assert said["spent_seconds"] > 0
    assert not [note for note in said["notes"] if "epoch" in note]  # none chose one
    assert said["rows"] == 40  # the validation rows; the test split plays no part


def test_the_report_has_the_table_the_front_and_the_labels(climbed: Path) -> None:
    report = climbed / "report"
    assert {"report.html", "report.md", "comparison.json", "quality_cost.png", "label_comparison.svg"} <= {
        path.name for path in report.iterdir()
    }
    page = (report / "report.html").read_text()
    for part in ("Ladder on the validation rows", 'id="rungs"', 'id="front"', 'id="labels"', "transformer", "tfidf"):
        assert part in page
    assert "transformer" in (report / "report.md").read_text()


def test_what_is_trained_are_ordinary_runs(climbed: Path) -> None:
    runs = sorted((climbed / "runs").iterdir())
    assert [run.name for run in runs] == ["dummy-0", "full-0", "full-1", "tfidf-0"]
    compared = CliRunner().invoke(app, ["compare", *map(str, runs), "--json", "--resamples", "100"])
    assert compared.exit_code == 0, compared.output
    ours = json.loads((climbed / "report" / "comparison.json").read_text())
    (tfidf,) = (run for run in ours["runs"] if run["name"] == "tfidf")
    (same,) = (run for run in json.loads(compared.stdout)["runs"] if run["name"] == "tfidf-0")
    assert tfidf["metrics"] == same["metrics"]


@pytest.mark.usefixtures("_quick")
def test_one_class_a_text_is_told_by_accuracy(base: Path) -> None:
    said = as_json(tiny.multi_class(base), *options(base, "dummy,frozen"), "--seeds-max", 1)
    assert (said["metric"], said["task"]) == ("accuracy", "multi_class")
    assert (Path("runs") / "ladder-multi_class" / "report" / "report.html").is_file()  # where it goes by itself


# --- the budget ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_quick")
def test_what_does_not_fit_is_left_out_and_named(base: Path, costs: Callable[..., None]) -> None:
    costs(dummy=0.1, tfidf=0.2, full=5000)
    result = call(tiny.multi_label(base), *options(base, "dummy,tfidf,full"), "--out", "out")
    assert trained(Path("out")) == ["dummy-0", "tfidf-0"]
    shown = " ".join(result.stdout.split())
    assert "it would take about 1.4 h, and " in shown
    assert "of 10.0 min were left" in shown
    assert "cannot say: it trained none (full: it would take" in shown
    assert re.search(r"ith --budget 9\dm the same command goes on to what was left out", shown)


@pytest.mark.usefixtures("_quick")
def test_rungs_come_in_order_of_cost_and_seeds_after_all_of_them(base: Path, costs: Callable[..., None]) -> None:
    costs(tfidf=0.3, frozen=0.2, full=0.1)
    result = call(tiny.multi_label(base), *options(base, "tfidf,frozen,full"), "--seeds-max", 2, "--out", "out")
    told = [line.partition(": about")[0] for line in result.stderr.splitlines() if ": about" in line]
    assert sorted(told[:3]) == ["frozen", "full", "tfidf"]
    assert (told[0], told[3:]) == ("full", ["full, seed 1", "frozen, seed 1"])  # another seed of tfidf is the same


@pytest.mark.usefixtures("_quick")
def test_a_larger_budget_goes_on(base: Path, costs: Callable[..., None]) -> None:
    costs(dummy=0.1, full=700)
    args = [tiny.multi_label(base), *options(base, "dummy,full"), "--seeds-max", 1, "--out", "out"]
    call(*args)
    assert trained(Path("out")) == ["dummy-0"]
    call(*args, "--budget", "30m")
    assert trained(Path("out")) == ["dummy-0", "full-0"]


@pytest.mark.usefixtures("_quick")
def test_a_ladder_that_can_do_nothing_more_neither_rehearses_nor_uses_time(
    base: Path, costs: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    costs(dummy=0.1, full=700)
    args = [tiny.multi_label(base), *options(base, "dummy,full"), "--out", "out"]
    as_json(*args)
    used = json.loads(Path("out/ladder.json").read_text())["spent"]
    monkeypatch.setattr(ladder, "rehearse", lambda *_: pytest.fail("rehearsed for nothing"))
    again = as_json(*args)
    assert again["spent_seconds"] == used == json.loads(Path("out/ladder.json").read_text())["spent"]
    assert "it would take about 11.7 min" in again["rungs"][1]["skipped"]


@pytest.mark.usefixtures("_quick")
def test_a_budget_for_nothing_names_the_reasons(base: Path, costs: Callable[..., None]) -> None:
    costs(dummy=50, full=60)
    result = call(tiny.multi_label(base), *options(base, "dummy,full", budget="20s"), "--out", "out", code=1)
    assert "no rung was trained:\n  dummy: it would take about 50 s" in result.stderr
    assert "--budget" in result.stderr


def test_the_real_estimate_knows_the_steps(climbed: Path) -> None:
    rungs = json.loads((climbed / "ladder.json").read_text())["rungs"]
    assert (rungs["full"]["steps"], rungs["tfidf"]["steps"]) == (20, 0)  # 160 rows in batches of 8, one epoch
    assert all(rung["fixed"] > 0 for rung in rungs.values())
    assert rungs["full"]["per_step"] > 0


def test_what_is_left_of_a_training_is_less_its_checkpoint() -> None:
    assert Estimate(2.0, 0.5, 100).seconds == 52
    assert Estimate(2.0, 0.5, 100).left(60) == 22
    assert Estimate(2.0, 0.5, 100).left(200) == 2


@pytest.mark.parametrize("budget", ["", "20", "m", "20x", "-3m", "0s", "1m1h"])
def test_a_budget_is_a_time(budget: str) -> None:
    assert "90s, 20m or 1h30m" in call("data", "--budget", budget, code=2).stderr


class _Clock:
    """Each step takes a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


def _all_steps(reporter: Limited, number: int) -> None:
    for step in range(1, number + 1):
        reporter.on_step(StepReport(1, step, number, 0.5, 1e-3, None, 8))


def test_a_training_that_turns_out_slow_is_ended(
    monkeypatch: pytest.MonkeyPatch, climbed: Path, tmp_path: Path
) -> None:
    state = tmp_path / "ladder.json"
    shutil.copy(climbed / "ladder.json", state)
    content = json.loads(state.read_text())
    told = LadderState.begin(tmp_path, content["data"], content["device"], 0.0)
    monkeypatch.setattr(ladder_steps, "time", _Clock())
    reporter = Limited(NullReporter(), told, set())
    reporter.end = lambda seconds: seconds > 900
    _all_steps(reporter, 900)
    slow = Limited(NullReporter(), told, set())
    slow.end = lambda seconds: seconds > 900
    with pytest.raises(TooSlowError) as raised:
        _all_steps(slow, 1200)
    assert (raised.value.num_steps, raised.value.per_step) == (1200, 1.0)
    assert raised.value.step < 200  # long before its end


@pytest.mark.usefixtures("_quick")
def test_a_slow_rung_is_left_out_with_what_it_would_take(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(step: object, *_: object) -> None:
        raise TooSlowError(100, 1000, 2.0)

    climb = ladder.climb
    monkeypatch.setattr(
        ladder, "climb", lambda step, *rest: slow(step) if step.rung.name == "full" else climb(step, *rest)
    )
    result = call(tiny.multi_label(base), *options(base, "dummy,full"), "--seeds-max", 1, "--out", "out")
    assert "full: it turned out slower than estimated, about 33." in result.stderr
    assert "stopped at step 100 of 1,000" in result.stderr
    assert json.loads(Path("out/ladder.json").read_text())["rungs"]["full"]["per_step"] == 2.0


@pytest.mark.usefixtures("_quick")
def test_the_pace_of_a_slow_seed_is_counted_once(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(ladder, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(ladder, "estimate", lambda *_: Estimate(0.0, 1.0, 10))
    climb, seeds = ladder.climb, []

    def slow(step: ladder_steps.Step, seed: int, *rest: object) -> None:
        seeds.append(seed)
        if seed == 1:
            raise TooSlowError(5, 10, 20.0)
        climb(step, seed, *rest)  # type: ignore[arg-type]
        clock.now += 20  # twice as long as was estimated

    monkeypatch.setattr(ladder, "climb", slow)
    call(tiny.multi_label(base), *options(base, "full", budget="5m"), "--out", "out")
    assert seeds == [0, 1, 2]  # the third takes 200 s, and not twice as much


# --- going on --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_quick")
def test_interrupted_it_goes_on(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    args = [tiny.multi_label(base), *options(base, "dummy,tfidf"), "--out", "out"]
    climb = ladder.climb

    def interrupted(step: ladder_steps.Step, *rest: object) -> None:
        if step.rung.name == "tfidf":
            raise KeyboardInterrupt
        climb(step, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(ladder, "climb", interrupted)
        result = call(*args, code=130)
    assert "the same command goes on where it was: out" in result.stderr
    before = tiny.contents(Path("out/runs/dummy-0"))
    assert "1 models are trained" in call(*args).stderr.replace("1 model is", "1 models are")
    assert trained(Path("out")) == ["dummy-0", "tfidf-0"]
    assert tiny.contents(Path("out/runs/dummy-0")) == before


@pytest.mark.usefixtures("_quick")
def test_an_interrupt_in_the_last_step_of_a_rung_is_not_lost(
    base: Path, costs: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_the_end(_: Terminal, report: StepReport) -> None:
        if report.step == report.num_steps:
            signal.raise_signal(signal.SIGINT)

    costs(full=0.1, tfidf=0.2)
    monkeypatch.setattr(Terminal, "on_step", at_the_end)
    args = [tiny.multi_label(base), *options(base, "tfidf,full"), "--seeds-max", 1, "--out", "out"]
    assert "interrupted" in call(*args, code=130).stderr
    assert trained(Path("out")) == ["full-0"]
    assert "1 models are trained" in call(*args).stderr
    assert trained(Path("out")) == ["full-0", "tfidf-0"]


def test_killed_in_a_rung_it_goes_on_from_the_checkpoint_to_the_same_weights(base: Path, climbed: Path) -> None:
    out = Path("out").absolute()
    args = [tiny.multi_label(base), *options(base, "dummy,full"), "--seeds-max", 1, "--out", out]
    args += ["--set", "training.checkpoint_steps=5"]
    command = ["ladder", *map(str, args)]
    # the first checkpoint is that of the estimate
    assert killing.emotune(command, Path("said"), kill="done", nth=3) == -9
    assert [path.name for path in (out / "runs/full-0/checkpoints").iterdir()][-1].startswith("step-")
    (out / "runs" / "dummy-0" / "valid.safetensors").write_bytes(b"torn")
    assert killing.emotune(command, Path("said")) == 0
    said = Path("said").read_text()
    assert "resuming from step" in said
    assert "dummy-0 is trained again" in said
    for file in ("model.safetensors", "decision.json"):
        assert (out / "runs/full-0/model" / file).read_bytes() == (climbed / "runs/full-0/model" / file).read_bytes()
    assert not (out / ".lock").exists()
    assert not list(out.glob(".probe-*"))


@pytest.mark.usefixtures("_quick")
def test_other_data_settings_or_places_are_refused(climbed: Path, base: Path, tmp_path: Path) -> None:
    out = tiny.copy(climbed, tmp_path / "out")
    same = options(base, "dummy,tfidf,full", "--out", out)
    before = tiny.contents(out)
    other = call(tiny.multi_class(base), *same, code=65)
    assert "the train split is not the one that the run began with" in other.stderr
    changed = call(tiny.multi_label(base), *same, "--set", "training.batch_size=4", code=2)
    assert "training.batch_size is 4, and 32 in the run" in changed.stderr
    assert "--overwrite" in changed.stderr
    assert {key: value for key, value in tiny.contents(out).items() if key != "ladder.json"} == {
        key: value for key, value in before.items() if key != "ladder.json"
    }
    call(tiny.multi_label(base), *same, "--set", "training.batch_size=4", "--rungs", "dummy", "--overwrite")
    assert trained(out) == ["dummy-0"]


def test_a_folder_of_somebody_else_is_left_alone(base: Path, climbed: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "runs").mkdir(parents=True)
    (mine / "letter.txt").write_text("dear diary")
    for args in (["--overwrite"], []):
        result = call(tiny.multi_label(base), *options(base, "dummy"), "--out", mine, *args, code=73)
        assert "not a ladder" in result.stderr
    assert (mine / "letter.txt").is_file()
    beside = tiny.copy(climbed, tmp_path / "beside")
    (beside / "runs" / "tfidf-0" / "notes.txt").write_text("mine")
    call(tiny.multi_label(base), *options(base, "tfidf"), "--out", beside)
    assert (beside / "runs" / "tfidf-0" / "notes.txt").read_text() == "mine"


def test_a_damaged_ladder_file_is_refused(climbed: Path, base: Path, tmp_path: Path) -> None:
    out = tiny.copy(climbed, tmp_path / "out")
    for content in ("{", "[]", '{"format_version": 2}', '{"format_version": 1, "spent": "long"}'):
        (out / "ladder.json").write_text(content)
        call(tiny.multi_label(base), *options(base, "dummy"), "--out", out, code=65)
    require_ladder(out)


# --- bad input -------------------------------------------------------------------------------------------------


def _table(name: str, header: str, rows: list[str]) -> Path:
    path = Path(name)
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def _texts(number: int) -> list[str]:
    return tiny.texts(number, lambda i: [tiny.CUES["joy"][i % 2]] if i % 2 else [])


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("labels", [1, 100])
def test_one_label_or_a_hundred(labels: int, base: Path) -> None:
    texts = _texts(200)
    header = ",".join(["text", *(f"label{j}" for j in range(labels))])
    rows = [
        ",".join([text, *(str(int((i + j) % max(2, labels // 2) == 0)) for j in range(labels))])
        for i, text in enumerate(texts)
    ]
    said = as_json(_table("data.csv", header, rows), *options(base, "dummy,tfidf"))
    assert (len(said["labels"]), len(said["runs"])) == (labels, 2)


@pytest.mark.usefixtures("_quick")
def test_a_label_with_one_example_and_twenty_rows(base: Path) -> None:
    rows = [f"{text},{i % 2},{int(i == 3)}" for i, text in enumerate(_texts(20))]
    said = as_json(_table("data.csv", "text,joy,rare", rows), *options(base, "dummy,tfidf,full"), "--seeds-max", 1)
    assert [rung["skipped"] for rung in said["rungs"]] == [None] * 3
    assert any("rare" in warning for warning in said["warnings"])


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([f"{text},1" for text in _texts(40)], "no label that some training texts carry and others do not"),
        ([f"{text},{i % 2}" for i, text in enumerate(_texts(12))], "1 validation rows, on which nothing can be"),
    ],
)
def test_data_with_nothing_to_tell_apart_is_refused(rows: list[str], told: str, base: Path) -> None:
    data = _table("data.csv", "text,joy", rows)
    result = call(data, *options(base, "dummy"), "--set", "data.split=[0.9,0.1,0.0]", code=65)
    assert told in result.stderr
    assert not Path("runs").exists()


def test_an_encoder_that_is_not_there_is_said_at_once(base: Path) -> None:
    result = call(tiny.multi_label(base), "--encoder", "./nowhere", code=66)
    assert "no encoder './nowhere'" in result.stderr
    assert not Path("runs").exists()


@pytest.mark.usefixtures("_quick")
def test_a_kind_that_cannot_be_trained_here_is_left_out_with_the_reason(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(kinds.KINDS, "tfidf")
    said = as_json(tiny.multi_label(base), *options(base, "dummy,tfidf"))
    assert [rung["skipped"] for rung in said["rungs"]] == [None, "this emotune has no models of kind tfidf"]


@pytest.mark.usefixtures("_quick")
def test_a_rung_that_fails_is_left_out_with_the_reason(base: Path) -> None:
    said = as_json(tiny.multi_label(base), *options(base, "dummy,tfidf"), "--set", "model.min_df=1000")
    assert [rung["seeds"] for rung in said["rungs"]] == [[0], []]
    assert "no term stands in 1000 training texts" in said["rungs"][1]["skipped"]


def _failing(monkeypatch: pytest.MonkeyPatch, bad: int) -> None:
    """Training that seed fails."""
    train_on = ladder_steps.train_on

    def train(material: Material, *rest: object, **more: object) -> object:
        if material.config.training.seed == bad:
            raise TrainingError("the loss is nan", hint="Lower the rate.")
        return train_on(material, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(ladder_steps, "train_on", train)


@pytest.mark.usefixtures("_quick")
def test_a_later_seed_that_fails_is_told(
    base: Path, costs: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    costs(full=0.1)
    _failing(monkeypatch, 1)
    result = call(tiny.multi_label(base), *options(base, "full"), "--out", "out", "--json")
    assert "warning: full, seed 1: the loss is nan (Lower the rate.)" in result.stderr
    said = json.loads(result.stdout)
    (full,) = said["rungs"]
    assert (full["seeds"], full["skipped"]) == ([0], None)
    assert full["failed"] == {"seed": 1, "reason": "the loss is nan (Lower the rate.)"}
    assert any("seed 1 of full failed" in note and "the loss is nan" in note for note in said["notes"])
    assert "seed 1: the loss is nan" in Path("out/report/report.html").read_text()


@pytest.mark.usefixtures("_quick")
def test_a_first_seed_that_fails_leaves_the_rung_out_with_what_to_do(
    base: Path, costs: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    costs(dummy=0.1, full=0.2)
    _failing(monkeypatch, 0)
    result = call(tiny.multi_label(base), *options(base, "full"), "--out", "out", code=1)
    assert "full: the loss is nan (Lower the rate.)" in result.stderr


@pytest.mark.parametrize(
    "part", ["emotune.workflows.ladder_costs.TemporaryDirectory", "emotune.models.dummy.write_arrays"]
)
def test_a_full_disk_ends_the_ladder(part: str, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ladder, "rehearse", lambda *_: Ending(0.0, 0.0))
    monkeypatch.setattr(part, full)
    result = call(tiny.multi_label(base), *options(base, "dummy"), "--out", "out", code=73)
    assert "No space left" in result.stderr


@pytest.mark.usefixtures("_quick")
def test_what_was_chosen_on_the_rows_is_named_with_its_rungs(base: Path, costs: Callable[..., None]) -> None:
    costs(dummy=0.1, full=0.2)
    chosen = options(base, "dummy,full", "--set", "training.keep=best")
    said = as_json(tiny.multi_label(base), *chosen, "--seeds-max", 1)
    (note,) = (note for note in said["notes"] if "epoch" in note)
    assert note.startswith("full chose the epoch on these rows")


def test_settings_that_a_rung_cannot_take_name_it_and_the_others(base: Path) -> None:
    result = call(tiny.multi_label(base), *options(base, "tfidf,features,bilstm"), "--set", "model.layers=2", code=2)
    assert "the rung features cannot take it: --set model.layers" in result.stderr
    assert "--rungs tfidf,bilstm" in result.stderr
    alone = call(tiny.multi_label(base), *options(base, "features"), "--set", "model.layers=2", code=2)
    assert "--rungs" not in alone.stderr


def test_an_encoder_whose_configuration_is_no_object_is_refused(base: Path, tmp_path: Path) -> None:
    broken = tiny.copy(tiny.encoder(base), tmp_path / "broken")
    (broken / "config.json").write_text("[]")
    call(tiny.multi_label(base), "--encoder", broken, "--rungs", "features", code=1)
