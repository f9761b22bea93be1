"""Recipes, YAML files and `--set`: valid ones are read, others are refused with their place."""

from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from emotune.config.loading import load_config, recipe_names
from emotune.config.schema import Config, DataConfig
from emotune.errors import ConfigError, EmotuneError, MissingInputError

ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=60)


@pytest.fixture
def write(tmp_path: Path):
    def to_file(content: str | bytes, name: str = "own.yaml") -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return to_file


def refusal(recipe: str, *overrides: str) -> str:
    """The error of a configuration, without the folder of its file."""
    with pytest.raises(ConfigError) as caught:
        load_config(recipe, overrides)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(str(Path(recipe).parent) + "/", "") if "/" in recipe else str(caught.value)


# Recipes


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_loads_under_its_own_name(name: str) -> None:
    config = load_config(name)
    assert config.name == name
    assert config.about


def test_the_tinybert_project() -> None:
    config = load_config("goemotions-tinybert")
    assert config.model.encoder == "huawei-noah/TinyBERT_General_4L_312D"
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (2e-5, 0.01)
    assert (config.training.batch_size, config.training.epochs, config.model.max_length) == (16, 4, 128)
    assert config.model.freeze == "none"
    assert not config.model.freeze_word_embeddings


def test_the_distilbert_project() -> None:
    config = load_config("emotion-distilbert")
    assert config.model.encoder.removeprefix("distilbert/") == "distilbert-base-uncased"
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (2e-5, 0.01)
    assert (config.training.batch_size, config.training.epochs) == (64, 2)
    assert config.model.freeze == "none"
    assert not config.model.freeze_word_embeddings


@pytest.mark.parametrize(
    ("recipe", "freeze", "last_n"),
    [
        ("semeval2025-bert", "none", None),
        ("semeval2025-bert-last5", "last_n", 5),
        ("semeval2025-bert-frozen", "all", None),
    ],
)
def test_the_bert_project_in_its_three_modes(recipe: str, freeze: str, last_n: int | None) -> None:
    config = load_config(recipe)
    assert config.model.encoder.removeprefix("google-bert/") == "bert-base-uncased"
    assert (config.optimizer.lr, config.optimizer.weight_decay, config.optimizer.warmup) == (3e-5, 0.05, 0.1)
    assert (config.training.batch_size, config.training.epochs, config.training.patience) == (16, 10, 2)
    assert config.loss.weights == "max_ratio"
    assert config.model.freeze == freeze
    assert last_n is None or config.model.last_n == last_n


def test_a_folder_of_the_same_name_does_not_hide_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("goemotions").mkdir()
    assert load_config("goemotions").name == "goemotions"


@pytest.mark.parametrize("name", ["goemotion", "geomotions", "GOEMOTION"])
def test_an_unknown_recipe_is_refused_with_the_nearest(name: str) -> None:
    assert f"no recipe {name!r}" in refusal(name)
    assert "Did you mean 'goemotions'?" in refusal(name)


def test_a_kind_of_model_is_told_from_a_recipe() -> None:
    assert "set it with --set model.kind=tfidf" in refusal("tfidf")


@pytest.mark.parametrize("name", ["absent.yaml", "absent.yml", "."])
def test_a_missing_file_names_the_recipes(name: str) -> None:
    with pytest.raises(MissingInputError) as caught:
        load_config(name)
    assert caught.value.exit_code == 66
    assert name in str(caught.value)
    assert all(recipe in str(caught.value) for recipe in recipe_names())


# Files


def test_a_file_overrides_the_recipe_it_extends_key_by_key(write) -> None:
    config = load_config(write("extends: semeval2025-bert\nname: mine\ntraining:\n  epochs: 1\n"))
    parent = load_config("semeval2025-bert")
    assert config.name == "mine"
    assert config.training == parent.training.model_copy(update={"epochs": 1})
    assert config.optimizer == parent.optimizer


@pytest.mark.parametrize("text", ["training:\n", "training: {}\n", "training: null\nmodel:\n", "name: run\n"])
def test_an_empty_section_is_the_default(write, text: str) -> None:
    assert load_config(write(text)) == Config()


