"""`emotune inspect`: the figures are those of the data, the advice is that which applies, whatever the files hold."""

import json
import math
import os
import random
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

import tiny
from emotune import reports
from emotune.cli.app import app
from emotune.config.loading import config_from
from emotune.config.schema import Config
from emotune.data.corpus import load_stored_splits, resolve_data
from emotune.data.quality.advice import advise, percentage
from emotune.data.quality.checks import clipped
from emotune.data.quality.profile import Distribution, Profile, profile, samples
from emotune.data.quality.suspects import surprisals
from emotune.data.records import Corpus, Record
from emotune.data.tokens import TextEncoder
from emotune.errors import ConfigError, MissingInputError
from emotune.hub import resolve_tokenizer
from emotune.labels import LabelSet, Task
from emotune.reports.inspection import bar_of

REAL = Path(os.environ.get("EMOTUNE_DATA", "/nonexistent"))
LABELS = LabelSet(("anger", "joy", "awe"))
Rows = Sequence[tuple[str, tuple[int, ...]]]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


def corpus_of(labels: LabelSet = LABELS, **splits: Rows) -> Corpus:
    records = {
        split: [Record(text, found, Path(f"{split}.csv"), line) for line, (text, found) in enumerate(rows, start=2)]
        for split, rows in splits.items()
    }
    return Corpus(labels, records, ())


def call(*args: object, code: int = 0, **env: str) -> Result:
    result = CliRunner().invoke(app, ["inspect", *map(str, args)], env=env)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def found_in(*args: object) -> dict:
    """What `emotune inspect --json` says."""
    return json.loads(call(*args, "--json").stdout)


def kinds(profiled: Profile, config: Config | None = None, **options: object) -> list[str]:
    return [advice.kind for advice in advise(profiled, config or Config(), **options)]


def many(count: int, labels: tuple[int, ...], word: str = "text") -> list[tuple[str, tuple[int, ...]]]:
    """Different texts with the same labels, none near another."""
    rng = random.Random(word)
    return [("".join(rng.choices("abcdefghij klmnop qrstuv", k=40)), labels) for _ in range(count)]


# --- figures -----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(values=st.lists(st.integers(0, 30), max_size=40), share=st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_a_distribution_is_that_of_its_values(values: list[int], share: float) -> None:
    found = Distribution.of(np.array(values, dtype=np.int64))
    assert found.total == len(values)
    assert found.beyond(7) == sum(value > 7 for value in values)
    if values:
        assert found.mean == pytest.approx(np.mean(values))
        assert found.quantile(share) == np.quantile(values, share, method="inverted_cdf")
    else:
        assert (np.isnan(found.mean), found.quantile(share)) == (True, 0)


def test_counts_per_split_and_label() -> None:
    rows = [("so it goes", (0, 1)), ("we sat", ()), ("a long text of seven words", (1,)), ("tea", (0, 1, 2))]
    found = profile(corpus_of(train=rows, valid=[("rain fell", (2,))]))
    train, valid = found.splits
    assert (train.rows, train.label_counts.tolist()) == (4, [2, 3, 1])
    assert (train.labels_per_text.values.tolist(), train.labels_per_text.counts.tolist()) == (
        [0, 1, 2, 3],
        [1, 1, 1, 1],
    )
    assert (train.words.quantile(1), train.words.quantile(0.5), train.tokens) == (6, 2, None)
    assert (valid.rows, valid.label_counts.tolist()) == (1, [0, 0, 1])
    assert found.together.tolist() == [[2, 2, 1], [2, 3, 1], [1, 1, 2]]


def test_pairs_are_measured_as_textbooks_do() -> None:
    rows = [*many(8, (0, 1), "both"), *many(2, (0,), "one"), *many(12, (1,), "other"), *many(78, (2,), "none")]
    (pair,) = profile(corpus_of(train=rows)).pairs
    assert (pair.first, pair.second, pair.count, pair.share) == ("anger", "joy", 8, 0.8)
    assert pair.lift == pytest.approx(0.08 / (0.1 * 0.2))
    anger, joy = (np.array([label in labels for _, labels in rows]) for label in (0, 1))
    assert pair.phi == pytest.approx(np.corrcoef(anger, joy)[0, 1])


