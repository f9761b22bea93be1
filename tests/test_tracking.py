"""Trackers: what they are told, that they are imported only when asked for, and that none can end a training."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import yaml
from accelerate import tracking as accelerate_tracking
from typer.testing import CliRunner

import killing  # noqa: F401 -- it puts this folder on the path of child processes
import tiny
from emotune.cli.app import app
from emotune.cli.terminal import Terminal
from emotune.config.loading import load_config
from emotune.errors import ConfigError
from emotune.runs import tracking

PACKAGES = ("tensorboard", "wandb", "mlflow", "trackio")
EPOCHS = 3
STEPS = EPOCHS * 20  # 160 rows in batches of 8


class Fake:
    """A tracker as Accelerate has them, that keeps what it is told, prints, and fails where it should."""

    made: ClassVar[list[Fake]] = []
    fails_to: ClassVar[dict[str, str]] = {}

    def __init__(self, kind: str, project: str, /, *args: Any, **settings: Any) -> None:
        self.kind, self.project, self.args, self.settings = kind, project, args, settings
        self.configuration: dict[str, Any] = {}
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.tracker = SimpleNamespace(id="id-1", name="name-1", info=SimpleNamespace(run_id="run-1"))
        self.calls: list[str] = []
        Fake.made.append(self)

    def _called(self, verb: str) -> None:
        self.calls.append(verb)
        print(f"{self.kind} prints to stdout")
        if Fake.fails_to.get(self.kind) == verb:
            raise ConnectionError(f"cannot {verb}\nsecond line")

    def start(self) -> None:
        self._called("start")

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self._called("configure")
        self.configuration = values

    def log(self, values: dict[str, float], step: int) -> None:
        self._called("log")
        self.logged.append((step, values))

    def finish(self) -> None:
        self._called("finish")


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Fake]:
    """Packages that can be found, and trackers that send to nobody."""
    Fake.made, Fake.fails_to = [], {}
    for name in PACKAGES:
        (tmp_path / "packages" / name).mkdir(parents=True)
        (tmp_path / "packages" / name / "__init__.py").write_text("")
        monkeypatch.setitem(accelerate_tracking.LOGGER_TYPE_TO_CLASS, name, partial(Fake, name))
    monkeypatch.syspath_prepend(tmp_path / "packages")
    return Fake


@pytest.fixture
def train(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """`train("tracking.with=[wandb]")` trains a tiny model in `tmp_path/run` by the command line."""
    base = tmp_path_factory.getbasetemp()

    def run(*overrides: str, more: Sequence[str] = ()) -> Any:
        options = tiny.options(base, tiny.multi_label(base), epochs=EPOCHS)
        chosen = [part for override in overrides for part in ("--set", override)]
        return CliRunner().invoke(app, ["train", "starter", "--out", str(tmp_path / "run"), *options, *chosen, *more])

    return run


def tracked(*names: str) -> str:
    return f"tracking.with=[{', '.join(names)}]"


# What is logged


def test_a_tracker_gets_everything(fakes: type[Fake], train: Callable[..., Any], tmp_path: Path) -> None:
    result = train(tracked("mlflow"), "tracking.project=feelings", "optimizer.layer_decay=0.5")
    assert result.exit_code == 0, result.output
    (seen,) = fakes.made
    assert (seen.project, seen.settings) == ("feelings", {"run_name": "run"})
    assert (seen.calls[:2], seen.calls[-1]) == (["start", "configure"], "finish")
    assert seen.configuration["optimizer.layer_decay"] == 0.5
    assert seen.configuration["tracking.with"] == '["mlflow"]'
    assert all(isinstance(value, str | int | float) for value in seen.configuration.values())

    events = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    steps = [e for e in events if e["event"] == "step"]
    told = [(step, values) for step, values in seen.logged if "train/loss" in values]
    assert [(step, values["train/loss"]) for step, values in told] == [(e["step"], e["loss"]) for e in steps]
    for event, (_, values) in zip(steps, told, strict=True):
        rates = [values[f"rate/{part}"] for part in ("layer 1", "layer 0", "embeddings", "head")]
        assert rates == pytest.approx([event["rate"] * share for share in (1, 0.5, 0.25, 2)])

    epochs = [(step, values) for step, values in seen.logged if "epoch" in values]
    assert [step for step, _ in epochs] == [20, 40, 60]
    for event, (_, values) in zip((e for e in events if e["event"] == "epoch"), epochs, strict=True):
        assert {name: values[f"valid/{name}"] for name in event["metrics"]} == event["metrics"]
        assert values["train/epoch_loss"] == event["loss"]

    step, last = seen.logged[-1]
    assert step == STEPS
    assert set(last) >= {"final/macro_f1", "final/micro_f1", "final/loss"}


def test_the_log_has_the_rate_of_each_group(train: Callable[..., Any], tmp_path: Path) -> None:
    assert train("optimizer.layer_decay=0.5", "training.epochs=1").exit_code == 0
    start = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[0])
    found = {group["name"]: (group["lr"], group["weight_decay"]) for group in start["groups"]}
    assert found["layer 1"] == (5e-3, 0.01)
    assert found["layer 0, no decay"] == (2.5e-3, 0.0)
    assert found["head"] == (1e-2, 0.01)
    (head,) = (group for group in start["groups"] if group["name"] == "head, no decay")
    assert head["parameters"] == ["bert.pooler.dense.bias", "classifier.bias"]
    assert head["size"] == 32 + 3


def test_each_is_made_as_it_wants_to_be(fakes: type[Fake], train: Callable[..., Any], tmp_path: Path) -> None:
    assert train(tracked(*PACKAGES, "wandb"), "tracking.run_name=first", "training.epochs=1").exit_code == 0
    made = {fake.kind: fake for fake in fakes.made}
    assert len(made) == len(fakes.made) == 4
    folder = str(tmp_path / "run" / "tracking")
    assert (made["tensorboard"].project, made["tensorboard"].args) == ("tensorboard", (folder,))
    assert made["wandb"].settings == {"name": "first", "dir": folder, "settings": {"console": "off"}}
    assert made["mlflow"].settings == {"run_name": "first"}
    assert made["trackio"].settings == {"name": "first"}
    assert {made[name].project for name in ("wandb", "mlflow", "trackio")} == {"emotune"}


def test_a_tracked_run_can_be_replaced(fakes: type[Fake], train: Callable[..., Any], tmp_path: Path) -> None:
    assert train(tracked("wandb"), "training.epochs=1").exit_code == 0
    (tmp_path / "run" / "tracking" / "old").write_text("")
    assert train("training.epochs=1", more=["--overwrite"]).exit_code == 0
    assert not (tmp_path / "run" / "tracking").exists()


# Resuming


def stopped_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a training stop by an error after a step, as if it were killed."""

    def on_step(_: Terminal, report: Any) -> None:
        if report.step == step:
            raise MemoryError

    monkeypatch.setattr(Terminal, "on_step", on_step)