@pytest.mark.parametrize("number", ["1e-4", "1.0e-4", "0.0001", "1E-4", "'1e-4'"])
def test_a_number_may_be_written_in_any_way(write, number: str) -> None:
    text = f"optimizer:\n  lr: {number}\n  head_lr: {number}\n  betas: [9e-1, {number}]\n"
    optimizer = load_config(write(text)).optimizer
    assert (optimizer.lr, optimizer.head_lr, optimizer.betas) == (1e-4, 1e-4, [0.9, 1e-4])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainning:\n  epochs: 3\n", "own.yaml:1: unknown key 'trainning'. Did you mean 'training'?"),
        ("\ntraining:\n  epoch: 3\n", "own.yaml:3: unknown key 'training.epoch'. Did you mean 'epochs'?"),
        ("training:\n  lr: 1\n", "own.yaml:2: unknown key 'training.lr'. Did you mean 'optimizer.lr'?"),
        ("extend: goemotions\n", "own.yaml:1: unknown key 'extend'. Did you mean 'extends'?"),
        ("1: 2\n", "own.yaml:1: unknown key '1'. Allowed: name, "),
        ("<<: {name: a}\n", "own.yaml:1: unknown key '<<'"),
        ("extends: emotion\ntraining:\n  epoch: 3\n", "own.yaml:3: unknown key 'training.epoch'"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_and_its_line(write, text: str, message: str) -> None:
    assert refusal(write(text)).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training:\n  epochs: 3.0\n", "own.yaml:2: training.epochs should be a valid integer (found 3.0)"),
        ("training:\n  epochs: many\n", "own.yaml:2: training.epochs should be a valid integer (found 'many')"),
        ("training: {seed: true}\n", "own.yaml:1: training.seed should be a valid integer (found True)"),
        ("training:\n  epochs: 0\n", "own.yaml:2: training.epochs should be greater than or equal to 1 (found 0)"),
        ("optimizer:\n  lr: fast\n", "own.yaml:2: optimizer.lr should be a valid number (found 'fast')"),
        ("optimizer:\n  lr: .nan\n", "own.yaml:2: optimizer.lr should be a finite number"),
        ("optimizer:\n  lr: true\n", "own.yaml:2: optimizer.lr should be a valid number"),
        ("optimizer:\n  betas: [0.9,\n   1.5]\n", "own.yaml:3: optimizer.betas.1 should be less than 1"),
        ("data: 5\n", "own.yaml:1: data is a section with keys of its own (path, "),
        ("data:\n  path: {a: 1}\n", "own.yaml:2: data.path should be a valid string (found {'a': 1})"),
        ("data:\n  labels:\n  - a\n  - 1\n", "own.yaml:4: data.labels.1 should be a valid string; put quotes"),
        ("data:\n  labels: joy\n", "own.yaml:2: data.labels is a list, such as [joy], not 'joy'"),
        (
            "model:\n  layers: 0\n",
            "own.yaml:2: model.layers is a number of layers, or a list of layers from the bottom",
        ),
        ("model:\n  layers: [3,\n   1]\n", "own.yaml:2: model.layers is a number of layers, or a list"),
        ("model: {layers: true}\n", "own.yaml:1: model.layers is a number of layers"),
        (
            "data:\n  split: [1, 2, 3]\n",
            "own.yaml:2: data.split needs three fractions (train, valid, test) that add up",
        ),
        (
            "tuning:\n  method: sharnk\n",
            "own.yaml:2: tuning.method is one of auto, none, global, per_label, shrunk,",
        ),
        ("tuning:\n  method: shrank\n", "Did you mean 'shrunk'?"),
        ("name: 2024-11-05\n", "own.yaml:1: name should be a valid string"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line(write, text: str, message: str) -> None:
    assert message in refusal(write(text))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("data:\n  labels: [yes, no]\n", "own.yaml:2: data.labels.0: "),
        ("data:\n  labels:\n  - joy\n  - off\n", "own.yaml:4: data.labels.1: "),
        ("tuning:\n  method: no\n", "own.yaml:2: tuning.method: "),
    ],
)
def test_a_word_that_yaml_reads_as_a_boolean_is_explained(write, text: str, place: str) -> None:
    message = refusal(write(text))
    assert message.startswith(place)
    assert "put quotes around the word" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "own.yaml: a configuration is a mapping of sections"),
        ("# nothing\n", "own.yaml: a configuration is a mapping of sections"),
        ("- a\n- b\n", "own.yaml: a configuration is a mapping of sections"),
        ("just words\n", "own.yaml: a configuration is a mapping of sections"),
        ("name: a\ndata: [\n", "own.yaml:3: not valid YAML"),
        ("data:\n\tpath: x\n", "own.yaml:2: not valid YAML: found character '\\t'"),
        ("name: a\n---\nname: b\n", "own.yaml:2: not valid YAML"),
        ("name: a\n? [b]\n: c\n", "own.yaml:2: a key is a word"),
        ("name: a\nabout: !!python/object/apply:os.system [ls]\n", "own.yaml:2: not valid YAML: could not determine"),
        ("name: a\nabout: 2024-13-45\n", "own.yaml:2: cannot read '2024-13-45'"),
        ("about: !!bool perhaps\n", "own.yaml:1: cannot read 'perhaps'"),
        ("[" * 5000, "own.yaml: nested too deeply"),
        (b"name: a\nabout: \xff\xfe\n", "own.yaml:2: not UTF-8 text"),
        (b"name: a\nabout: b\x00\n", "own.yaml:2: not valid YAML: the character U+0000 is not allowed"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "own.yaml:1: not UTF-8 text"),
        (b"#" * (2 << 20), "own.yaml: larger than"),
    ],
)
def test_invalid_files_are_refused_with_their_place(write, content: str | bytes, message: str) -> None:
    assert refusal(write(content)).startswith(message)