def test_pairs_of_few_texts_and_of_classes_are_left_out() -> None:
    assert profile(corpus_of(train=many(4, (0, 1)))).pairs == ()
    classes = LabelSet(LABELS.names, Task.MULTI_CLASS)
    assert profile(corpus_of(classes, train=many(9, (0,)))).pairs == ()


def test_repeated_rows_are_those_with_the_same_labels() -> None:
    rows = [("So it goes", (0,)), ("so it  goes", (0,)), ("so it goes", (1,)), ("", ()), ("", ()), ("SO IT GOES", (0,))]
    found = {f.kind: f for f in profile(corpus_of(train=rows)).findings}
    assert [row.line for row in found["duplicate"].rows] == [3, 7]
    assert found["conflict"].count == 4


def test_near_duplicates_are_counted_within_and_across_splits() -> None:
    corpus = corpus_of(
        train=[("Thank you so much!", (0,)), ("thank you so much", (0,)), ("it rained", (1,)), ("I was there", (1,))],
        valid=[("Thank you so much", (0,)), ("i was there...", (2,)), ("quite another text", (2,)), ("", ())],
    )
    within, across = profile(corpus).near
    assert (within.split, within.other, [row.line for row in within.finding.rows]) == ("train", None, [2, 3])
    assert (across.split, across.other, [row.line for row in across.finding.rows]) == ("valid", "train", [3])
    assert [[row.line for row in group] for group in across.groups] == [[3, 5]]
    ((row, near, alike),) = across.examples
    assert (row.text, near.text, alike) == ("i was there...", "I was there", 1.0)


def test_samples_are_rows_of_their_label_and_the_same_for_the_same_seed() -> None:
    rows = [*many(30, (0,), "a"), *many(20, (0, 1), "b"), *many(2, (2,), "c")]
    corpus = corpus_of(train=rows)
    drawn = samples(corpus, "train", 5, seed=3)
    assert {name: len(found) for name, found in drawn.items()} == {"anger": 5, "joy": 5, "awe": 2}
    for i, name in enumerate(LABELS.names):
        assert all(i in row.labels for row in drawn[name])
        assert len({row.line for row in drawn[name]}) == len(drawn[name])
    assert samples(corpus, "train", 5, seed=3) == drawn
    assert samples(corpus, "train", 5, seed=4) != drawn


def test_token_counts_are_lengths_of_what_would_be_read(base: Path) -> None:
    counter = TextEncoder.from_file(tiny.encoder(base) / "tokenizer.json", 8, 0)
    texts = ["the cat sat", "", "rain " * 50, "\ud800"] * 1100
    counts = counter.token_counts(texts)
    assert counts.tolist() == [5, 2, 52, 3] * 1100
    assert counter.cut(texts[:4], 8).lengths.tolist() == [5, 2, 8, 3]


