"""Training with a teacher: its probabilities become soft targets of labelled and of unlabelled texts."""

import json
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner, Result

import emotune
import killing
import tiny
from emotune.cli.app import app
from emotune.cli.terminal import Terminal
from emotune.config.loading import config_from
from emotune.config.schema import Config, DataConfig
from emotune.data.corpus import load_corpus, resolve_data
from emotune.data.formats.texts import read_texts
from emotune.data.records import Corpus
from emotune.errors import ConfigError, DataError, EmotuneError, MissingInputError
from emotune.reporter import NullReporter
from emotune.runs import layout, log, teacher
from emotune.scoring.thresholds import Method, choose
from emotune.training.session import Session, Taught
from test_linear_kinds import trained

BESIDE = {"text": "happy furious rain\n\nscared door\n", "csv": "id,comment\n1,happy furious rain\n2,\n3,scared door\n"}
BESIDE |= {"jsonl": '{"text": "happy furious rain"}\n{"text": null}\n{"text": "scared door"}\n'}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def settings(**keys: Any) -> list[str]:
    return [part for key, value in keys.items() for part in ("--set", f"data.{key}={value}")]


@pytest.fixture(scope="module")
def run(base: Path) -> Path:
    """The run of a teacher, of labels anger, fear and joy."""
    return trained(base, "tfidf", tiny.multi_label(base))


@pytest.fixture(scope="module")
def corpus(base: Path) -> Corpus:
    return corpus_of(tiny.multi_label(base))


def corpus_of(path: Path) -> Corpus:
    return load_corpus(resolve_data(DataConfig(path=str(path))))


def config_of(model: object, **keys: Any) -> Config:
    return config_from({"data": {"teacher": str(model), **keys}, "model": {"kind": "ngrams"}})


def teach(config: Config, corpus: Corpus, resumed: Path | None = None) -> Taught:
    found = teacher.teach(config, corpus, resumed, NullReporter(), "auto")
    assert found is not None
    return found