@pytest.mark.parametrize(
    "text", ["name: a\nname: b\n", "data:\n  path: x\n\n  path: x\n", "model: {last_n: 1,\n last_n: 2}"]
)
def test_a_repeated_key_is_refused_with_the_second_line(write, text: str) -> None:
    line = len(text.rstrip().splitlines())
    assert f"own.yaml:{line}: the key " in refusal(write(text))
    assert "occurs twice" in refusal(write(text))


def test_aliases_are_refused_before_they_expand(write) -> None:
    names = "abcde"  # few levels, so that the test fails rather than hangs when they are read
    bomb = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in pairwise(names))
    assert refusal(write(bomb)).startswith("own.yaml:2: not valid YAML: aliases (*name) are not supported")


@pytest.mark.parametrize("name", ["semval2025", "[semeval2025]", "7"])
def test_extending_an_unknown_recipe_is_refused_with_its_line(write, name: str) -> None:
    message = refusal(write(f"name: mine\nextends: {name}\n"))
    assert message.startswith("own.yaml:2: extends: no recipe")
    assert "semeval2025" in message.splitlines()[-1]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=60), ANY_TEXT, st.text(" \n\t:-[]{}&*!|>'\"#%@`?,abdtu01~<", max_size=40)))
def test_any_content_is_read_or_is_a_configuration_error(write, content: str | bytes) -> None:
    with suppress(EmotuneError):
        load_config(write(content))


# --set


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("training.epochs=7", "training", "epochs", 7),
        ("optimizer.lr=1e-4", "optimizer", "lr", 1e-4),
        ("optimizer.head_lr=null", "optimizer", "head_lr", None),
        ("training.patience=", "training", "patience", None),
        ("data.path=null", "data", "path", None),
        ("data.path='null'", "data", "path", "null"),
        ("data.path=a=b", "data", "path", "a=b"),
        ("data.text_column=no", "data", "text_column", "no"),
        ("data.text_column=2024", "data", "text_column", "2024"),
        ("data.delimiter=,", "data", "delimiter", ","),
        ("data.delimiter=|", "data", "delimiter", "|"),
        ("data.delimiter=\t", "data", "delimiter", "\t"),
        ('data.delimiter="\\t"', "data", "delimiter", "\t"),
        ("data.labels=[joy, 'no']", "data", "labels", ["joy", "no"]),
        ("data.split=[9e-1, 0.1, 0]", "data", "split", [0.9, 0.1, 0.0]),
        ("tuning.calibrate=off", "tuning", "calibrate", False),
        ("data={path: x}", "data", "path", "x"),
    ],
)
def test_set_replaces_one_key(override: str, section: str, key: str, value: object) -> None:
    changed = load_config("semeval2025-bert", [override])
    assert getattr(getattr(changed, section), key) == value
    plain = load_config("semeval2025-bert")
    rest = getattr(plain, section).model_copy(update={key: value})
    assert changed == plain.model_copy(update={section: rest})