def test_a_million_would_not_be_held_as_a_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows × labels of targets would be the largest thing of all: they are made a stretch at a time."""
    from emotune import labels
    from emotune.data.quality import profile as profiles

    shapes = []
    real = labels.to_matrix
    monkeypatch.setattr(profiles, "to_matrix", lambda rows, n: shapes.append(len(rows)) or real(rows, n))
    rows = [(f"{i} {i * 7919 % 10007}", (i % 3,)) for i in range(20_000)]
    found = profile(corpus_of(train=rows))
    assert max(shapes) <= 8192 < 20_000 == sum(shapes) == int(np.trace(found.together))


# --- advice ------------------------------------------------------------------------------------------------------


def sound(count: int, word: str) -> list[tuple[str, tuple[int, ...]]]:
    """Different texts, as many of each label."""
    return [row for i in range(3) for row in many(count // 3, (i,), f"{word} {i}")]


def test_sound_data_gets_no_advice() -> None:
    found = profile(corpus_of(train=sound(600, "a"), valid=sound(240, "b"), test=sound(240, "c")))
    assert (found.findings, found.near, found.oddities) == ((), (), ())
    assert kinds(found) == []


@pytest.mark.parametrize(
    ("kind", "says", "splits"),
    [
        ("leak", "the same texts", {"train": [("so it goes", (0,))], "valid": [("So it goes", (0,))]}),
        ("leak", "nearly the same texts", {"train": [("so it goes", (0,))], "valid": [("so it goes!", (0,))]}),
        ("no_valid", "no validation split", {"valid": None}),
        ("no_test", "no test split", {"test": None}),
        ("small_valid", "valid has 30 rows", {"valid": sound(30, "small")}),
        ("drift", "anger 33 % against 97 %", {"valid": [*many(300, (0,), "x"), *many(9, (1, 2), "y")]}),
        ("rare_label", "1 label has too few positives in valid for 5 stratified folds (awe 4)", {
            "valid": [*many(120, (0,), "x"), *many(120, (1,), "y"), *many(4, (2,), "z")]
        }),
        ("conflict", "one row with all its labels", {"train": [("so", (0,)), ("so", (1,))]}),
        ("duplicate", "of train repeats earlier rows", {"train": [("so", (0,))] * 20}),
        ("imbalance", "anger (1,200) is 6 times", {}),
        ("unlabelled", "25 % of train has no label", {"train": many(200, (), "none")}),
        ("html_entity", "unescape", {"test": [("this &amp; that", (0,))] * 2}),
        ("mojibake", "as UTF-8", {"train": [("I donâ€™t", (0,)), ("itâ€™s", (0,))]}),
    ],
)  # fmt: skip
def test_each_advice_comes_where_it_applies(kind: str, says: str, splits: dict[str, Rows | None]) -> None:
    """Rows are added to a sound split, given instead of the other two, or the split is taken away."""
    if kind == "imbalance":
        return
    rows = {"train": sound(600, "a"), "valid": sound(240, "b"), "test": sound(240, "c")}
    for split, more in splits.items():
        if more is None:
            del rows[split]
        else:
            rows[split] = [*rows[split], *more] if len(more) < 30 or split == "train" else list(more)
    advice = {a.kind: a.message for a in advise(profile(corpus_of(**rows)), Config())}
    assert says in advice[kind]


def test_rows_of_a_split_that_was_not_asked_for_are_not_missed() -> None:
    assert kinds(profile(corpus_of(train=sound(600, "a"))), all_splits=False) == []


def test_imbalance_is_told_from_twenty_times() -> None:
    for times, wanted in ((19, []), (20, ["imbalance"])):
        rows = [*many(30, (0,), "a"), *many(30 * times, (1,), "b"), *many(100, (2,), "c")]
        assert kinds(profile(corpus_of(train=rows)), all_splits=False) == ["rare_label", *wanted]
    assert "weights=sqrt_ratio" in advise(profile(corpus_of(train=rows)), Config(), all_splits=False)[-1].message
    classes = LabelSet(LABELS.names, Task.MULTI_CLASS)
    assert "weights=balanced" in advise(profile(corpus_of(classes, train=rows)), Config(), all_splits=False)[-1].message


@pytest.mark.parametrize(
    ("limit", "says"),
    [(None, "--set model.max_length=64"), (512, "--set model.max_length=64"), (48, "--set model.max_length=48")],
)
def test_texts_that_are_cut_are_told_with_a_length_that_holds_them(limit: int | None, says: str) -> None:
    config = config_from({}, ["model.max_length=32"])
    found = profile(corpus_of(train=sound(600, "a")), lambda texts: np.arange(len(texts)) % 60)
    (advice,) = advise(found, config, token_limit=limit, all_splits=False)
    assert advice.kind == "length"
    assert advice.message.startswith("45 % of train is longer than 32 tokens")
    assert advice.message.endswith(says)
    assert kinds(found, config_from({}, ["model.max_length=64"]), all_splits=False) == []
    (advice,) = advise(found, config, token_limit=32, all_splits=False)
    assert "the encoder takes no more" in advice.message


def test_folds_are_those_of_the_configuration() -> None:
    rows = [*many(120, (0,), "x"), *many(120, (1,), "y"), *many(4, (2,), "z")]
    found = profile(corpus_of(valid=rows))
    assert kinds(found) == ["rare_label", "imbalance"]
    assert kinds(found, config_from({}, ["tuning.folds=4"])) == ["imbalance"]


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0, "0 %"),
        (0.00001, "< 0.1 %"),
        (0.0123, "1.2 %"),
        (0.0994, "9.9 %"),
        (0.0996, "10 %"),
        (0.5, "50 %"),
        (1, "100 %"),
    ],
)
def test_shares_in_per_cent(share: float, shown: str) -> None:
    assert percentage(share) == shown


# --- how it is shown ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "bar"), [(0, ""), (1e-9, "▏"), (0.5, "██"), (0.53, "██▏"), (1, "████")])
def test_bars(share: float, bar: str) -> None:
    assert bar_of(share, 4) == bar


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("short", "short"),
        ("so it goes on", "so it…"),
        ("a\n\tb", "a b"),
        ("", ""),
        ("我今天非常高兴", "我今…"),
        ("a" * 90, "aaaaa…"),
        ("so" + " " * 90 + "it", "so…"),
        ("a\x07b", r"a\x07b"),
    ],
)
def test_texts_are_clipped_to_their_room(text: str, shown: str) -> None:
    assert clipped(text, 6) == shown


# --- the command -------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with a leak (valid line 2), a conflict, an entity, and a text of many tokens."""
    folder = tmp_path / "data"
    folder.mkdir()
    train = [
        "the cat sat happy,0,0,1",
        "we hate tea,1,0,0",
        "We  hate tea,0,1,0",
        "this &amp; that,0,1,1",
        f"{'rain ' * 40},0,0,0",
    ]
    valid = ["we hate tea,1,0,0", "a glad old door,0,0,1"]
    for split, rows in (("train", train), ("dev", valid)):
        (folder / f"{split}.csv").write_text("\n".join([tiny.MULTI_LABEL_HEADER.strip(), *rows]) + "\n")
    return folder


