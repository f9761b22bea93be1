"""The table of the ladder's rungs: settings for every size of data and either task, and what `--set` may change."""

import json
from pathlib import Path

import pytest

from emotune.config.kinds import CheckpointConfig, EncoderConfig, NetworkConfig
from emotune.config.schema import Config, DataConfig
from emotune.errors import ConfigError, UsageError
from emotune.labels import Task
from emotune.workflows.rungs import NAMES, RUNGS, Rung, Shape, chosen, configuration, require_overrides

MINILM = Shape("bert", 384, 6)
FULL = next(rung for rung in RUNGS if rung.name == "full")
FROZEN = next(rung for rung in RUNGS if rung.name == "frozen")


def configured(
    rung: Rung, rows: int = 2_000, shape: Shape = MINILM, task: Task = Task.MULTI_LABEL, overrides: tuple[str, ...] = ()
) -> Config:
    return configuration(rung, DataConfig(path="data"), rows, task, shape, "some/encoder", overrides)


def model(config: Config) -> EncoderConfig:
    assert isinstance(config.model, EncoderConfig)
    return config.model


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("rows", [20, 2_000, 16_000, 43_000, 1_000_000])
@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
def test_each_rung_has_settings_for_any_data(rung: Rung, rows: int, task: Task) -> None:
    config = configured(rung, rows, task=task)
    assert (config.name, config.model.kind, config.data.path) == (rung.name, rung.kind, "data")
    if isinstance(config.model, CheckpointConfig):
        assert config.model.encoder == "some/encoder"
    if isinstance(config.model, NetworkConfig):
        steps = config.training.epochs * rows / config.training.batch_size
        assert steps >= 30  # enough to learn something from
        assert config.training.metric == ("accuracy" if task is Task.MULTI_CLASS else "macro_f1")
        # the rows that would name the best epoch are those that the rungs are compared on
        assert (config.training.keep, config.training.patience) == ("last", None)
        assert config.training.checkpoint_minutes  # or a ladder that was killed begins the rung anew


def test_the_rungs_of_an_encoder_differ_in_what_is_frozen() -> None:
    frozen = {rung.name: model(configured(rung)).freeze for rung in RUNGS if rung.kind == "encoder"}
    assert frozen == {"frozen": "all", "last-n": "last_n", "full": "none"}


def test_a_wider_encoder_takes_smaller_steps() -> None:
    rates = [configured(FULL, shape=Shape("bert", width, 12)).optimizer.lr for width in (128, 384, 768, 1024)]
    assert rates[0] == rates[1] > rates[2] > rates[3]
    assert 2e-5 < rates[2] < 5e-5


def test_the_mean_is_read_where_a_class_can_say_it_and_rows_are_few() -> None:
    assert model(configured(FULL)).pooling == "mean"
    assert model(configured(FULL, rows=43_000)).pooling != "mean"
    assert model(configured(FROZEN, rows=43_000)).pooling == "mean"
    assert model(configured(FULL, shape=Shape("modernbert", 768, 22))).pooling != "mean"


def test_shapes_are_read_from_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "distilbert", "dim": 768, "n_layers": 6}))
    assert Shape.read(tmp_path) == Shape("distilbert", 768, 6)
    assert Shape.read(tmp_path / "nowhere") == Shape()
    for content in ("[]", "{", "7"):
        (tmp_path / "config.json").write_text(content)
        assert Shape.read(tmp_path) == Shape()


def test_set_is_laid_over_the_rungs_that_have_the_key() -> None:
    overrides = ("model.max_length=64", "model.C=7.0", "training.epochs=9")
    require_overrides(overrides, RUNGS)
    for rung in RUNGS:
        config = configured(rung, overrides=overrides)
        assert getattr(config.model, "max_length", 64) == 64
        assert getattr(config.model, "C", 7.0) == 7.0
        assert config.training.epochs == 9


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("model.kind=tfidf", "--rungs"),
        ("model.freeze=all", "--rungs"),
        ("model.encoder=x", "--encoder"),
        ("data.path=x", "the argument DATA"),
        ("training.folds=3", "on all rows"),
        ("model.max_lenght=64", "Did you mean 'max_length'?"),
    ],
)
def test_set_cannot_mean_what_makes_a_rung_or_is_no_key(override: str, told: str) -> None:
    with pytest.raises(ConfigError, match=r"--set") as raised:
        require_overrides([override], RUNGS)
    assert told in str(raised.value)


def test_rungs_are_chosen_by_name_in_the_order_of_the_ladder() -> None:
    assert [rung.name for rung in chosen(["full", "dummy"])] == ["dummy", "full"]
    assert tuple(rung.name for rung in chosen(None)) == NAMES
    with pytest.raises(UsageError, match="Did you mean 'tfidf'"):
        chosen(["tfdif"])
    with pytest.raises(UsageError, match="names no rung"):
        chosen([])