def test_the_last_set_wins_and_top_level_keys_can_be_set() -> None:
    assert load_config("emotion", ["name=a", "name=5"]).name == "5"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs", "--set takes section.key=value, not 'training.epochs'"),
        ("=3", "--set takes section.key=value, not '=3'"),
        ("training.=3", "--set takes section.key=value"),
        ("", "--set takes section.key=value"),
        ("training.epoch=3", "--set unknown key 'training.epoch'. Did you mean 'epochs'?"),
        ("trainng.epochs=3", "--set unknown key 'trainng'. Did you mean 'training'?"),
        ("epochs=3", "--set unknown key 'epochs'. Did you mean 'training.epochs'?"),
        ("extends=emotion", "--set unknown key 'extends'"),
        ("training.epochs.first=3", "--set training.epochs.first: training.epochs has no keys of its own"),
        ("training=3", "--set training is a section with keys of its own"),
        ("training.epochs=3.0", "--set training.epochs should be a valid integer (found 3.0)"),
        ("data.labels=[joy, no]", "--set data.labels.1: YAML reads a bare yes, no"),
        ("data.labels=[joy", "--set data.labels: '[joy' is not a YAML value"),
        ("data.labels=*joy", "--set data.labels: '*joy' is not a YAML value"),
        ("model.freeze=nine", "--set model.freeze is one of none, all, last_n, not 'nine'. Did you mean 'none'?"),
    ],
)
def test_a_wrong_set_is_refused(override: str, message: str) -> None:
    assert refusal("emotion", override).startswith(message)


def test_the_error_of_an_override_does_not_name_the_file(write) -> None:
    path = write("data:\n  labels:\n  - joy\n  - fear\ntraining:\n  epochs: none\n")
    assert refusal(path, "data.labels=[1, 2]", "training.epochs=1").startswith("--set data.labels.0")
    assert refusal(path, "data.labels=[a, b]").startswith("own.yaml:6: training.epochs")


# Round trips


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=ANY_TEXT,
    labels=st.none() | st.lists(ANY_TEXT, max_size=4),
    delimiter=st.none() | ANY_TEXT,
    lr=st.floats(min_value=1e-300, allow_infinity=False),
    head_lr=st.none() | st.just(1e-5),
    epochs=st.integers(1, 10**12),
)
@example(name="a\x85b\u2028é", labels=["no", "1e-4"], delimiter="\t", lr=1e-5, head_lr=None, epochs=1)
def test_a_written_configuration_reads_back_equal(write, name, labels, delimiter, lr, head_lr, epochs) -> None:
    plain = load_config("goemotions")
    config = plain.model_copy(
        update={
            "name": name,
            "data": plain.data.model_copy(update={"labels": labels, "delimiter": delimiter}),
            "optimizer": plain.optimizer.model_copy(update={"lr": lr, "head_lr": head_lr}),
            "training": plain.training.model_copy(update={"epochs": epochs}),
        }
    )
    assert load_config(write(config.to_yaml())) == config


@pytest.mark.parametrize("recipe", recipe_names())
def test_a_recipe_written_out_is_the_same_recipe(write, recipe: str) -> None:
    config = load_config(recipe)
    assert load_config(write(config.to_yaml())) == config


def test_the_fractions_of_a_split_add_up_to_one() -> None:
    assert DataConfig(split=[0.7, 0.2, 0.1]).split == [0.7, 0.2, 0.1]
    for split in ([0.5, 0.5], [0.5, 0.6, -0.1], [0.0, 0.5, 0.5], [0.3, 0.3, 0.3]):
        with pytest.raises(ValueError, match="three fractions"):
            DataConfig(split=split)