def test_json_is_whole(data: Path, base: Path) -> None:
    found = found_in("data", "--encoder", tiny.encoder(base), "--max-length", 30)
    assert (found["rows"], found["labels"], found["task"]) == (7, ["anger", "fear", "joy"], "multi_label")
    train = found["splits"]["train"]
    assert train["label_counts"] == {"anger": 1, "fear": 2, "joy": 2}
    assert train["labels_per_text"] == {"0": 1, "1": 3, "2": 1}
    assert train["words"]["longest"] == 40
    assert (train["tokens"]["longest"], train["tokens"]["beyond_max_length"]) == (42, 1)
    assert found["cooccurrence"] == [[2, 0, 0], [0, 2, 1], [0, 1, 3]]
    findings = {f["kind"]: f for f in found["findings"]}
    assert findings["leak"]["splits"] == ["train", "valid"]
    assert findings["leak"]["rows"] == [{"file": str(data / "dev.csv"), "line": 2}]
    assert [row["line"] for row in findings["conflict"]["rows"]] == [3, 4]
    assert findings["html_entity"]["excerpts"] == ["this &amp; that"]
    assert {a["kind"] for a in found["advice"]} >= {"leak", "conflict", "no_test", "html_entity", "length"}
    assert found["folder"] is None
    for name, rows in found["samples"].items():
        assert len(rows) == 1
        assert rows[0]["text"] in (data / "train.csv").read_text()
        assert name in found["labels"]


def test_the_terminal_shows_the_figures(data: Path, base: Path) -> None:
    shown = call("data", "--encoder", tiny.encoder(base)).stdout
    assert shown.startswith("7 texts of data, 3 labels, any number for each text\n")
    lines = shown.splitlines()
    (fear,) = [line for line in lines if line.startswith("fear")]
    assert fear.split()[:4] == ["fear", "2", "0", "40"]
    assert "- 1 text of valid also in train, which inflates the score (dev.csv:2)" in lines
    assert "    this &amp; that" in lines
    assert "Recommendations" in lines
    assert not [line for line in lines if line != line.rstrip()]


@pytest.mark.parametrize("width", [40, 80, 140])
def test_tables_fit_the_terminal(data: Path, base: Path, width: int) -> None:
    shown = call("data", "--encoder", tiny.encoder(base), COLUMNS=str(width)).stdout
    start = shown.index("\nlabel  ")
    assert max(map(len, shown[start : shown.index("Warnings")].splitlines())) <= width
    assert ("  example\n" in shown) == (width > 40)


