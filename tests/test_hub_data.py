"""Data sets by hub id, against a hub of our own on this machine: what is fetched, how it is read, what fails."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from emotune.cli.app import app
from emotune.config.schema import DataConfig
from emotune.data.corpus import STARTER, load_corpus, resolve_data
from emotune.data.split_files import choose_files, find_splits
from emotune.errors import DataError, HubError, MissingInputError
from emotune.labels import DAIR, LabelSet
from local_hub import COMMIT, Hub
from test_hub import cache, hub  # noqa: F401 - fixtures

CARD = """---
license: other
dataset_info:
- config_name: split
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': sadness
          '1': joy
          '2': love
          '3': anger
          '4': fear
          '5': surprise
configs:
- config_name: split
  data_files:
  - split: train
    path: split/train-*
  - split: validation
    path: split/validation-*
  default: true
- config_name: unsplit
  data_files:
  - split: train
    path: unsplit/all.jsonl
---
# emotion
"""
NAME = "owner/emotion"


def rows(*labels: int) -> bytes:
    return "".join(
        json.dumps({"text": f"text {i} of {labels}", "label": n}) + "\n" for i, n in enumerate(labels)
    ).encode()


EMOTION = {
    "README.md": CARD.encode(),
    "emotion.py": b"raise SystemExit('this is never fetched')",
    "split/train-00000-of-00002.jsonl": rows(0, 1, 2),
    "split/train-00001-of-00002.jsonl": rows(3, 4, 5),
    "split/validation-00000-of-00001.jsonl": rows(1, 5),
    "unsplit/all.jsonl": rows(0, 1, 2, 3, 4, 5, 0),
    "model.safetensors": b"x" * 100,
}


def read(path: str, splits: tuple[str, ...] = ("train", "valid"), **options: Any) -> Any:
    return load_corpus(resolve_data(DataConfig(path=path, **options)), splits)


def test_a_data_set_is_fetched_by_its_card_and_read_with_its_class_names(hub: Hub) -> None:  # noqa: F811
    hub.repositories[NAME] = EMOTION
    corpus = read(NAME)
    assert corpus.labels == DAIR
    assert {split: len(records) for split, records in corpus.splits.items()} == {"train": 6, "valid": 2}
    assert [r.labels for r in corpus.splits["train"]] == [(0,), (1,), (2,), (3,), (4,), (5,)]
    assert corpus.description[0] == f"{NAME} from the hub, revision {COMMIT}"
    assert hub.files == {name for name in EMOTION if name.startswith("split/")} | {"README.md"}


@pytest.mark.parametrize("asked", [{"path": f"{NAME}:unsplit"}, {"path": NAME, "subset": "unsplit"}])
def test_another_subset_is_taken_when_asked_for(hub: Hub, asked: dict[str, str]) -> None:  # noqa: F811
    hub.repositories[NAME] = EMOTION
    corpus = read(**asked, splits=("train",))
    assert len(corpus.splits["train"]) == 7
    assert "subset unsplit" in corpus.description[0]
    assert hub.files == {"unsplit/all.jsonl", "README.md"}


def test_what_was_fetched_serves_without_the_hub_and_is_pinned(hub: Hub) -> None:  # noqa: F811
    hub.repositories[NAME] = EMOTION
    first = resolve_data(DataConfig(path=f"{NAME}:split"))
    assert (first.pinned.path, first.pinned.subset, first.pinned.revision) == (NAME, "split", COMMIT)
    hub.gone = True
    again = resolve_data(first.pinned)
    assert again.local == first.local.model_copy(update={"revision": COMMIT})
    assert again.origin == f"{NAME}, subset split from the hub's cache, revision {COMMIT}"
    assert len(read(NAME).splits["train"]) == 6


def test_a_data_set_without_a_card_is_read_by_its_folders(hub: Hub) -> None:  # noqa: F811
    table = b"text,label\nso,joy\nno,anger\nhm,joy\n"
    hub.repositories[NAME] = {"data/train.csv": table, "data/test.csv": table, "data/notes.txt": b"x", "plot.png": b"x"}
    corpus = read(NAME, ("train", "test"))
    assert [len(corpus.splits[split]) for split in ("train", "test")] == [3, 3]
    assert hub.files == {"data/train.csv", "data/test.csv"}


def test_files_and_folders_come_before_the_hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "emotion").mkdir(parents=True)
    for path in (NAME, STARTER, "no-slash", "./owner/other", "a/b/c", "owner/train.csv", "owner/train.csv.gz"):
        source = resolve_data(DataConfig(path=path))
        assert (source.local.path, source.origin) == (path, "")
    assert hub.requests == []


# --- what is refused ---------------------------------------------------------------------------------------------


def test_a_name_that_neither_the_disk_nor_the_hub_has(hub: Hub) -> None:  # noqa: F811
    with pytest.raises(
        HubError, match="the hub has no data set 'owner/nothing', and there is no file or folder"
    ) as caught:
        resolve_data(DataConfig(path="owner/nothing"))
    assert caught.value.exit_code == 66


def test_an_unreachable_hub_is_one_error_that_says_what_to_do(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", "starter", "--data", NAME, "--out", str(tmp_path / "run")])
    assert (result.exit_code, result.stdout) == (66, "")
    assert result.stderr.startswith(
        f"error: there is no file or folder {NAME}; as a data set, {NAME} is not in the hub's cache, and the hub failed"
    )
    assert "--data DIR" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_subset_is_refused_with_the_nearest(hub: Hub) -> None:  # noqa: F811
    hub.repositories[NAME] = EMOTION
    with pytest.raises(DataError, match="no subset 'unslit'") as caught:
        resolve_data(DataConfig(path=f"{NAME}:unslit"))
    assert "unsplit" in str(caught.value.hint)


def test_several_subsets_are_asked_about(hub: Hub) -> None:  # noqa: F811
    table = b"text,label\nso,joy\nno,anger\n"
    hub.repositories[NAME] = {"raw/train.csv": table, "simplified/train.csv": table}
    with pytest.raises(DataError, match="several subsets: raw, simplified") as caught:
        resolve_data(DataConfig(path=NAME))
    assert "--set data.subset=raw" in str(caught.value.hint)
    assert len(read(f"{NAME}:simplified", ("train",)).splits["train"]) > 0


def test_a_data_set_of_scripts_alone_is_refused(hub: Hub) -> None:  # noqa: F811
    hub.repositories[NAME] = {"emotion.py": b"print()", "README.md": b"# emotion"}
    with pytest.raises(MissingInputError, match="no files of training, validation or test rows") as caught:
        resolve_data(DataConfig(path=NAME))
    assert "refs/convert/parquet" in str(caught.value.hint)
    with pytest.raises(HubError, match="no revision 'never'"):
        resolve_data(DataConfig(path=NAME, revision="never"))


# --- folders and cards -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "card",
    ["---\nconfigs: 7\n---\n", "---\n[\n---\n", "no front matter", "---\nconfigs:\n- 1\n- config_name: x\n---\n", ""],
)
def test_a_card_that_says_nothing_usable_is_passed_over(card: str) -> None:
    assert choose_files(["data/train.csv"], card, None, Path("x")) == {"train": ["data/train.csv"]}


def test_a_folder_copied_from_the_hub_is_read_alike(tmp_path: Path) -> None:
    for name, content in EMOTION.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert list(find_splits(tmp_path)) == ["train", "valid"]
    assert [p.name for p in find_splits(tmp_path, subset="unsplit")["train"]] == ["all.jsonl"]
    corpus = read(str(tmp_path))
    assert corpus.labels == LabelSet(DAIR.names, DAIR.task)


def test_a_folder_with_split_files_is_not_looked_into_further(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    for name in ("dev.csv", "old/train.csv"):
        (tmp_path / name).write_text("text,label\na,joy\n")
    assert list(find_splits(tmp_path)) == ["valid"]


def test_shards_are_read_in_order_and_none_may_be_missing(tmp_path: Path) -> None:
    for i in (2, 0, 1):
        (tmp_path / f"train-{i:05}-of-00003.jsonl").write_bytes(rows(i, i))
    (tmp_path / "labels.json").write_text('{"anger": 0, "joy": 1, "awe": 2}')
    corpus = read(str(tmp_path), ("train",))
    assert [(r.path.name[6:11], r.line) for r in corpus.splits["train"]] == [
        (f"{i:05}", line) for i in range(3) for line in (1, 2)
    ]
    (tmp_path / "train-00001-of-00003.jsonl").unlink()
    with pytest.raises(DataError, match="of 3 shards there are 2"):
        find_splits(tmp_path)