class Said(NullReporter):
    """Keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


# Targets


def test_targets_are_pulled_towards_the_teacher_and_validation_targets_are_not(
    run: Path, corpus: Corpus, tmp_path: Path
) -> None:
    config = config_of(run, teacher_weight=0.25, emoji_rows=False)
    session = Session(config, corpus, None, NullReporter(), teach(config, corpus, tmp_path))
    expected = emotune.load(run).predict_proba([record.text for record in session.train_records])
    np.testing.assert_allclose(session.targets, 0.75 * corpus.targets("train") + 0.25 * expected, atol=1e-6)
    assert session.rows == session.train_records
    assert set(np.unique(session.valid_targets)) == {0, 1}


@pytest.mark.parametrize("labels", ["another order", "classes"])
def test_labels_are_matched_by_name(labels: str, base: Path, tmp_path: Path) -> None:
    data = tiny.turned(base) if labels == "another order" else tiny.multi_class(base)
    model = trained(base, "tfidf", tiny.multi_label(base) if labels == "another order" else data)
    corpus = corpus_of(data)
    taught, classifier = teach(config_of(model), corpus, tmp_path), emotune.load(model)
    record = corpus.splits["train"][3]
    (scores,) = classifier.predict(record.text)
    found = dict(zip(corpus.labels.names, taught.of([record])[0].tolist(), strict=True))
    assert found == pytest.approx(scores.scores, abs=1e-6)


def test_unlabelled_texts_and_fragments_have_the_targets_of_the_teacher(
    run: Path, corpus: Corpus, tmp_path: Path
) -> None:
    (tmp_path / "more.txt").write_text(BESIDE["text"])
    config = config_of(run, unlabelled_texts=str(tmp_path / "more.txt"), fragments=2, emoji_rows=False)
    taught = teach(config, corpus, tmp_path)
    session = Session(config, corpus, None, NullReporter(), taught)
    more = session.rows[len(session.train_records) :]
    assert [(r.text, r.line) for r in more[:2]] == [("happy furious rain", 1), ("scared door", 3)]
    expected = emotune.load(run).predict_proba([record.text for record in more])
    np.testing.assert_allclose(session.targets[len(session.train_records) :], expected, atol=1e-6)
    whole = {record.place: record.text for record in session.train_records}
    fragments = more[2:]
    assert len(fragments) > 100
    assert all(f" {r.text} " in f" {whole[r.place]} " and r.text != whole[r.place] for r in fragments)
    held = session.train_records[:80]
    rest = taught.without(held).more
    assert not {r.place for r in rest} & {r.place for r in held}
    assert {r.place for r in rest} == {r.place for r in more} - {r.place for r in held}
    assert "1 more" not in taught.note
    assert "2 of " in taught.note
    assert f"{len(fragments)} fragments" in taught.note


def test_texts_that_a_cross_trained_teacher_knows_have_out_of_fold_targets(
    base: Path, corpus: Corpus, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny.multi_label(base), data)
    out, kind = tmp_path / "teacher", ("--set", "model.kind=tfidf")
    result = call("train", "starter", "--data", data, "--out", out, "--folds", 2, *kind)
    assert result.exit_code == 0, result.output
    (tmp_path / "more.txt").write_text(BESIDE["text"])
    config = config_of(out, unlabelled_texts=str(tmp_path / "more.txt"))
    taught, classifier = teach(config, corpus, tmp_path), emotune.load(out)
    logits, records = load_file(out / "oof.safetensors")["logits"], corpus.splits["train"]
    expected = classifier.decision.probabilities(logits)
    np.testing.assert_allclose(taught.of(records), expected, atol=1e-6)
    seen = classifier.predict_proba([record.text for record in records])
    assert np.abs(seen - expected).max() > 0.01  # the mean of members, one of which was trained on the text
    new = classifier.predict_proba([record.text for record in taught.more])
    np.testing.assert_allclose(taught.of(taught.more), new, atol=1e-6)
    with (data / "train.csv").open("a") as file:
        file.write("furious rain again,1,0,0\n")
    changed = Said()
    found = teacher.teach(config, corpus, tmp_path, changed, "auto")
    assert found is not None
    np.testing.assert_allclose(found.of(records), seen, atol=1e-6)
    assert "is gone or has changed" in changed.warnings[0]


def test_the_same_run_scores_its_texts_once(
    run: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(run, fragments=1)
    first = teach(config, corpus, tmp_path)
    teacher.keep(first, tmp_path)
    monkeypatch.setattr(teacher, "open_model", lambda _: pytest.fail("the teacher is opened again"))
    again = teach(config, corpus, tmp_path)
    np.testing.assert_array_equal(again.probabilities, first.probabilities)
    assert again.rows == first.rows
    with pytest.raises(BaseException, match="opened again"):  # of other texts nothing is kept
        teach(config_of(run, fragments=2), corpus, tmp_path)


# From the command line


@pytest.mark.parametrize("kind", ["ngrams", "tfidf", "dummy"])
def test_a_student_is_trained_from_texts_beside(kind: str, run: Path, base: Path, tmp_path: Path) -> None:
    (tmp_path / "more.csv").write_text(BESIDE["csv"])
    more = settings(teacher=run, unlabelled_texts=tmp_path / "more.csv", text_column="comment")
    data = tiny.multi_label(base)
    for file in data.glob("*.csv"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / file.name).write_text(file.read_text().replace("text,", "comment,", 1))
    out = tmp_path / "run"
    result = call(
        "train", "starter", "--data", tmp_path / "data", "--out", out, "--set", f"model.kind={kind}", *more, "--json"
    )
    assert result.exit_code == 0, result.output
    told = (
        f"teacher {run}: its probabilities become targets of 160 training texts (weight 0.5 beside their labels), 2 of"
    )
    assert told in result.stderr
    assert told.split(":")[1] in (out / "model" / "README.md").read_text()
    assert any(
        "its probabilities become targets" in line
        for line in json.loads((out / "data.json").read_text())["description"]
    )
    assert set(np.unique(load_file(out / "valid.safetensors")["targets"])) == {0, 1}
    if kind == "ngrams":
        assert json.loads(result.stdout)["validation"]["macro_f1"] > 0.9
    assert call("evaluate", out, "--json").exit_code == 0


def test_thresholds_are_chosen_on_what_a_cross_trained_teacher_says_of_the_training_rows(
    run: Path, base: Path, tmp_path: Path
) -> None:
    data, own = tiny.multi_label(base), tmp_path / "teacher"
    made = call("train", "starter", "--data", data, "--out", own, "--folds", 2, "--set", "model.kind=tfidf")
    assert made.exit_code == 0, made.output
    arguments = ["train", "starter", "--data", data, "--set", "model.kind=ngrams", "--set", "tuning.rows=teacher"]
    refused = call(*arguments, "--out", tmp_path / "without")
    assert refused.exit_code == 2
    assert "tuning.rows teacher needs a teacher" in refused.stderr
    refused = call(*arguments, "--out", tmp_path / "without", *settings(teacher=run))
    assert refused.exit_code == 2
    assert "has no out-of-fold probabilities of these rows" in refused.stderr
    assert not (tmp_path / "without").exists()
    done = call(*arguments, "--out", tmp_path / "student", *settings(teacher=own), "--set", "tuning.method=per_label")
    assert done.exit_code == 0, done.output
    assert "validation: " in done.stderr
    student, rows = emotune.load(tmp_path / "student").decision, load_file(own / "oof.safetensors")
    expected = choose(student.probabilities(rows["logits"]), rows["targets"] > 0.5, Method("per_label"))
    np.testing.assert_allclose(student.thresholds, expected, atol=1e-5)
    assert student.tuning["split"] == "train, out of fold by the teacher"
    assert student.tuning["rows"] == len(rows["targets"])
    judged = call("evaluate", tmp_path / "student", "--data", data, "--split", "valid", "--json")
    assert "tuned on these rows" not in judged.output
    card = (tmp_path / "student" / "model" / "README.md").read_text()
    assert "rows of train, out of fold by the teacher" in card


def test_members_of_a_cross_training_share_the_teacher(run: Path, base: Path, tmp_path: Path) -> None:
    out, data = tmp_path / "run", tiny.multi_label(base)
    more = ["--set", "model.kind=ngrams", *settings(teacher=run, fragments=1)]
    result = call("train", "starter", "--data", data, "--out", out, "--folds", 2, *more)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("its probabilities become targets") == 1
    assert (out / "teacher.safetensors").is_file()
    assert set(np.unique(load_file(out / "oof.safetensors")["targets"])) == {0, 1}
    assert "its probabilities become targets" in (out / "model" / "README.md").read_text()


def test_an_encoder_is_taught_and_resumed_without_the_teacher(run: Path, base: Path, tmp_path: Path) -> None:
    own = tiny.copy(run, tmp_path / "teacher")
    out, few = tmp_path / "run", ["training.max_steps=3", "training.keep_checkpoints=true", "model.emoji_tokens=false"]
    arguments = [*tiny.options(base, tiny.multi_label(base), epochs=1), *(p for key in few for p in ("--set", key))]
    whole = call("train", "starter", "--out", out, *arguments, *settings(teacher=own, fragments=1))
    assert whole.exit_code == 0, whole.output
    first = tiny.contents(out / "model")
    (out / "model" / "emotune.json").unlink()
    shutil.rmtree(own)
    resumed = call("train", "--resume", out)
    assert resumed.exit_code == 0, resumed.output
    assert "the run has its probabilities of" in resumed.stderr
    assert tiny.contents(out / "model") == first


def test_the_training_loop_gets_the_targets_of_the_teacher(
    run: Path, base: Path, corpus: Corpus, tmp_path: Path
) -> None:
    from emotune.config.kinds import TrainedKind, find_kind
    from emotune.hub import Source
    from emotune.training.network import StepSession

    encoder = tiny.encoder(base)
    config = config_from(
        {"data": {"teacher": str(run), "fragments": 1}, "model": {"kind": "encoder", "encoder": str(encoder)}}
    )
    kind, taught = find_kind("encoder"), teach(config, corpus, tmp_path)
    assert isinstance(kind, TrainedKind)
    session = StepSession(config, kind, corpus, Source(encoder, ""), "cpu", NullReporter(), taught)
    loop = session.trainer(NullReporter())
    assert len(loop.train.encoded) == len(session.rows) > 160
    np.testing.assert_array_equal(loop.train.targets, session.targets)
    np.testing.assert_allclose(loop.train.targets[160:], taught.of(taught.more))
    np.testing.assert_array_equal(loop.valid.targets, corpus.targets("valid"))


# A teacher that the run trains itself


def test_a_run_trains_its_teacher_as_a_cross_training_would(base: Path, tmp_path: Path) -> None:
    data, out, apart, kind = tiny.multi_label(base), tmp_path / "run", tmp_path / "apart", ["--set", "model.kind=tfidf"]
    more = [*settings(teacher_weight=0.7), "--set", "tuning.rows=teacher"]
    result = call("train", "starter", "--data", data, "--out", out, *kind, *settings(teacher_folds=2), *more)
    assert result.exit_code == 0, result.output
    assert f"the teacher is trained first: starter-teacher, 2 folds, in {out / 'teacher'}" in result.stderr
    assert "validation: macro-F1 " in result.stderr
    assert call("train", "starter", "--data", data, "--out", apart, "--folds", 2, *kind).exit_code == 0
    same = call("train", "starter", "--data", data, "--out", tmp_path / "same", *kind, *settings(teacher=apart), *more)
    assert same.exit_code == 0, same.output
    for part in ("oof.safetensors", "valid.safetensors", "model/decision.json"):
        assert (out / "teacher" / part).read_bytes() == (apart / part).read_bytes(), part
    for part in ("valid.safetensors", "model/decision.json"):
        assert (out / part).read_bytes() == (tmp_path / "same" / part).read_bytes(), part
    assert "teacher of 2 folds: its probabilities become targets" in (out / "model" / "README.md").read_text()
    seconds = [log.training_seconds(run) or 0.0 for run in (out, out / "teacher")]
    assert seconds[0] > seconds[1] > 0.0  # with those of the teacher
    for run in (out, out / "teacher"):
        assert call("evaluate", run, "--data", data, "--json").exit_code == 0
    assert "nothing to resume" in call("train", "--resume", out).stderr
    api = emotune.train("starter", data, tmp_path / "api", model__kind="dummy", data__teacher_folds=2)
    assert api.model == tmp_path / "api" / "model"


def test_a_teacher_has_a_recipe_of_its_own(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("large.yaml").write_text("name: large\nmodel: {kind: tfidf, C: 3.5}\ntuning: {method: none}\n")
    more = ["--set", "model.kind=ngrams", *settings(teacher_folds=2, teacher_recipe="large.yaml")]
    result = call("train", "starter", "--data", tiny.multi_label(base), "--out", "run", *more)
    assert result.exit_code == 0, result.output
    config = layout.read_config(Path("run/teacher"))
    assert (config.model.kind, config.model.model_dump()["C"], config.tuning.method) == ("tfidf", 3.5, "none")
    assert config.data.teacher_folds is None
    assert layout.read_config(Path("run")).data.teacher_recipe == str(tmp_path / "large.yaml")
    assert layout.read_config(Path("run")).model.kind == "ngrams"


def test_several_recipes_teach_together(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data, kind = tiny.multi_label(base), ["--set", "model.kind=ngrams"]
    Path("counts.yaml").write_text("model: {kind: tfidf}\ntraining: {seed: 3}\n")
    Path("hashed.yaml").write_text("model: {kind: ngrams}\n")
    recipes = settings(teacher_folds=2, teacher_recipe="[counts.yaml, hashed.yaml, counts.yaml]")
    train = ["train", "starter", "--data", data, *kind, "--set", "tuning.rows=teacher"]
    result = call(*train, "--out", "run", *recipes)
    assert result.exit_code == 0, result.output
    parts = [Path("run/teachers") / str(n) for n in (1, 2, 3)]
    assert [layout.read_config(part).training.seed for part in parts] == [3, 0, 4]
    assert [layout.read_config(part).model.kind for part in parts] == ["tfidf", "ngrams", "tfidf"]
    assert "starter-teacher-2, 2 folds, in run/teachers/2" in result.stderr
    mean = np.mean([load_file(part / "oof.safetensors")["logits"] for part in parts], axis=0)
    np.testing.assert_allclose(load_file("run/teacher/oof.safetensors")["logits"], mean, atol=1e-6)
    assert layout.read_config(Path("run")).data.teacher_recipes[1] == str(tmp_path / "hashed.yaml")
    same = call(*train, "--out", "same", *settings(teacher="run/teacher"))
    assert same.exit_code == 0, same.output
    for part in ("valid.safetensors", "model/decision.json"):
        assert (Path("run") / part).read_bytes() == (Path("same") / part).read_bytes(), part
    assert log.training_seconds(Path("run/teacher")) == pytest.approx(sum(log.training_seconds(p) or 0 for p in parts))
    assert call(*train, "--out", "run", *recipes, "--overwrite").exit_code == 0
    shutil.rmtree("run/model")
    shutil.rmtree("run/teacher")
    shutil.rmtree("run/teachers/3")
    resumed = call("train", "--resume", "run")
    assert resumed.exit_code == 0, resumed.output
    assert resumed.stderr.count("the teacher is already trained") == 2
    assert (Path("run") / "model/decision.json").read_bytes() == (Path("same") / "model/decision.json").read_bytes()


def test_a_teacher_may_have_a_teacher(base: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "second.yaml"
    recipe.write_text("model: {kind: ngrams}\ndata: {teacher_folds: 2, teacher_weight: 0.6, fragments: 1}\n")
    more = ["--set", "model.kind=ngrams", *settings(teacher_folds=2, teacher_recipe=recipe)]
    out = tmp_path / "run"
    result = call("train", "starter", "--data", tiny.multi_label(base), "--out", out, *more)
    assert result.exit_code == 0, result.output
    assert f"the out-of-fold probabilities of {out / 'teacher'} are too confident" in result.stderr
    assert layout.read_config(out / "teacher").data.teacher_weight == 0.6
    assert layout.read_config(out / "teacher" / "teacher").data.teacher_folds is None
    assert (out / "teacher" / "teacher" / "oof.safetensors").is_file()


def test_a_folder_without_a_validation_file_has_one_division_for_both(base: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(tiny.multi_label(base) / "train.csv", data)
    out, more = tmp_path / "run", ["--set", "model.kind=tfidf", "--set", "tuning.rows=teacher"]
    result = call("train", "starter", "--data", data, "--out", out, *more, *settings(teacher_folds=2))
    assert result.exit_code == 0, result.output
    assert len(load_file(out / "teacher" / "oof.safetensors")["logits"]) < 160
    assert load_file(out / "teacher.safetensors")["probabilities"].shape[0] < 160


def of_own(base: Path, out: Path, *more: str) -> list[str]:
    """The arguments of a training of a network with its own teacher."""
    every = tiny.options(base, tiny.multi_label(base), epochs=1)
    return ["train", "starter", "--out", str(out), *map(str, every), *settings(teacher_folds=2), *more]


@pytest.mark.parametrize(
    ("place", "nth"),
    [
        ("emotune.workflows.train._session", 2),  # the second member begins
        pytest.param("emotune.runs.teacher.score", 1, marks=pytest.mark.slow),
        pytest.param("emotune.runs.teacher.keep", 1, marks=pytest.mark.slow),
        ("emotune.workflows.train.make_card", 3),  # of the student
    ],
)
def test_killed_in_a_place_it_resumes_with_one_command(place: str, nth: int, base: Path, tmp_path: Path) -> None:
    whole = tiny.once(base, "own-teacher", lambda path: killing.seconds(of_own(base, path), path.with_suffix(".said")))
    run, said = tmp_path / "run", tmp_path / "said"
    assert killing.emotune(of_own(base, run), said, kill=place, nth=nth) == -9, said.read_text()
    assert "holds an unfinished run" in call(*of_own(base, run)).stderr
    assert killing.emotune(["train", "--resume", str(run)], said) == 0, said.read_text()
    assert "no checkpoint to resume from" not in said.read_text()
    assert tiny.contents(run / "model") == tiny.contents(whole / "model")
    assert tiny.contents(run / "teacher" / "model") == tiny.contents(whole / "teacher" / "model")


def test_ctrl_c_in_the_teacher_names_the_whole_run(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Terminal, "on_step", lambda _, report: report.step == 2 and signal.raise_signal(signal.SIGINT))
        result = call(*of_own(base, run, "--json"))
    assert result.exit_code == 130
    assert f"to resume the training: emotune train --resume {run}\n" in result.stderr
    assert json.loads(result.stdout)["run"] == str(run)
    with monkeypatch.context() as patch:  # while the teacher scores the texts

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(teacher, "score", stop)
        result = call("train", "--resume", run)
    assert result.exit_code == 130
    assert f"to resume the training: emotune train --resume {run}\n" in result.stderr
    assert call("train", "--resume", run).exit_code == 0


def test_overwrite_restores_the_former_run_unless_the_teacher_has_begun(base: Path, tmp_path: Path) -> None:
    run, data = tmp_path / "run", tiny.multi_label(base)
    assert call("train", "starter", "--data", data, "--out", run, "--set", "model.kind=tfidf").exit_code == 0
    former = tiny.contents(run)
    again = of_own(base, run, "--overwrite")
    assert call(*again, *settings(teacher_recipe=tmp_path / "none.yaml")).exit_code == 66
    assert call(*again, "--set", "model.encoder=nowhere/at-all-12").exit_code == 66
    assert tiny.contents(run) == former
    assert killing.emotune(again, tmp_path / "said", kill="emotune.workflows.train._session", nth=2) == -9
    assert (run / ".former" / "model").is_dir()
    assert call("train", "--resume", run).exit_code == 0
    assert not (run / ".former").exists()


def test_where_no_teacher_is_trained_the_setting_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"applies only with data\.teacher_folds"):
        config_from({"data": {"teacher_recipe": "goemotions"}})
    with pytest.raises(ConfigError, match="needs a recipe, or null"):
        config_from({"data": {"teacher_folds": 2, "teacher_recipe": []}})
    arguments = ["search", "starter", "--data", tiny.multi_label(base), "--set", "model.kind=tfidf", "--trials", 1]
    result = call(*arguments, "--out", tmp_path / "search", *settings(teacher_folds=2))
    assert result.exit_code == 2
    assert "data.teacher_folds: here no teacher is trained" in result.stderr
    assert "--set data.teacher=DIR" in result.stderr


def test_a_teacher_that_is_named_takes_the_place_of_an_own_one(run: Path, base: Path, tmp_path: Path) -> None:
    out, more = tmp_path / "run", ["--set", "model.kind=ngrams", *settings(teacher_folds=2, teacher=run)]
    assert call("train", "starter", "--data", tiny.multi_label(base), "--out", out, *more).exit_code == 0
    assert not (out / "teacher").exists()


# What is wrong with it


def test_a_teacher_of_other_labels_is_refused(base: Path, run: Path, tmp_path: Path) -> None:
    for data, model, difference in (
        (tiny.multi_label(base), "default", "admiration"),
        (tiny.multi_class(base), run, "multi-label, not multi-class"),
    ):
        result = call("train", "starter", "--data", data, "--out", tmp_path / "run", *settings(teacher=model))
        assert result.exit_code == 2, result.output
        assert f"the teacher {model} has other labels than the training data: " in result.stderr
        assert difference in result.stderr
        assert "data.teacher=MODEL" in result.stderr
        assert not (tmp_path / "run").exists()


def test_a_missing_teacher_or_file_is_refused(base: Path, run: Path, corpus: Corpus, tmp_path: Path) -> None:
    cases: Sequence[tuple[Config, type[EmotuneError], str]] = (
        (config_of(tmp_path / "none"), MissingInputError, "none"),
        (
            config_of(run, unlabelled_texts=str(tmp_path / "no.txt")),
            MissingInputError,
            "data.unlabelled_texts: no such",
        ),
    )
    for config, error, message in cases:
        with pytest.raises(error, match=message):
            teach(config, corpus, tmp_path)


@pytest.mark.parametrize("key", ["teacher_weight=0.9", "unlabelled_texts=a.txt", "fragments=1"])
def test_settings_of_a_teacher_need_one(key: str) -> None:
    name, value = key.split("=")
    typed = value if name == "unlabelled_texts" else float(value) if "." in value else int(value)
    with pytest.raises(ConfigError, match=f"data.{name}.*applies only with a teacher: data.teacher=MODEL names one"):
        config_from({"data": {name: typed}})


# Files of texts


@pytest.mark.parametrize("suffix", ["text", "csv", "jsonl"])
def test_texts_are_read_from_lines_and_tables(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"more.{suffix}"
    path.write_text(BESIDE[suffix])
    assert [text for _, text in read_texts(path, DataConfig())] == ["happy furious rain", "scared door"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "id,words\n1,a\n", r"a\.csv:1.*no column 'text' or a similar name, only id, words"),
        ("a.jsonl", '{"text": 7}\n', r"a\.jsonl:1.*the text is 7, not a string"),
        ("a.txt", "\n \n", r"a\.txt.*empty"),
        ("a.csv", "text\n\n", r"no rows below the header"),
        ("a.txt", "caf\udce9\n", r"a\.txt:1"),
    ],
)
def test_a_file_without_texts_is_refused(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, errors="surrogateescape")
    with pytest.raises(DataError, match=message):
        read_texts(tmp_path / name, DataConfig())