def test_valid_data_has_no_warnings(tmp_path: Path, base: Path) -> None:
    shown = call(tiny.multi_class(base), "--encoder", tiny.encoder(base)).stdout
    assert "exactly one for each text" in shown.splitlines()[0]
    assert "co-occurring labels" not in shown


def test_no_warnings_are_reported(tmp_path: Path, base: Path) -> None:
    rows = [f"{text},{LABELS.names[found[0]]}" for text, found in sound(60, "a")]
    Path("own.csv").write_text("\n".join(["text,label", *rows]))
    shown = call("own.csv", "--encoder", tiny.encoder(base)).stdout
    assert "No warnings" in shown
    assert "Warnings\n" not in shown


def test_a_single_file_is_one_split(data: Path, base: Path) -> None:
    found = found_in("data/train.csv", "--encoder", tiny.encoder(base))
    assert list(found["splits"]) == ["train"]
    assert found["splits"]["train"]["rows"] == 5


def test_some_splits_only(data: Path, base: Path) -> None:
    for name in ("valid", "dev"):
        found = found_in("data", "--split", name, "--encoder", tiny.encoder(base))
        assert list(found["splits"]) == ["valid"]
        assert not [f for f in found["findings"] if f["kind"] in ("leak", "conflict")]
    both = found_in("data", "--split", "valid", "--split", "train", "--encoder", tiny.encoder(base))
    assert list(both["splits"]) == ["train", "valid"]
    failed = call("data", "--split", "tset", code=66)
    assert "no split 'tset'" in failed.stderr


def test_more_samples_are_listed_and_seeded(base: Path) -> None:
    args = (tiny.multi_label(base), "--encoder", tiny.encoder(base), "--samples", 3)
    shown, other = call(*args).stdout, call(*args, "--seed", 1).stdout
    table = shown[shown.index("label  row") : shown.index("\nWarnings")].splitlines()
    assert sum("train.csv:" in line for line in table) == 9
    assert shown == call(*args).stdout != other
    assert "for example" not in call(*args[:3], "--samples", 0).stdout


def test_many_labels_are_shortened_unless_all_are_wanted(tmp_path: Path, base: Path) -> None:
    rows = [f"text number {i} {i * 7919},label{i % 60}" for i in range(180)]
    Path("own.csv").write_text("\n".join(["text,label", *rows]))
    args = ("own.csv", "--encoder", tiny.encoder(base))
    short, whole = call(*args).stdout, call(*args, "--all").stdout
    assert "… 25 more (--all)" in short
    assert [len(re.findall(r"^label\d+ +\d", out, re.MULTILINE)) for out in (short, whole)] == [35, 60]


def test_talk_is_on_stderr_and_can_be_left_out(data: Path, base: Path) -> None:
    loud, quiet = (call("data", "--encoder", tiny.encoder(base), *more) for more in ([], ["--quiet"]))
    assert loud.stdout == quiet.stdout
    assert (quiet.stderr, "comma-separated table" in loud.stderr) == ("", True)


def test_configuration_keys_can_be_set(data: Path, base: Path) -> None:
    found = found_in(
        "data", "--set", "data.label_columns=[fear,joy]", "--set", f"model.encoder={tiny.encoder(base)}",
        "--set", "model.max_length=16",
    )  # fmt: skip
    assert found["labels"] == ["fear", "joy"]
    assert (found["encoder"], found["max_length"]) == (str(tiny.encoder(base)), 16)
    with pytest.raises(ConfigError, match="Did you mean 'format'"):
        config_from({}, ["data.fromat=table"])
    assert "Did you mean 'format'" in call("data", "--set", "data.fromat=table", code=2).stderr


def test_malformed_files_are_one_error_with_the_place(data: Path) -> None:
    with (data / "dev.csv").open("a") as file:
        file.write("a row,1\n")
    failed = call("data", code=65)
    assert failed.stdout == ""
    assert "dev.csv:4: the row has 2 columns, the header has 4" in failed.stderr
    assert "no such file or folder" in call("nowhere", code=66).stderr
    (data / "train.csv").unlink()
    assert "no training file" in call("data", code=66).stderr