def test_a_resumed_run_continues_in_the_same_run_of_each_tracker(
    fakes: type[Fake], train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stopped_at(42, patch)
        train(tracked(*PACKAGES), "training.checkpoint_steps=15")
    assert len(fakes.made) == 4
    kept = json.loads((tmp_path / "run" / "tracking" / "trackers.json").read_text())
    assert kept["mlflow"] == {"id": "run-1", "last": [40, 2]}
    result = CliRunner().invoke(app, ["train", "--resume", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert "resuming from step 40" in result.stderr
    first, again = ({fake.kind: fake for fake in fakes.made[i : i + 4]} for i in (0, 4))
    assert again["wandb"].settings.items() >= {"id": "id-1", "resume": "allow"}.items()
    assert again["mlflow"].settings == {"run_name": "run", "run_id": "run-1"}
    assert again["trackio"].settings == {"name": "name-1", "resume": "allow"}
    assert again["tensorboard"].args == first["tensorboard"].args
    for name in PACKAGES:
        assert bool(again[name].configuration) == (name in ("trackio", "wandb"))  # the run of the others has it
        steps = [(step, "epoch" in values) for step, values in first[name].logged + again[name].logged]
        assert steps == [
            (1, False),
            (20, False),
            (20, True),
            (40, False),
            (40, True),
            (60, False),
            (60, True),
            (60, False),
        ]


def test_steps_after_the_checkpoint_are_sent_once(
    fakes: type[Fake], train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stopped_at(42, patch)
        train(tracked("mlflow"), "training.checkpoint_minutes=null")
    result = CliRunner().invoke(app, ["train", "--resume", str(tmp_path / "run")])
    assert "starting from scratch" in result.stderr
    first, again = fakes.made
    assert [step for step, _ in first.logged] == [1, 20, 20, 40, 40]
    assert [step for step, _ in again.logged] == [60, 60, 60]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"mlflow": 3}', '{"mlflow": {"id": "a", "last": [1]}}'])
def test_a_damaged_record_of_trackers_starts_new_runs(content: str, fakes: type[Fake], tmp_path: Path) -> None:
    from emotune.reporter import NullReporter

    (tmp_path / "tracking").mkdir()
    (tmp_path / "tracking" / "trackers.json").write_text(content)
    with tracking.RunObserver(load_config("starter", [tracked("mlflow")]), tmp_path, NullReporter()) as observer:
        observer.on_end({"loss": 0.25})
    assert fakes.made[0].settings == {"run_name": tmp_path.name}
    assert fakes.made[0].logged == [(0, {"final/loss": 0.25})]


# Failures


@pytest.mark.parametrize("verb", ["start", "configure", "log", "finish"])
def test_a_tracker_that_fails_is_left_out_with_one_warning(
    verb: str, fakes: type[Fake], train: Callable[..., Any], tmp_path: Path
) -> None:
    fakes.fails_to = {"wandb": verb}
    result = train(tracked("wandb", "mlflow"))
    assert result.exit_code == 0, result.output
    assert result.stderr.count("warning: wandb failed to ") == 1
    assert f"(cannot {verb}): continuing without it" in result.stderr
    assert "second line" not in result.stderr
    failed, sound = fakes.made
    assert failed.calls.count(verb) == 1
    assert failed.calls[-1] == verb
    assert sound.calls[-1] == "finish"
    assert sound.logged[-1][0] == STEPS
    assert (tmp_path / "run" / "model" / "emotune.json").is_file()


def test_trackers_change_neither_the_model_nor_stdout(
    fakes: type[Fake], train: Callable[..., Any], tmp_path: Path
) -> None:
    result = train(tracked("wandb", "mlflow"))
    assert result.stdout == f"model: {tmp_path / 'run' / 'model'}\n"
    assert "wandb prints to stdout" in result.stderr
    first = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    (tmp_path / "run").rename(tmp_path / "tracked")
    assert train().exit_code == 0
    assert (tmp_path / "run" / "model" / "model.safetensors").read_bytes() == first


def test_a_training_that_fails_closes_its_trackers(fakes: type[Fake], train: Callable[..., Any]) -> None:
    result = train(tracked("mlflow"), "optimizer.lr=1e30", "optimizer.clip_norm=null")
    assert result.exit_code == 70, result.output
    assert fakes.made[0].calls[-1] == "finish"


def test_what_is_not_finite_is_not_logged(fakes: type[Fake], tmp_path: Path) -> None:
    from emotune.reporter import NullReporter
    from emotune.training.progress import StepReport

    config = load_config("starter", [tracked("mlflow")])
    with tracking.RunObserver(config, tmp_path, NullReporter()) as observer:
        observer.on_step(StepReport(1, 1, 9, 0.5, 1e-3, None, 8))
        observer.on_step(StepReport(1, 20, 90, 0.5, 1e-3, float("inf"), 8))
        observer.on_end({"macro_f1": float("nan"), "loss": 0.25})
    assert fakes.made[0].logged == [(1, {"train/loss": 0.5}), (20, {"train/loss": 0.5}), (20, {"final/loss": 0.25})]


def test_a_missing_package_is_reported_before_data_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    command = ["train", "starter", "--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [*command, "--set", tracked("mlflow", "trackio")])
    assert result.exit_code == 1
    assert "tracking.with names mlflow, trackio, which is not installed" in result.stderr
    assert "pip install '.[mlflow,trackio]'" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_folder_of_results_is_no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "emotune_results").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert not tracking._is_installed("emotune_results")
    assert tracking._is_installed("json")


# --- the configuration -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tracking.with=[tensorbord]", r"tensorboard, wandb, mlflow, trackio, not 'tensorbord'\. Did you mean 'tensor"),
        ("tracking.with=wandb", r"tracking.with is a list, such as \[wandb\]"),
        ("tracking.whit=[wandb]", "unknown key 'tracking.whit'. Did you mean 'with'?"),
        ("tracking.trackers=[wandb]", "unknown key 'tracking.trackers'. Allowed: with, project, run_name"),
        ("with=[wandb]", "unknown key 'with'. Did you mean 'tracking.with'?"),
        ("tracking.project=''", "tracking.project String should have at least 1 character"),
    ],
)
def test_a_wrong_tracking_section_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("starter", [override])


def test_the_key_is_written_as_it_is_read(tmp_path: Path) -> None:
    config = load_config("starter", [tracked("wandb", "trackio")])
    assert "  with:\n  - wandb\n  - trackio\n" in config.to_yaml()
    (tmp_path / "own.yaml").write_text(config.to_yaml())
    assert load_config(str(tmp_path / "own.yaml")) == config


# --- real ones -------------------------------------------------------------------------------------------------------


def test_none_is_imported_by_a_training_without_it(train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        monkeypatch.delitem(sys.modules, name)
    assert train("training.epochs=1").exit_code == 0
    assert {name.partition(".")[0] for name in sys.modules}.isdisjoint(PACKAGES)


@pytest.mark.slow
def test_none_is_imported_with_all_that_trains() -> None:
    code = f"import sys, emotune.workflows.train; print(*sorted(set({PACKAGES}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_tensorboard_writes_what_it_gets(train: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train(tracked("tensorboard"))
    assert result.exit_code == 0, result.output
    assert "failed" not in result.stderr
    events = EventAccumulator(str(tmp_path / "run" / "tracking" / "tensorboard"))
    events.Reload()
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    for tag, event, key in (("train/loss", "step", "loss"), ("rate/encoder", "step", "rate")):
        expected = [(line["step"], pytest.approx(line[key])) for line in log if line["event"] == event]
        assert [(scalar.step, scalar.value) for scalar in events.Scalars(tag)] == expected
    expected = [pytest.approx(line["metrics"]["macro_f1"]) for line in log if line["event"] == "epoch"]
    assert [scalar.value for scalar in events.Scalars("valid/macro_f1")] == expected
    assert events.Scalars("final/macro_f1")[0].step == STEPS
    (hyperparameters,) = (tmp_path / "run" / "tracking" / "tensorboard").glob("*/hparams.yml")
    assert "optimizer.layer_decay: 1.0" in hyperparameters.read_text()


# --- each of them, killed and resumed --------------------------------------------------------------------------------


RUN = "import sys, killing; killing._main(sys.argv[4:], sys.argv[1], sys.argv[2] or None, int(sys.argv[3]))"
Store = dict[str, tuple[dict[str, Any], dict[str, list[tuple[int, float]]]]]


def read_tensorboard(place: Path) -> Store:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = place / "run" / "tracking" / "tensorboard"
    events = EventAccumulator(str(folder))
    events.Reload()
    (hyperparameters,) = folder.glob("*/hparams.yml")
    values = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    return {"first": (yaml.safe_load(hyperparameters.read_text()), values)}


def read_mlflow(place: Path) -> Store:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'feelings'")
    found: Store = {}
    for run in client.search_runs([experiment.experiment_id]):
        assert run.info.status == "FINISHED"
        histories = {tag: client.get_metric_history(run.info.run_id, tag) for tag in run.data.metrics}
        found[run.info.run_name] = (
            {key: yaml.safe_load(value) for key, value in run.data.params.items()},
            {tag: sorted((m.step, m.value) for m in history) for tag, history in histories.items()},
        )
    return found


def wandb_records(data: bytes) -> Iterator[bytes]:
    """The records of a file of W&B, which is a log of LevelDB with a header of seven bytes."""
    at, part = 7, b""
    while at + 7 <= len(data):
        room = 32768 - at % 32768
        length, kind = struct.unpack_from("<HB", data, at + 4)
        if room < 7 or kind == 0:  # the end of a block
            at += room
            continue
        part, at = part + data[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield part
            part = b""


def read_wandb(place: Path) -> Store:
    from wandb.proto.wandb_internal_pb2 import Record

    config, values, runs = dict[str, Any](), dict[str, list[tuple[int, float]]](), set[tuple[str, str]]()
    files = sorted(
        (place / "run" / "tracking" / "wandb").glob("offline-run-*/*.wandb"), key=lambda p: p.stat().st_mtime
    )
    assert len(files) == 2  # one for each process; `wandb sync` sends both to the same run
    for path in files:
        for data in wandb_records(path.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                runs.add((record.run.run_id, record.run.display_name))
            updates = [*record.config.update, *(record.run.config.update if record.HasField("run") else [])]
            config |= {item.key: json.loads(item.value_json) for item in updates}
            row = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            for key, value in row.items():
                if not key.startswith("_"):
                    values.setdefault(key, []).append((row["_step"], value))
    ((_, name),) = runs
    # what a killed process stored in its last seconds is sent again
    return {name: (config, {key: sorted(set(pairs)) for key, pairs in values.items()})}


def read_trackio(place: Path) -> Store:
    code = (
        "import json, sys; from trackio.sqlite_storage import SQLiteStorage as store;"
        "print(json.dumps({run: [store.get_run_config('feelings', run), store.get_logs('feelings', run)]"
        " for run in store.get_runs('feelings')}))"
    )
    found: Store = {}
    env = environment(place)
    said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    for name, (config, logs) in json.loads(said.splitlines()[-1]).items():
        values: dict[str, list[tuple[int, float]]] = {}
        for log in logs:
            for key, value in log.items():
                if key not in ("step", "timestamp"):
                    values.setdefault(key, []).append((log["step"], value))
        found[name] = config, values
    return found


READERS: dict[str, Callable[[Path], Store]] = {
    "tensorboard": read_tensorboard,
    "wandb": read_wandb,
    "mlflow": read_mlflow,
    "trackio": read_trackio,
}


def environment(place: Path) -> dict[str, str]:
    """The environment in which all trackers keep their files in a folder."""
    stores = {
        "WANDB_MODE": "offline",
        "MLFLOW_TRACKING_URI": f"sqlite:///{place / 'mlflow.db'}",
        "TRACKIO_DIR": str(place / "trackio"),
    }
    return os.environ | stores


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("nth", [5, 6], ids=["killed-before-step-40", "killed-before-epoch-2"])
@pytest.mark.parametrize("name", PACKAGES)
def test_a_killed_and_resumed_run_is_one_run_of_the_real_tracker(
    name: str, nth: int, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip(name)
    base = tmp_path_factory.getbasetemp()
    settings = [tracked(name), "tracking.project=feelings", "tracking.run_name=first", "training.checkpoint_steps=15"]
    options = tiny.options(base, tiny.multi_label(base), epochs=EPOCHS)
    train = ["train", "starter", *options, *(part for s in settings for part in ("--set", s)), "--out", "run"]

    def run(args: list[str], point: str = "") -> int:
        command = [sys.executable, "-c", RUN, "said", point, str(nth), *args]
        return subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), timeout=300).returncode

    assert run(train, "emotune.runs.tracking.write_event") == -9, (tmp_path / "said").read_text()
    assert run(["train", "--resume", "run"]) == 0, (tmp_path / "said").read_text()
    said = (tmp_path / "said").read_text()
    assert "resuming from step" in said
    assert "failed to" not in said
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    ((found, (config, values)),) = READERS[name](tmp_path).items()
    assert found == "first"
    assert (config["optimizer.layer_decay"], config["training.epochs"]) == (1.0, EPOCHS)
    for tag, event, key in (("train/loss", "step", "loss"), ("rate/encoder", "step", "rate")):
        expected = [(line["step"], pytest.approx(line[key])) for line in log if line["event"] == event]
        assert [step for step, _ in expected] == [1, 20, 40, 60]
        # Trackio sends from a thread of its own: what it has not sent before the kill is lost
        sent = len(values[tag]) if name == "trackio" else 4
        assert sent >= 1
        assert values[tag] == expected[-sent:]
    epochs = [line for line in log if line["event"] == "epoch"]
    expected = [(20 * line["epoch"], pytest.approx(line["metrics"]["macro_f1"])) for line in epochs]
    sent = len(values["valid/macro_f1"]) if name == "trackio" else len(expected)
    assert sent >= 1
    assert values["valid/macro_f1"] == expected[-sent:]
    assert [step for step, _ in values["final/macro_f1"]] == [STEPS]
