"""`emotune ladder` from end to end with tiny encoders: approaches, budget, resuming, refusals, and its report."""

import errno
import json
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import killing
import tiny
from emotune import hub
from emotune.cli.app import app
from emotune.cli.terminal import Terminal
from emotune.config import kinds
from emotune.config.kinds import TrainedKind, find_kind
from emotune.config.schema import Config
from emotune.config.settings import CheckpointConfig, EncoderConfig
from emotune.errors import TrainingError
from emotune.hub import Source
from emotune.labels import Task
from emotune.models import embedding
from emotune.training.progress import StepReport, TrainingReporter
from emotune.workflows import ladder
from emotune.workflows.train import Material

NAMES = ("dummy", "tfidf", "features", "bilstm", "frozen", "last-n", "full")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures, which take a second."""
    monkeypatch.setattr("emotune.reports.writer._write_pictures", lambda *_: {})


def call(data: object, *args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["ladder", str(data), *map(str, args)])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def options(base: Path, approaches: str, *more: object, budget: str = "10m", seeds: int = 1) -> list[object]:
    small = ("--set", "training.epochs=1", "--set", "training.precision=fp32")
    place = ("--encoder", tiny.encoder(base), "--seeds-max", seeds, "--out", "out")
    return ["--approaches", approaches, "--budget", budget, *place, *small, *more]


def as_json(data: object, *args: object) -> dict[str, Any]:
    return dict(json.loads(call(data, *args, "--json", "--quiet").stdout, parse_constant=pytest.fail))


def trained(out: Path = Path("out")) -> list[str]:
    return sorted(path.name for path in (out / "runs").glob("*") if (path / "model").exists())


@pytest.fixture(scope="module")
def finished(base: Path) -> Path:
    """A ladder with fitted and trained approaches; not to be changed."""
    args = options(base, "dummy,tfidf,full", seeds=2)
    return tiny.once(base, "ladder", lambda path: call(tiny.multi_label(base), *args, "--out", path))


# --- the result ------------------------------------------------------------------------------------------------


def test_tables_sentence_and_json(finished: Path, base: Path, tmp_path: Path) -> None:
    out = tiny.copy(finished, tmp_path / "copy")
    again = [tiny.multi_label(base), *options(base, "dummy,tfidf,full", seeds=2), "--out", out]
    before = tiny.contents(out / "runs")
    shown = call(*again)
    for part in ("macro-F1", "Hamming loss", "macro precision", "texts/s", "± 0.", "Approaches", "transformer"):
        assert part in shown.stdout
    assert "models trained: 4" in shown.stderr
    said = as_json(*again)
    assert said["spent_seconds"] == json.loads((finished / "ladder.json").read_text())["spent"]  # nothing was done
    assert tiny.contents(out / "runs") == before
    keys = {"name", "about", "expected_seconds", "seeds", "runs", "skipped", "failed"}
    assert all(set(rung) == keys and rung["expected_seconds"] > 0 for rung in said["rungs"])
    assert [(rung["name"], rung["seeds"]) for rung in said["rungs"]] == [
        ("dummy", [0]),
        ("tfidf", [0]),
        ("full", [0, 1]),
    ]
    by_name = {run["name"]: run for run in said["runs"]}
    assert by_name["full"]["sd_over_seeds"]["macro_f1"] is not None
    assert all(run["texts_per_second"] > 0 and run["bytes"] > 0 and run["training_seconds"] > 0 for run in said["runs"])
    assert set(said["worth"]) == {"sentence", "encoder", "other", "difference", "interval", "p_holm"}
    assert said["worth"]["encoder"] == "full"
    assert (said["budget_seconds"], said["report"]) == (600, str(out / "report" / "report.html"))
    assert said["rows"] == tiny.SPLITS["valid"]
    assert not [note for note in said["notes"] if "epoch" in note]  # none chose one


def test_the_report_and_the_runs(finished: Path) -> None:
    report = finished / "report"
    files = {"report.html", "report.md", "comparison.json", "quality_cost.png", "label_comparison.svg"}
    assert files <= {path.name for path in report.iterdir()}
    for file in ("report.html", "report.md"):
        assert "transformer" in (report / file).read_text()
        assert "word and character n-grams" in (report / file).read_text()
    runs = sorted((finished / "runs").iterdir())
    assert [run.name for run in runs] == ["dummy-0", "full-0", "full-1", "tfidf-0"]
    compared = CliRunner().invoke(app, ["compare", *map(str, runs), "--json", "--resamples", "100"])
    assert compared.exit_code == 0, compared.output
    ours = json.loads((report / "comparison.json").read_text())
    (tfidf,) = (run for run in ours["runs"] if run["name"] == "tfidf")
    (same,) = (run for run in json.loads(compared.stdout)["runs"] if run["name"] == "tfidf-0")
    assert tfidf["metrics"] == same["metrics"]


@pytest.mark.usefixtures("_quick")
def test_one_class_a_text_is_measured_by_accuracy(base: Path) -> None:
    args = ["--encoder", tiny.encoder(base), "--rungs", "dummy,frozen", "--set", "training.epochs=1"]  # the former name
    said = as_json(tiny.multi_class(base), *args, "--seeds-max", 1)
    assert (said["metric"], said["task"]) == ("accuracy", "multi_class")
    assert [run["name"] for run in said["rungs"]] == ["dummy", "frozen"]
    assert (Path("runs") / "ladder-multi_class" / "report" / "report.html").is_file()  # the default place


# --- the budget ------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """`clock(9)`: from now on a step of a network takes nine seconds, and nothing else takes time."""
    now = SimpleNamespace(seconds=0.0, step=0.0)

    def on_step(_terminal: Terminal, _report: StepReport) -> None:
        now.seconds += now.step

    fake = SimpleNamespace(monotonic=lambda: now.seconds)
    monkeypatch.setattr(ladder, "time", fake)
    monkeypatch.setattr("emotune.cli.ladder.time", fake)
    monkeypatch.setattr(Terminal, "on_step", on_step)
    return lambda step: setattr(now, "step", step)


@pytest.mark.usefixtures("_quick")
def test_a_slow_training_is_stopped_and_a_larger_budget_resumes(
    base: Path, clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    args = [tiny.multi_label(base), *options(base, "dummy,full", "--set", "training.checkpoint_steps=2")]
    clock(60)
    shown = call(*args)
    assert "warning: full, seed 0: it was stopped after 4 steps" in shown.stderr
    assert trained() == ["dummy-0"]
    said = as_json(*args)  # it is tried again from its checkpoint, and still too slow
    assert said["spent_seconds"] == 240 + 180
    assert said["rungs"][1]["expected_seconds"] == 1200
    assert "it would take about 15.0 min more, and 3.1 min of the budget" in said["rungs"][1]["skipped"]
    assert "a larger --budget trains it" in said["rungs"][1]["skipped"]
    assert said["worth"]["encoder"] is None
    clock(1)
    resumed = call(*args, "--budget", "25m")
    assert "from step 4 of 20" in resumed.stderr
    assert trained() == ["dummy-0", "full-0"]


@pytest.mark.usefixtures("_quick")
def test_the_pace_of_the_training_is_not_that_of_a_later_phase(
    base: Path, clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_on(*args: Any, reporter: TrainingReporter, **more: Any) -> object:
        outcome = original(*args, reporter=reporter, **more)
        for done in range(64, 6401, 64):  # as the emoji are learnt after the steps
            reporter.on_progress(done, 6400)
        return outcome

    original = ladder.train_on
    monkeypatch.setattr(ladder, "train_on", train_on)
    clock(9)
    call(tiny.multi_label(base), *options(base, "full"))
    assert trained() == ["full-0"]


@pytest.mark.usefixtures("_quick")
def test_a_training_ends_within_a_tenth_of_the_budget(base: Path, clock: Callable[[float], None]) -> None:
    clock(9)
    args = [tiny.multi_label(base), *options(base, "dummy,frozen,last-n,full", budget="5m", seeds=9)]
    said = as_json(*args)
    assert 0.5 * 300 < said["spent_seconds"] <= 1.1 * 300
    assert [rung["seeds"] for rung in said["rungs"]] == [[0], [0], [], []]  # 180 seconds each


@pytest.mark.usefixtures("_quick")
def test_a_seed_that_does_not_fit_is_not_started(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emotune.runs.log.training_seconds", lambda _: 590.0)
    result = call(tiny.multi_label(base), *options(base, "frozen", seeds=2))
    assert "frozen, seed 0: " in result.stderr
    assert "frozen, seed 1: " not in result.stderr
    assert trained() == ["frozen-0"]


@pytest.mark.usefixtures("_quick")
def test_one_seed_of_each_cheapest_first_then_more(base: Path) -> None:
    result = call(tiny.multi_label(base), *options(base, "full,tfidf,frozen", seeds=2))
    order = [line.partition(": ")[0] for line in result.stderr.splitlines() if "of the budget are left" in line]
    assert order == ["tfidf, seed 0", "frozen, seed 0", "full, seed 0", "frozen, seed 1", "full, seed 1"]


@pytest.mark.usefixtures("_quick")
def test_a_fitted_kind_that_was_started_runs_to_its_end(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, train_on = SimpleNamespace(seconds=0.0), ladder.train_on

    def slow(*args: Any, **more: Any) -> object:
        now.seconds += 700
        return train_on(*args, **more)

    monkeypatch.setattr(ladder, "train_on", slow)
    monkeypatch.setattr(ladder, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    monkeypatch.setattr("emotune.cli.ladder.time", ladder.time)
    result = call(tiny.multi_label(base), *options(base, "tfidf,features"))
    assert trained() == ["tfidf-0"]
    assert result.stdout.count("the budget of 10.0 min is used up") == 1
    said = as_json(tiny.multi_label(base), *options(base, "tfidf,features", budget="1h"))
    assert [rung["seeds"] for rung in said["rungs"]] == [[0], [0]]


@pytest.mark.usefixtures("_quick")
def test_slow_embeddings_are_stopped(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = SimpleNamespace(seconds=0.0)

    def on_progress(_terminal: Terminal, _done: int, _whole: int) -> None:
        now.seconds += 200

    monkeypatch.setattr(embedding, "_CHUNK", 40)  # of 160 training texts
    monkeypatch.setattr(Terminal, "on_progress", on_progress)
    monkeypatch.setattr(ladder, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    monkeypatch.setattr("emotune.cli.ladder.time", ladder.time)
    said = as_json(tiny.multi_label(base), *options(base, "dummy,features"))
    assert trained() == ["dummy-0"]
    assert "stopped after 80 texts" in said["rungs"][1]["skipped"]
    assert said["spent_seconds"] == 400  # of 600


@pytest.mark.usefixtures("_quick")
def test_no_time_at_all_names_the_reasons(base: Path) -> None:
    result = call(tiny.multi_label(base), *options(base, "dummy,full", budget="1s"), code=1)
    assert "no approach was trained:\n  dummy: the budget of 1.0 s is used up" in result.stderr
    assert "--budget" in result.stderr


@pytest.mark.parametrize("budget", ["", "20", "m", "20x", "-3m", "0s", "1m1h"])
def test_a_budget_is_a_time(budget: str) -> None:
    assert "90s, 20m or 1h30m" in call("data", "--budget", budget, code=2).stderr


# --- resuming --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_quick")
def test_interrupted_it_resumes_even_after_the_last_step(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def at_the_end(_: Terminal, report: StepReport) -> None:
        if report.step == report.num_steps:
            signal.raise_signal(signal.SIGINT)

    args = [tiny.multi_label(base), *options(base, "dummy,frozen,full")]
    monkeypatch.setattr(Terminal, "on_step", at_the_end)
    assert "interrupted; the same command resumes: out" in call(*args, code=130).stderr
    assert trained() == ["dummy-0", "frozen-0"]
    before = tiny.contents(Path("out/runs/frozen-0"))
    monkeypatch.setattr(Terminal, "on_step", lambda *_: None)
    assert "models trained: 2" in call(*args).stderr
    assert trained() == ["dummy-0", "frozen-0", "full-0"]
    assert tiny.contents(Path("out/runs/frozen-0")) == before


def test_killed_in_a_training_it_resumes_to_the_same_weights(base: Path, finished: Path) -> None:
    args = [tiny.multi_label(base), *options(base, "dummy,full", "--set", "training.checkpoint_steps=5")]
    command = ["ladder", *map(str, args)]
    assert killing.emotune(command, Path("said"), kill="done", nth=2) == -9
    Path("out/runs/dummy-0/valid.safetensors").write_bytes(b"torn")
    assert killing.emotune(command, Path("said")) == 0
    said = Path("said").read_text()
    assert "from step 10 of 20" in said
    assert "dummy-0 is trained again" in said
    for file in ("model.safetensors", "decision.json"):
        assert (Path("out/runs/full-0/model") / file).read_bytes() == (
            finished / "runs/full-0/model" / file
        ).read_bytes()
    assert not Path("out/.lock").exists()


@pytest.mark.usefixtures("_quick")
def test_other_data_settings_or_devices_are_refused(finished: Path, base: Path) -> None:
    tiny.copy(finished, Path("out"))
    same = options(base, "dummy,tfidf,full")
    before = tiny.contents(Path("out"))
    other = call(tiny.multi_class(base), *same, code=65)
    assert "the train split is not the one" in other.stderr
    changed = call(tiny.multi_label(base), *same, "--set", "training.batch_size=4", code=2)
    assert "training.batch_size is 4, and 32 in the run" in changed.stderr
    assert "--overwrite" in changed.stderr
    assert tiny.contents(Path("out")) == before
    content = json.loads(Path("out/ladder.json").read_text())
    Path("out/ladder.json").write_text(json.dumps(content | {"device": "cuda"}))
    assert "--device cuda" in call(tiny.multi_label(base), *same, code=2).stderr
    call(tiny.multi_label(base), *same, "--approaches", "dummy", "--overwrite")
    assert trained() == ["dummy-0"]


@pytest.mark.usefixtures("_quick")
def test_a_ladder_of_an_earlier_version_is_resumed(finished: Path, base: Path) -> None:
    tiny.copy(finished, Path("out"))
    Path("out/.probe-x1").mkdir()  # left by a killed process
    content = json.loads(Path("out/ladder.json").read_text())
    rungs = {"full": {"per_step": 9.0, "steps": 20, "texts_per_second": 5.0, "config": {"name": "full"}}}
    Path("out/ladder.json").write_text(json.dumps(content | {"spent": 7.5, "rungs": rungs}))
    said = as_json(tiny.multi_label(base), *options(base, "dummy,tfidf,full", seeds=2))
    assert (said["spent_seconds"], [rung["seeds"] for rung in said["rungs"]]) == (7.5, [[0], [0], [0, 1]])


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"format_version": 2}', '{"format_version": 1, "spent": "long"}', '{"spent": -1e999}', "0" * 99],
)
def test_an_invalid_ladder_file_is_refused(content: str, finished: Path, base: Path) -> None:
    tiny.copy(finished, Path("out"))
    Path("out/ladder.json").write_text(content)
    assert "ladder.json" in call(tiny.multi_label(base), *options(base, "dummy"), code=65).stderr


@pytest.mark.usefixtures("_quick")
def test_a_folder_of_somebody_else_is_left_alone(base: Path, finished: Path) -> None:
    mine = Path("mine/runs/letter.txt")
    mine.parent.mkdir(parents=True)
    mine.write_text("dear diary")
    for more in (["--overwrite"], []):
        result = call(tiny.multi_label(base), *options(base, "dummy"), "--out", "mine", *more, code=73)
        assert "not a ladder" in result.stderr
    assert (
        "letter.txt: cannot write"
        in call(tiny.multi_label(base), *options(base, "dummy"), "--out", mine, code=73).stderr
    )
    assert mine.read_text() == "dear diary"
    beside = tiny.copy(finished, Path("out")) / "runs" / "tfidf-0" / "notes.txt"
    beside.write_text("mine")
    call(tiny.multi_label(base), *options(base, "tfidf"))
    assert beside.read_text() == "mine"


def test_a_ladder_runs_in_one_process(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "one process" in call(tiny.multi_label(base), *options(base, "dummy"), code=2).stderr


# --- what is skipped or refused --------------------------------------------------------------------------------


def _table(header: str, rows: list[str]) -> Path:
    path = Path("data.csv")
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def _texts(number: int) -> list[str]:
    return tiny.texts(number, lambda i: [tiny.CUES["joy"][i % 2]] if i % 2 else [])


@pytest.mark.usefixtures("_quick")
def test_twenty_rows_and_a_label_with_one_example(base: Path) -> None:
    rows = [f"{text},{i % 2},{int(i == 3)}" for i, text in enumerate(_texts(20))]
    said = as_json(_table("text,joy,rare", rows), *options(base, "dummy,tfidf,full"))
    assert [rung["skipped"] for rung in said["rungs"]] == [None] * 3
    assert any("rare" in warning for warning in said["warnings"])


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([f"{text},1" for text in _texts(40)], "there is nothing to learn"),
        ([f"{text},{i % 2}" for i, text in enumerate(_texts(12))], "1 validation rows are too few"),
    ],
)
def test_data_without_anything_to_learn_is_refused(rows: list[str], told: str, base: Path) -> None:
    data = _table("text,joy", rows)
    result = call(data, *options(base, "dummy"), "--set", "data.split=[0.9,0.1,0.0]", code=65)
    assert told in result.stderr
    assert not Path("out").exists()


@pytest.mark.usefixtures("_quick")
def test_skipped_approaches_have_their_reason(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: object) -> None:
        raise ImportError("No module named 'somelib'", name="somelib")

    monkeypatch.setattr("emotune.models.features.fit", fit)
    args = options(base, "dummy,tfidf,features", "--set", "model.min_df=1000")
    said = as_json(tiny.multi_label(base), *args)
    assert [rung["seeds"] for rung in said["rungs"]] == [[0], [], []]
    assert "model.min_df" in said["rungs"][1]["skipped"]
    assert "somelib, which is not installed" in said["rungs"][2]["skipped"]
    assert sum("skipped: tfidf" in note for note in said["notes"]) == 1


@pytest.mark.usefixtures("_quick")
def test_without_the_default_encoder_the_others_are_trained(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "DEFAULT_ENCODER", "./nowhere")
    monkeypatch.setattr("emotune.hub.resolve_encoder", _without_default(hub.resolve_encoder))
    args = ["--approaches", "dummy,features", "--out", "out"]
    assert "no encoder" in as_json(tiny.multi_label(base), *args)["rungs"][1]["skipped"]
    assert "no encoder './gone'" in call(tiny.multi_label(base), "--encoder", "./gone", code=66).stderr


def _without_default(resolve: Callable[..., Source]) -> Callable[..., Source]:
    return lambda name, revision=None: resolve("./nowhere" if name == kinds.DEFAULT_ENCODER else name, revision)


@pytest.mark.usefixtures("_quick")
def test_a_failing_seed_has_its_reason(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_on = ladder.train_on

    def train(material: Material, *rest: Any, **more: Any) -> object:
        if (material.config.name, material.config.training.seed) in (("frozen", 0), ("full", 1)):
            raise TrainingError("the loss is nan", hint="Lower the rate.")
        return train_on(material, *rest, **more)

    monkeypatch.setattr(ladder, "train_on", train)
    result = call(tiny.multi_label(base), *options(base, "frozen,full", "--json", seeds=2))
    assert "warning: full, seed 1: the loss is nan (Lower the rate.)" in result.stderr
    frozen, full = json.loads(result.stdout)["rungs"]
    assert (frozen["seeds"], frozen["skipped"], frozen["failed"]) == ([], "the loss is nan (Lower the rate.)", None)
    assert (full["seeds"], full["skipped"]) == ([0], None)
    assert full["failed"] == {"seed": 1, "reason": "the loss is nan (Lower the rate.)"}
    assert (
        "seed 1 of full failed, and no other was started: the loss is nan" in Path("out/report/report.html").read_text()
    )


def test_a_full_disk_ends_the_ladder(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("emotune.models.dummy.write_arrays", full)
    assert "No space left" in call(tiny.multi_label(base), *options(base, "dummy"), code=73).stderr


@pytest.mark.usefixtures("_quick")
def test_a_chosen_epoch_is_noted(base: Path) -> None:
    said = as_json(tiny.multi_label(base), *options(base, "dummy,full", "--set", "training.keep=best"))
    (note,) = (note for note in said["notes"] if "epoch" in note)
    assert note.startswith("full chose the epoch on these rows")


@pytest.mark.parametrize(
    ("approaches", "override", "told"),
    [
        ("dummy,full", "model.kind=tfidf", "--approaches"),
        ("dummy,full", "model.freeze=all", "--approaches"),
        ("dummy,full", "model.encoder=x", "--encoder"),
        ("dummy,full", "data.path=x", "DATA, --encoder and --approaches"),
        ("dummy,full", "training.folds=3", "on all rows"),
        ("dummy,full", "model.max_lenght=64", "Did you mean 'model.max_length'?"),
        ("tfidf,features,bilstm", "model.layers=2", "--approaches selects"),
        ("features", "model.layers=2", "the approach features cannot take it: --set model.layers"),
        ("tfdif", "training.epochs=1", "Did you mean 'tfidf'"),
        (",", "training.epochs=1", "Allowed: dummy, tfidf"),
    ],
)
def test_settings_that_a_ladder_cannot_take(approaches: str, override: str, told: str, base: Path) -> None:
    result = call(tiny.multi_label(base), *options(base, approaches), "--set", override, code=2)
    assert told in result.stderr
    assert not Path("out").exists()


def test_an_encoder_with_an_invalid_configuration(base: Path) -> None:
    broken = tiny.copy(tiny.encoder(base), Path("broken"))
    (broken / "config.json").write_text("[]")
    result = call(tiny.multi_label(base), *options(base, "features"), "--encoder", broken, code=65)
    assert "config.json" in result.stderr


# --- the recipe ------------------------------------------------------------------------------------------------


MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "model_type": "bert"}


def configured(name: str, rows: int = 2_000, task: Task = Task.MULTI_LABEL, **encoder: Any) -> Config:
    return ladder.configuration(name, rows, task, MINILM | encoder, ())


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("rows", [20, 2_000, 16_000, 43_000, 1_000_000])
@pytest.mark.parametrize("name", NAMES)
def test_each_approach_has_settings_for_any_data(name: str, rows: int, task: Task) -> None:
    config = configured(name, rows, task)
    assert config.name == name
    if isinstance(find_kind(config.model.kind), TrainedKind):
        assert isinstance(config.model, CheckpointConfig)
        assert config.training.epochs * rows / config.training.batch_size >= 30  # steps, enough to learn something
        assert config.training.metric == ("accuracy" if task is Task.MULTI_CLASS else "macro_f1")
        # the best epoch would be chosen on the rows of the comparison
        assert (config.training.keep, config.training.patience) == ("last", None)
        assert config.training.checkpoint_minutes


def test_the_settings_follow_the_encoder() -> None:
    assert tuple(ladder.RECIPE["approaches"]) == NAMES
    models = {name: configured(name).model for name in NAMES[-3:]}
    frozen = {name: model.freeze for name, model in models.items() if isinstance(model, EncoderConfig)}
    assert frozen == {"frozen": "all", "last-n": "last_n", "full": "none"}
    rates = [configured("full", hidden_size=width).optimizer.lr for width in (128, 384, 768, 1024)]
    assert rates[0] == rates[1] > rates[2] > rates[3]
    assert 2e-5 < rates[2] < 5e-5
    for name, rows, family, expected in (
        ("full", 2_000, "bert", True),
        ("full", 43_000, "bert", False),
        ("frozen", 43_000, "bert", True),
        ("full", 2_000, "distilbert", False),
    ):
        model = configured(name, rows, model_type=family).model.model_dump()
        assert (model["pooling"] == "mean") == expected
    for layers, read in ((None, [-1]), (2, [-1]), (6, [-4, -1])):
        assert configured("features", num_hidden_layers=layers).model.model_dump()["layers"] == read
    assert configured("full", hidden_size=None, dim=768).optimizer.lr == rates[2]  # as distilbert names its width
    assert configured("full", hidden_size="wide").optimizer.lr == rates[0]
