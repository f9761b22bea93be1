"""`emotune fetch`: into the cache, verified, from wherever; and what a fetched set is to training and its card."""

import gzip
import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Thread

import pytest
from typer.testing import CliRunner, Result

import tiny
import webserver
from emotune.cli.app import app
from emotune.config.loading import load_config
from emotune.config.schema import DataConfig
from emotune.data.corpus import locate, tell_published
from emotune.data.download import unpacked
from emotune.data.published import DataFile, DataSet, cache_directory, data_sets, fetched_folder, published_sets
from emotune.errors import DataError, MissingInputError, OutputError, UsageError
from emotune.labels import GOEMOTIONS
from emotune.reporter import NullReporter
from emotune.reports.card import published_of
from emotune.workflows.fetch import fetch
from label_files import load_corpus
from webserver import Site, cut, fail, instead

ROWS = {
    split: "".join(f"row {i} of {split}\t{i % 28}\tid{i}\n" for i in range(60)) for split in ("train", "dev", "test")
}
NO_WAIT = {"reporter": NullReporter(), "pause": lambda seconds: None}


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    with webserver.running() as site:
        yield site


@pytest.fixture
def site(server: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    """A server that publishes a small GoEmotions, which the catalogue has instead of the real one; an empty cache."""
    for name in ("EMOTUNE_MIRROR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EMOTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "*")
    server.files = {f"/published/{split}.tsv": text.encode() for split, text in ROWS.items()}
    server.next, server.asked = [], []
    files = [data_file(f"{split}.tsv", text, f"{server.url}/published/{split}.tsv") for split, text in ROWS.items()]
    small = replace(data_sets()["goemotions"], files=(*files, data_sets()["goemotions"].files[-1]))
    monkeypatch.setitem(data_sets(), "goemotions", small)
    return server


def data_file(name: str, text: str, url: str) -> DataFile:
    return DataFile(name, url, hashlib.sha256(text.encode()).hexdigest(), len(text))


def call(*args: object, code: int = 0, **env: str) -> Result:
    result = CliRunner().invoke(app, ["fetch", *map(str, args)], env=env)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def held(folder: Path) -> dict[str, str]:
    """The files of a folder by name, without the lock."""
    return {path.name: path.read_text() for path in folder.iterdir() if path.name != ".fetch.lock"}


WHOLE = {f"{split}.tsv": text for split, text in ROWS.items()} | {"labels.txt": "\n".join(GOEMOTIONS.names)}


# Fetching


def test_a_set_is_fetched_and_then_it_is_there(site: Site, tmp_path: Path) -> None:
    result = call("goemotions")
    folder = tmp_path / "cache" / "data" / "goemotions"
    assert result.stdout == f"data: {folder}\n"
    assert "next: emotune train goemotions\n" in result.stderr
    assert "CC BY 4.0" in result.stderr
    assert held(folder) == WHOLE
    site.asked.clear()
    again = json.loads(call("goemotions", "--json").stdout)
    assert again["files"] == dict.fromkeys(WHOLE, "there")
    assert again["folder"] == str(folder)
    assert site.asked == []


def test_quiet_says_the_result_and_warnings_alone(site: Site) -> None:
    assert call("goemotions", "--quiet").stderr == ""


def test_another_folder(site: Site, tmp_path: Path) -> None:
    result = call("goemotions", "--out", tmp_path / "mine")
    assert held(tmp_path / "mine") == WHOLE
    assert f"next: emotune train goemotions --data {tmp_path / 'mine'}" in result.stderr
    assert not (tmp_path / "cache").exists()


def test_another_folder_is_filled_from_the_cache_where_that_is_whole(site: Site, tmp_path: Path) -> None:
    fetch("goemotions", **NO_WAIT)
    site.asked.clear()
    fetch("goemotions", out=tmp_path / "mine", **NO_WAIT)
    assert held(tmp_path / "mine") == WHOLE
    assert site.asked == []


def test_a_cut_download_goes_on_in_the_next_process(site: Site) -> None:
    site.next = [cut(500), *[fail(503)] * 4]
    with pytest.raises(MissingInputError, match="Try again: the bytes so far are kept"):
        fetch("goemotions", **NO_WAIT)
    outcome = fetch("goemotions", **NO_WAIT)
    assert held(outcome.folder) == WHOLE
    assert (site.asked[5].range, site.sent) == ("bytes=500-", sum(map(len, ROWS.values())))


def test_only_what_is_missing_or_damaged_is_fetched_again(site: Site) -> None:
    folder = fetch("goemotions", **NO_WAIT).folder
    (folder / "dev.tsv").write_text(WHOLE["dev.tsv"].replace("row 7 ", "row 8 "))
    (folder / "labels.txt").unlink()
    site.asked.clear()
    outcome = fetch("goemotions", **NO_WAIT)
    assert outcome.files == {
        "train.tsv": "there",
        "dev.tsv": "fetched",
        "test.tsv": "there",
        "labels.txt": "fetched",
    }
    assert [one.path for one in site.asked] == ["/published/dev.tsv"]
    assert held(folder) == WHOLE


def test_wrong_bytes_are_kept_nowhere(site: Site, tmp_path: Path) -> None:
    wrong = WHOLE["train.tsv"].replace("row 7 ", "row 8 ").encode()
    site.next = [instead(wrong)]
    with pytest.raises(DataError) as caught:
        fetch("goemotions", **NO_WAIT)
    for digest in (hashlib.sha256(wrong).hexdigest(), data_sets()["goemotions"].files[0].sha256):
        assert digest in str(caught.value)
    assert held(tmp_path / "cache" / "data" / "goemotions") == {}
    assert len(site.asked) == 1


def test_a_file_of_another_length_is_wrong_too(site: Site, tmp_path: Path) -> None:
    for wrong in (b"short", WHOLE["train.tsv"].encode() + b"more"):
        site.next = [instead(wrong)]
        result = call("goemotions", code=65)
        assert "the published" in result.stderr
        assert held(tmp_path / "cache" / "data" / "goemotions") == {}


def test_a_web_page_in_place_of_the_file(site: Site) -> None:
    site.next = [instead(b"<!DOCTYPE html><html>Please log in</html>")]
    assert "a proxy or a login may stand in between" in call("goemotions", code=65).stderr


def test_pieces_that_do_not_fit_together_are_fetched_anew(site: Site) -> None:
    """The digest shows that the file changed between the pieces."""
    right = site.files["/published/train.tsv"]

    def then_mended(handler: webserver.Handler) -> None:
        webserver.serve(handler, send=900)
        site.files["/published/train.tsv"] = right

    site.files["/published/train.tsv"] = right.upper()
    site.next = [then_mended]
    assert held(fetch("goemotions", **NO_WAIT).folder) == WHOLE
    assert [one.range for one in site.asked[:3]] == [None, "bytes=900-", None]


def test_what_is_not_there_any_more_says_what_to_do(site: Site) -> None:
    site.next = [fail(404)]
    said = call("goemotions", code=66).stderr
    assert f"error: {site.url}/published/train.tsv: the server says 404" in said
    assert "emotune fetch goemotions --from DIR" in said
    for split in ROWS:
        assert f"    {split}.tsv" in said
        assert f"{site.url}/published/{split}.tsv" in said
    assert "labels.txt" not in said


def test_two_at_once_do_not_get_in_each_others_way(site: Site) -> None:
    start, outcomes = Barrier(3), []

    def run() -> None:
        start.wait(10)
        outcomes.append(fetch("goemotions", **NO_WAIT))

    threads = [Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(outcomes) == 3
    assert held(outcomes[0].folder) == WHOLE
    assert site.sent == sum(map(len, ROWS.values()))


def test_another_process_that_holds_the_lock_is_waited_for(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "data" / "goemotions"
    folder.mkdir(parents=True)
    program = (
        "import sys; from filelock import FileLock\n"
        f"with FileLock({str(folder / '.fetch.lock')!r}): print(flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        holder.stdout.readline()

        class Heard(NullReporter):
            said = ""

            def info(self, message: str) -> None:
                self.said += message
                holder.stdin.close()  # lets it end

        reporter = Heard()
        fetch("goemotions", reporter=reporter)
    assert "another process is fetching" in reporter.said
    assert held(folder) == WHOLE


# Mirrors


@pytest.mark.parametrize("base", ["/mirror", "/mirror/"])
@pytest.mark.parametrize("inside", ["/mirror", "/mirror/goemotions"])
def test_a_mirror_on_the_web(site: Site, base: str, inside: str) -> None:
    site.files = {f"{inside}/{split}.tsv": text.encode() for split, text in ROWS.items()}
    folder = json.loads(call("goemotions", "--json", EMOTUNE_MIRROR=site.url + base).stdout)["folder"]
    assert held(Path(folder)) == WHOLE


@pytest.mark.parametrize("inside", [".", "goemotions"])
def test_a_folder(site: Site, tmp_path: Path, inside: str) -> None:
    (tmp_path / "by-hand" / inside).mkdir(parents=True)
    for split, text in ROWS.items():
        (tmp_path / "by-hand" / inside / f"{split}.tsv").write_text(text)
    call("goemotions", "--from", tmp_path / "by-hand")
    assert held(tmp_path / "cache" / "data" / "goemotions") == WHOLE
    assert site.asked == []


def test_a_mirror_may_lack_the_test_split_alone(site: Site, tmp_path: Path) -> None:
    (tmp_path / "by-hand").mkdir()
    for split in ("train", "dev"):
        (tmp_path / "by-hand" / f"{split}.tsv").write_text(ROWS[split])
    result = call("goemotions", "--from", tmp_path / "by-hand", "--json")
    assert f"warning: {tmp_path / 'by-hand'} does not have test.tsv, the test split" in result.stderr
    assert json.loads(result.stdout)["files"]["test.tsv"] == "missing"
    assert fetched_folder("emotune:goemotions") == tmp_path / "cache" / "data" / "goemotions"
    call("goemotions")  # from where it is published, the rest of it
    assert [one.path for one in site.asked] == ["/published/test.tsv"]
    (tmp_path / "by-hand" / "dev.tsv").unlink()
    said = call("goemotions", "--from", tmp_path / "by-hand", "--out", tmp_path / "other", code=66).stderr
    assert "does not have dev.tsv" in said


def test_a_folder_with_another_file_of_that_name(site: Site, tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("mine\t3\tid\n")
    said = call("goemotions", "--from", tmp_path, code=65).stderr
    assert f"error: {tmp_path / 'train.tsv'} is not the published train.tsv" in said


@pytest.mark.parametrize("mirror", ["nowhere", "file:///etc", "ftp://127.0.0.1/data"])
def test_a_mirror_that_is_none(site: Site, mirror: str) -> None:
    assert "is a folder, or a URL that begins with http" in call("goemotions", "--from", mirror, code=66).stderr


# Files that are made of what is published


def json_lines(text: str, labels: tuple[str, ...]) -> bytes:
    rows = (line.rsplit(";", 1) for line in text.removesuffix("\n").split("\n"))
    lines = (json.dumps({"text": t, "label": labels.index(n)}, ensure_ascii=False) for t, n in rows)
    return gzip.compress("".join(f"{line}\n" for line in lines).encode())


EMOTION_ROWS = "i feel “fine” ;-) to\u2028day;joy\n" + "no; not at all;sadness\n" * 100


def packed_file(name: str, url: str) -> DataFile:
    content = EMOTION_ROWS.encode()
    digest = hashlib.sha256(content).hexdigest()
    return DataFile(name, url, digest, len(content), packing="json_lines")


@pytest.fixture
def packed(site: Site, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The catalogue's emotion as two rows a split, published as JSON lines."""
    raw = json_lines(EMOTION_ROWS, EMOTION_LABELS)
    files = []
    for split in ("train", "val"):
        site.files[f"/hub/{split}.jsonl.gz"] = raw
        files.append(packed_file(f"{split}.txt", f"{site.url}/hub/{split}.jsonl.gz"))
    monkeypatch.setitem(data_sets(), "emotion", replace(data_sets()["emotion"], files=tuple(files)))
    return raw


EMOTION_LABELS = ("sadness", "joy", "love", "anger", "fear", "surprise")


def test_json_lines_become_the_file_that_was_first_published(site: Site, packed: bytes) -> None:
    site.next = [cut(30)]
    outcome = fetch("emotion", **NO_WAIT)
    assert held(outcome.folder) == {"train.txt": EMOTION_ROWS, "val.txt": EMOTION_ROWS}
    assert site.sent == 2 * len(packed)
    warning = "warning: emotion: its makers ask that it be used for education and research only\n"
    assert call("emotion", "--quiet").stderr == warning


@pytest.mark.parametrize("name", ["train.jsonl.gz", "train.txt"])
def test_a_folder_may_hold_what_is_published_or_what_is_made_of_it(
    packed: bytes, site: Site, tmp_path: Path, name: str
) -> None:
    (tmp_path / "hand").mkdir()
    for split in ("train", "val"):
        content = EMOTION_ROWS.encode() if name.endswith(".txt") else packed
        (tmp_path / "hand" / name.replace("train", split)).write_bytes(content)
    call("emotion", "--from", tmp_path / "hand")
    assert locate("emotune:emotion") == tmp_path / "cache" / "data" / "emotion"
    assert site.asked == []


@pytest.mark.parametrize(
    "raw",
    [
        b"no gzip",
        gzip.compress(b"no JSON"),
        gzip.compress(b'{"text": "a"}'),
        gzip.compress(b'{"text": "a", "label": 6}'),
        gzip.compress(b'["text"]'),
        gzip.compress(b"\xff"),
        gzip.compress(b"[" * 100_000),
        gzip.compress(b'{"text": "\\ud800", "label": 1}'),
        gzip.compress(b'{"text": "a", "label": 1}')[:-9],
        gzip.compress(b'{"text": "' + b"a" * 10_000_000 + b'", "label": 1}'),
    ],
    ids=[
        "no gzip",
        "no JSON",
        "no label",
        "unknown label",
        "list",
        "no UTF-8",
        "deep",
        "surrogate",
        "cut",
        "too large",
    ],
)
def test_what_does_not_unpack_is_wrong(site: Site, packed: bytes, raw: bytes) -> None:
    site.files["/hub/train.jsonl.gz"] = raw
    said = call("emotion", code=65).stderr
    assert "is not the published train.txt" in said
    assert "Traceback" not in said


# Places that cannot be written


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_is_read_only(site: Site, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(stat.S_IRUSR | stat.S_IXUSR)
    said = call("goemotions", code=73).stderr
    assert "--out DIR, or EMOTUNE_CACHE=DIR" in said


def test_a_file_system_that_is_read_only(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *args: object, **options: object) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    said = call("goemotions", code=73).stderr
    assert "cannot write: Read-only file system" in said
    assert "--out DIR, or EMOTUNE_CACHE=DIR" in said


def test_a_file_where_the_folder_should_be(site: Site, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    said = call("goemotions", code=73).stderr
    assert "cannot write: " in said
    assert "--out DIR, or EMOTUNE_CACHE=DIR" in said


@pytest.mark.parametrize("failing", ["the part", "the file"])
def test_a_full_disk(site: Site, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    real = Path.open

    def full(path: Path, mode: str = "r", *args: object, **options: object):
        if "w" in mode and path.name.endswith(".part") and ("train.tsv." in path.name) == (failing == "the part"):
            raise OSError(28, "No space left on device", str(path))
        return real(path, mode, *args, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OutputError, match="No space left on device") as caught:
        fetch("goemotions", **NO_WAIT)
    assert "EMOTUNE_CACHE=DIR" in str(caught.value)


def test_a_read_only_cache_that_is_whole_is_not_written(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch("goemotions", **NO_WAIT)
    monkeypatch.setattr("emotune.workflows.fetch._filling", None)  # nothing is locked or made
    assert set(fetch("goemotions", **NO_WAIT).files.values()) == {"there"}


# The command line


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "which data set?\n  One of: goemotions, emotion, semeval2025."),
        (["goemotion"], "no published data set 'goemotion' is known\n  Did you mean 'goemotions'?"),
    ],
)
def test_an_unknown_set_is_a_wrong_argument(args: list[str], says: str) -> None:
    assert says in call(*args, code=2).stderr


def test_the_list(site: Site, tmp_path: Path) -> None:
    before = call("--list").stdout
    assert before.count("not yet") == 3
    assert before.count("@inproceedings{") == 4
    assert "education and research only" in before
    call("goemotions")
    listed = json.loads(call("--list", "--json").stdout)
    assert list(listed) == ["goemotions", "emotion", "semeval2025"]
    assert listed["goemotions"]["folder"] == str(tmp_path / "cache" / "data" / "goemotions")
    assert listed["emotion"]["folder"] is None
    assert all(entry["licence"] and entry["citation"] and entry["page"] for entry in listed.values())


def test_a_bar_on_a_terminal_only(site: Site, tmp_path: Path) -> None:
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    assert "━" in call("goemotions", "--out", tmp_path / "a", **terminal).stderr
    assert "━" not in call("goemotions", "--out", tmp_path / "b", "--quiet", **terminal).stderr
    assert "━" not in call("goemotions", "--out", tmp_path / "c").stderr


# The cache, and what training makes of it


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"EMOTUNE_CACHE": "/a/b", "XDG_CACHE_HOME": "/x"}, "/a/b"),
        ({"EMOTUNE_CACHE": "~/own"}, "/home/me/own"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/emotune"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/emotune"),
        ({"EMOTUNE_CACHE": "", "XDG_CACHE_HOME": ""}, "/home/me/.cache/emotune"),
    ],
)
def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str) -> None:
    for name in ("EMOTUNE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (variables | {"HOME": "/home/me", "USERPROFILE": "/home/me"}).items():
        monkeypatch.setenv(name, value)
    assert cache_directory() == Path(expected)


def test_without_a_home_the_cache_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(UsageError, match="Name a folder for data sets in EMOTUNE_CACHE"):
        cache_directory()


@pytest.mark.parametrize("recipe", ["goemotions", "emotion", "semeval2025", "goemotions-tinybert", "semeval2025-bert"])
def test_a_recipe_names_its_set_and_its_absence_says_how_to_fetch_it(site: Site, recipe: str) -> None:
    config = load_config(recipe).data
    name = recipe.partition("-")[0]
    with pytest.raises(MissingInputError) as caught:
        load_corpus(config)
    assert f"Download it with: emotune fetch {name} " in str(caught.value)
    assert f"emotune fetch {name}" in str(refusal(MissingInputError, name))


def refusal(kind: type[Exception], path: str) -> Exception:
    with pytest.raises(kind) as caught:
        locate(path)
    return caught.value


def test_a_fetched_set_is_found_by_its_name(site: Site) -> None:
    folder = fetch("goemotions", **NO_WAIT).folder
    assert locate("emotune:goemotions") == folder
    corpus = load_corpus(load_config("goemotions").data, ("train", "valid", "test"))
    assert [len(records) for records in corpus.splits.values()] == [60, 60, 60]
    assert corpus.labels == GOEMOTIONS


def test_a_fetched_file_that_was_changed_is_refused(site: Site) -> None:
    folder = fetch("goemotions", **NO_WAIT).folder
    (folder / "train.tsv").write_text(ROWS["train"].replace("row 7 ", "row 8 "))
    error = refusal(DataError, "emotune:goemotions")
    assert str(error).startswith(f"{folder / 'train.tsv'}: this is not the published file")
    assert "emotune fetch goemotions" in str(error)


def test_a_name_that_is_not_in_the_catalogue() -> None:
    assert "Did you mean 'goemotions'?" in str(refusal(UsageError, "emotune:goemotion"))


def test_files_are_known_by_their_content_wherever_they_lie(site: Site, tmp_path: Path) -> None:
    (tmp_path / "copy.csv").write_text(ROWS["dev"])
    (tmp_path / "own.csv").write_text("text,label\na,joy\n")
    assert [s.name for s in published_sets([tmp_path / "copy.csv", tmp_path / "own.csv"])] == ["goemotions"]
    assert published_sets([tmp_path / "own.csv", tmp_path / "nowhere"]) == ()
    packed = gzip.compress(ROWS["dev"].encode())
    (tmp_path / "dev.tsv.gz").write_bytes(packed)
    (tmp_path / "cut.tsv.gz").write_bytes(packed[:-9])
    assert [s.name for s in published_sets([tmp_path / "dev.tsv.gz"])] == ["goemotions"]
    assert published_sets([tmp_path / "cut.tsv.gz"]) == ()


def test_files_from_the_hub_are_known_by_the_id_of_their_data_set(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\na,joy\nb,fear\nc,joy\n")
    corpus = load_corpus(DataConfig(path=str(tmp_path)), ("train",))
    for data_set in data_sets().values():
        for path in (data_set.hub_id, f"{data_set.hub_id.upper()}:subset"):
            assert tell_published(corpus, DataConfig(path=path), NullReporter()) == (data_set,)
    assert tell_published(corpus, DataConfig(path="owner/another"), NullReporter()) == ()
    assert tell_published(corpus, DataConfig(path=str(tmp_path)), NullReporter()) == ()


def test_the_card_cites_what_a_model_was_trained_on(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path_factory.getbasetemp()
    rows = tiny.goemotions(base)
    files = tuple(data_file(path.name, path.read_text(), "http://127.0.0.1/") for path in sorted(rows.glob("*.tsv")))
    known = replace(data_sets()["emotion"], files=files)
    monkeypatch.setitem(data_sets(), "emotion", known)
    args = ["train", "goemotions", *tiny.options(base, rows, epochs=1), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0, result.output
    assert "warning: emotion: its makers ask" in result.stderr
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert known.citation in card
    assert "Licence: none stated. Terms: its makers ask" in card
    assert "language: en\ndatasets:\n- dair-ai/emotion\n" in card
    again = tiny.copy(tmp_path / "run", tmp_path / "again")
    args = ["ensemble", str(tmp_path / "run"), str(again), "--out", str(tmp_path / "both")]
    together = CliRunner().invoke(app, args)
    assert together.exit_code == 0, together.output
    of_both = (tmp_path / "both" / "model" / "README.md").read_text()
    assert of_both.count(known.citation) == 1
    assert "language: en\ndatasets:\n- dair-ai/emotion\n" in of_both


def test_a_card_of_anybody_names_no_published_set() -> None:
    for front in ("", "a: [", "[]", "datasets: dair-ai/emotion", "datasets: [1, [2]]", "datasets: [nobody/knows]"):
        assert published_of(f"---\n{front}\n---\n# Model\n") == []
    assert [found.name for found in published_of("---\ndatasets: [dair-ai/emotion]\n---\n")] == ["emotion"]
    assert published_of("# no front matter") == []


# The catalogue itself


@pytest.mark.parametrize("data_set", data_sets().values(), ids=lambda data_set: data_set.name)
def test_the_catalogue_is_pinned(data_set: DataSet) -> None:
    import re

    names = [file.name for file in data_set.files]
    assert len(set(names)) == len(names)
    assert {"train", "test"} < {Path(name).stem for name in names}
    for file in data_set.files:
        assert re.search(r"https://.*/[0-9a-f]{40}/", file.url)
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in (file.sha256, *file.also))
        if file.text is not None:
            assert hashlib.sha256(file.text.encode()).hexdigest() == file.sha256
    assert data_set.licence
    assert data_set.citation.startswith("@")


@pytest.mark.parametrize(
    ("name", "folder"),
    [("goemotions", "goemotions"), ("emotion", "dair-emotion"), ("semeval2025", "semeval2025-eng")],
)
def test_the_real_files(name: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = os.environ.get("EMOTUNE_TEST_DATA")
    if not source or not (Path(source) / folder).is_dir():
        pytest.skip("the published files are not here: name the folder that holds them in EMOTUNE_TEST_DATA")
    outcome = fetch(name, reporter=NullReporter(), out=tmp_path / "out", mirror=str(Path(source) / folder))
    assert {name for name, state in outcome.files.items() if state == "missing"} <= {
        f"test{Path(name).suffix}" for name in outcome.files
    }
    corpus = load_corpus(DataConfig(path=str(tmp_path / "out")))
    assert [s.name for s in published_sets({r.path for r in corpus.splits["train"]})] == [name]


def test_the_real_rows_of_dair_emotion_survive_json_lines() -> None:
    source = Path(os.environ.get("EMOTUNE_TEST_DATA", "")) / "dair-emotion"
    if not (source / "train.txt").is_file():
        pytest.skip("dair-ai/emotion is not here: name the folder that holds it in EMOTUNE_TEST_DATA")
    for file in data_sets()["emotion"].files[:2]:
        text = (source / file.name).read_text(encoding="utf-8").removeprefix("\n")
        content = unpacked(json_lines(text, EMOTION_LABELS), file)
        assert hashlib.sha256(content).hexdigest() == file.sha256