def test_without_the_default_encoder_words_are_counted(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from emotune import hub

    monkeypatch.setattr(hub, "_from_wheel", lambda: None)
    monkeypatch.setattr(hub, "cached", lambda *args: None)
    monkeypatch.setattr(hub, "_fetched", lambda *args: pytest.fail("the network is left alone"))
    result = call("data", "--json")
    assert "tokens are not counted" in result.stderr
    found = json.loads(result.stdout)
    assert (found["encoder"], found["splits"]["train"]["tokens"]) == (None, None)
    assert found["splits"]["train"]["words"]["longest"] == 40


def test_an_encoder_without_tokenizer_json(data: Path, base: Path, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    assert "has no tokenizer.json" in call("data", "--encoder", "bare", code=66).stderr
    with pytest.raises(MissingInputError, match=r"'\./bare2' is not a hub id"):
        resolve_tokenizer("./bare2", fetch=True)
    (tmp_path / "bare" / "tokenizer.json").write_text("{}")
    assert "not a tokenizer" in call("data", "--encoder", "bare", code=65).stderr


def test_half_a_character_does_not_spoil_the_report() -> None:
    from emotune.reports.inspection import Inspection, write_inspection

    corpus = corpus_of(train=[("half \ud83d of it", (0,)), ("whole", (1, 2))])
    found = Inspection("x", (), profile(corpus), samples(corpus, "train", 1, 0), (), None, 128)
    write_inspection(found, Path("out"), lambda message: None)
    assert json.loads(Path("out/inspection.json").read_text())["samples"]["anger"][0]["text"] == r"half \ud83d of it"
    assert r"half \\ud83d of it" in Path("out/report.md").read_text()


def stored(path: Path) -> Corpus:
    return load_stored_splits(resolve_data(config_from({}, [f"data.path={path}"]).data))


def test_stored_splits_are_not_divided(data: Path) -> None:
    corpus = stored(data)
    assert [(name, [r.line for r in rows]) for name, rows in corpus.splits.items()] == [
        ("train", [2, 3, 4, 5, 6]),
        ("valid", [2, 3]),
    ]


def mislabelled(base: Path, folder: Path, split: str) -> tuple[Path, int]:
    """A copy of the small corpus in which one text of a split has the wrong labels, and its line."""
    shutil.copytree(tiny.multi_label(base), folder)
    file = folder / f"{split}.csv"
    lines = file.read_text().splitlines()
    number = next(i for i, line in enumerate(lines) if line.endswith(",1,0,0"))
    lines[number] = lines[number].removesuffix(",1,0,0") + ",0,1,1"
    file.write_text("".join(f"{line}\n" for line in lines))
    return folder, number + 1


def test_a_model_lists_rows_whose_labels_are_probably_wrong(base: Path, tmp_path: Path) -> None:
    run = tiny.ngrams(base)
    data, line = mislabelled(base, tmp_path / "data", "valid")
    found = found_in(data, "--model", run, "--suspects", 3)["suspects"]
    assert len(found["rows"]) == 3
    worst = found["rows"][0]
    assert (Path(worst["file"]).name, worst["line"], worst["split"]) == ("valid.csv", line, "valid")
    assert list(worst["predicted"]) == ["anger"]
    assert set(worst["labels"]) == {"fear", "joy"}
    assert worst["surprisal"] == pytest.approx(-sum(map(math.log, worst["labels"].values())), abs=1e-5)
    assert found["trained"] == tiny.SPLITS["train"]  # those rows are not judged
    assert found["judged"] == tiny.SPLITS["valid"] + tiny.SPLITS["test"]
    call(data, "--model", run, "--out", tmp_path / "report")
    assert f"valid.csv:{line}" in (tmp_path / "report" / "report.md").read_text()
    assert f"valid.csv:{line}" in call(data, "--model", run).stdout


def test_a_cross_trained_model_judges_its_own_training_rows(base: Path, tmp_path: Path) -> None:
    data, line = mislabelled(base, tmp_path / "data", "train")
    train = ["train", "starter", "--data", data, "--folds", 2, "--set", "model.kind=tfidf", "--out", "run"]
    assert CliRunner().invoke(app, list(map(str, train))).exit_code == 0
    found = found_in(data, "--split", "train", "--model", "run")["suspects"]
    assert found["rows"][0]["line"] == line
    assert found["trained"] == 0


def test_a_model_that_cannot_judge_is_an_error(base: Path, tmp_path: Path) -> None:
    result = call(tiny.multi_label(base), "--split", "train", "--model", tiny.ngrams(base), code=2)
    assert "was trained on all these rows" in result.stderr
    assert "--folds 5" in result.stderr
    result = call(tiny.multi_class(base), "--model", tiny.ngrams(base), code=2)
    assert "has other labels than the data" in result.stderr


def test_rows_without_labels_are_suspect_where_one_is_probable() -> None:
    records = corpus_of(train=[("a", ()), ("b", ()), ("c", (0, 2))]).splits["train"]
    found = surprisals(records, np.array([[0.9, 0.1, 0.1], [0.1, 0.1, 0.1], [0.5, 0.9, 0.0]]))
    assert found.tolist() == pytest.approx([-math.log(0.1 * 0.9**2), -3 * math.log(0.9), math.log(2e16)])


def test_the_report_is_written(data: Path, base: Path) -> None:
    pytest.importorskip("matplotlib")
    call("data", "--encoder", tiny.encoder(base), "--out", "out")
    report = Path("out/report.md").read_text()
    for name in ("label_counts", "cooccurrence", "lengths", "labels_per_text"):
        assert Path(f"out/{name}.png").read_bytes().startswith(b"\x89PNG")
        svg = Path(f"out/{name}.svg").read_text()
        assert "<svg" in svg
        assert "<script" not in svg
        assert f"({name}.png)" in report
    assert "this &amp;amp; that" in report.replace("&amp; that", "&amp;amp; that")
    assert json.loads(Path("out/inspection.json").read_text())["rows"] == 7
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    call("data", "--encoder", tiny.encoder(base), "--out", "out")
    assert {path: path.read_bytes() for path in Path("out").iterdir()} == before
    assert "cannot write" in call("data", "--encoder", tiny.encoder(base), "--out", "data/dev.csv/x", code=73).stderr


def test_without_matplotlib_the_report_has_no_pictures(data: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "emotune.reports.figures", None)
    monkeypatch.delattr(reports, "figures", raising=False)
    result = call("data", "--encoder", tiny.encoder(base), "--out", "out")
    assert "pip install '.[reports]'" in result.stderr
    assert sorted(path.name for path in Path("out").iterdir()) == ["inspection.json", "report.md"]


@pytest.mark.parametrize(
    "labels",
    [("one",), ("a", "b"), tuple(f"label {i} with a long name" for i in range(70)), ("$x$", "<b>", "愤怒", "😡")],
    ids=["one", "two", "seventy", "hostile"],
)
def test_pictures_of_any_labels(labels: tuple[str, ...]) -> None:
    pytest.importorskip("matplotlib")
    from emotune.reports.figures import data, rendered

    rows = [(f"text {i} {i * 7919}", tuple({i % len(labels), i * i % len(labels)})) for i in range(50)]
    found = profile(corpus_of(tiny.unchecked(labels), train=[*rows, ("", ())], valid=rows[:0]))
    counts = data.label_counts(found)
    assert [bar.get_width() for bar in counts.axes[0].patches] == sorted(found.main.label_counts, reverse=True)
    for figure in (counts, data.cooccurrence(found), data.lengths(found, 128), data.labels_per_text(found)):
        assert rendered(figure, "png").startswith(b"\x89PNG")
        assert rendered(figure, "svg").endswith(b"</svg>\n")


def test_real_data_has_the_flaws_that_it_is_known_for() -> None:
    if not REAL.is_dir():
        pytest.skip("the data sets are not on this machine: name their folder in EMOTUNE_DATA")
    corpus = stored(REAL / "goemotions")
    found = profile(corpus)
    assert [split.rows for split in found.splits] == [43_410, 5_426]
    assert int(found.main.label_counts[LabelSet(found.labels.names).index("grief")]) == 77
    (leak,) = [f for f in found.findings if f.kind == "leak"]
    exact = {row.text for row in corpus.splits["train"]}
    assert len({row.text for row in leak.rows} & exact) == 41
    findings = profile(stored(REAL / "dair-emotion")).findings
    conflicts = [f for f in findings if f.kind == "conflict" and f.splits == ("train",)]
    assert "60 rows in train repeat 30 texts" in str(conflicts[0])
