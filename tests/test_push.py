"""`emotune push`: to a local hub that speaks the real protocol, read back, and every way to fail."""

import contextlib
import hashlib
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import tiny
from emotune.artifact.manifest import DECISION, MANIFEST, find_model, read_manifest, verify
from emotune.artifact.opening import open_model
from emotune.cli.app import app
from emotune.decision import Decision
from emotune.errors import ModelError
from emotune.hub import publishing
from emotune.inference.classifier import load
from emotune.reports.card import Result, merged_card, published_card
from emotune.workflows import push as module
from local_hub import TOKEN, Fault, Hub, Repository, empty_cache, point_at, serving
from sealed import failing_with

NAME = "anna/emotions"
TEXTS = ["so happy and glad", "I hate this", "scared of the rain"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache of the hub, and a login that the local hub accepts."""
    from huggingface_hub import constants

    with empty_cache(tmp_path, monkeypatch) as folder:
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-login"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that answers."""
    with serving(monkeypatch) as state:
        yield state


@pytest.fixture(scope="session")
def evaluated(base: Path) -> Path:
    """A run of n-grams with an evaluation; not to be changed."""

    def build(path: Path) -> None:
        tiny.copy(tiny.ngrams(base), path)
        assert emotune("evaluate", path).exit_code == 0

    return tiny.once(base, "evaluated", build)


@pytest.fixture
def scored(evaluated: Path, tmp_path: Path) -> Path:
    """A run with an evaluation that may be changed."""
    return tiny.copy(evaluated, tmp_path / "starter")


@pytest.fixture
def run(base: Path, tmp_path: Path) -> Path:
    """A run without an evaluation, whose push has few files; it may be changed."""
    return tiny.copy(tiny.ngrams(base), tmp_path / "starter")


def emotune(*args: object) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def pushed(*args: object) -> Any:
    """The result of a push that succeeds."""
    result = emotune("push", *args)
    assert result.exit_code == 0, result.output
    return result


def refused(code: int, *args: object) -> str:
    """The message of a push that fails with an exit code, as one error and without a traceback."""
    result = emotune("push", *args)
    assert result.exit_code == code, result.output
    assert [line[:7] for line in result.stderr.splitlines()].count("error: ") == 1
    assert "Traceback" not in result.stderr
    return str(result.stderr)


def files_of(hub: Hub, branch: str = "main") -> dict[str, bytes]:
    return hub.pushed[NAME].files(branch)


def front_matter(card: bytes) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.decode().split("---\n")[1])
    return found


# What is pushed, and read back


def test_a_run_is_pushed_and_read_back_with_the_same_bytes(hub: Hub, run: Path, cache: Path) -> None:
    result = pushed(run, NAME)
    assert result.stdout == f"pushed: {hub.url}/{NAME}\n"
    assert hub.pushed[NAME].private
    assert hub.pushed[NAME].messages == ["initial commit", "Push starter with emotune"]
    there = files_of(hub)
    for name in ("model.safetensors", DECISION):
        assert there[name] == (run / "model" / name).read_bytes()
    directory = find_model(NAME)
    for name, entry in verify(directory).files.items():
        assert hashlib.sha256(there[name]).hexdigest() == entry.sha256
        assert (directory / name).read_bytes() == there[name]
    assert load(NAME).predict(TEXTS) == load(str(run)).predict(TEXTS)
    assert emotune("predict", "-m", NAME, TEXTS[0]).stdout == emotune("predict", "-m", run, TEXTS[0]).stdout
    hub.pushed.clear()
    assert find_model(NAME) == directory  # from the cache


def test_the_repository_has_the_report_and_no_data(hub: Hub, scored: Path) -> None:
    pushed(scored, NAME)
    there = files_of(hub)
    beside = {name for name in there if name not in json.loads(there[MANIFEST])["files"]}
    pictures = {f"eval/test/{path.name}" for path in (scored / "eval" / "test").glob("*.png")}
    assert beside == {MANIFEST, "README.md", "eval/test/report.html", *pictures}
    assert pictures


def test_a_second_push_of_the_same_changes_nothing(hub: Hub, run: Path) -> None:
    first = json.loads(pushed(run, NAME, "--json").stdout)
    again = json.loads(pushed(run, NAME, "--json").stdout)
    assert (first["status"], again["status"]) == ("pushed", "already there")
    assert first["commit"] == again["commit"]
    assert len(hub.pushed[NAME].messages) == 2
    assert hub.sent("/commit/") == 1
    assert "already there" in pushed(run, NAME).stdout


def test_a_push_of_a_tuned_model_sends_what_changed_and_removes_what_is_gone(hub: Hub, scored: Path) -> None:
    pushed(scored, NAME)
    hub.pushed[NAME].commit("main", hub.pushed[NAME].files() | {"notes.txt": b"mine"}, "by hand")
    assert emotune("tune", scored, "--method", "global").exit_code == 0
    uploads = hub.sent("PUT /lfs/")
    result = pushed(scored, NAME)
    assert "another version of the model" in result.stderr
    assert "emotune evaluate" in result.stderr
    there = files_of(hub)
    assert hub.sent("PUT /lfs/") == uploads
    assert not any(name.startswith("eval/") for name in there)
    assert there["notes.txt"] == b"mine"
    assert there[DECISION] == (scored / "model" / DECISION).read_bytes()
    assert verify(find_model(NAME))


def test_a_dry_run_lists_the_files_with_sizes_and_sends_nothing(hub: Hub, scored: Path) -> None:
    result = pushed(scored, NAME, "--dry-run")
    assert re.search(r"model\.safetensors +[\d.]+ kB", result.stdout)
    assert re.search(r"total +[\d.]+ [kM]B", result.stdout)
    listed = json.loads(pushed(scored, NAME, "--dry-run", "--json").stdout)
    assert not hub.calls
    assert listed["status"] == "dry run"
    pushed(scored, NAME)
    there = files_of(hub)
    assert {file["path"]: file["sha256"] for file in listed["files"] if file["path"] != "README.md"} == {
        name: hashlib.sha256(content).hexdigest() for name, content in there.items() if name != "README.md"
    }
    assert listed["bytes"] == sum(map(len, there.values()))


def test_a_branch_is_made_and_read_by_its_name(hub: Hub, run: Path) -> None:
    pushed(run, NAME)
    assert emotune("tune", run, "--method", "global").exit_code == 0
    result = pushed(run, NAME, "--branch", "v2", "--message", "Other thresholds", "--json")
    assert json.loads(result.stdout)["url"] == f"{hub.url}/{NAME}/tree/v2"
    assert hub.pushed[NAME].messages[-1] == "Other thresholds"
    assert files_of(hub, "v2")[DECISION] == (run / "model" / DECISION).read_bytes() != files_of(hub)[DECISION]
    assert load(f"{NAME}@v2").decision == load(str(run)).decision != load(NAME).decision


@pytest.mark.parametrize("model", ["default", "model"])
def test_the_model_of_the_package_and_a_model_without_a_run(hub: Hub, run: Path, tmp_path: Path, model: str) -> None:
    name = model if model == "default" else str(shutil.copytree(run / "model", tmp_path / "alone"))
    assert "not in a run" in pushed(name, NAME).stderr
    assert load(NAME).predict(TEXTS) == load(name).predict(TEXTS)


def test_an_ensemble_is_pushed_with_its_members(hub: Hub, run: Path, tmp_path: Path) -> None:
    other = tiny.copy(run, tmp_path / "other")
    assert emotune("ensemble", run, other, "--out", tmp_path / "both").exit_code == 0
    pushed(tmp_path / "both", NAME)
    assert str(tmp_path) not in b"".join(files_of(hub).values()).decode("utf-8", "replace")
    assert load(NAME).predict(TEXTS) == load(str(tmp_path / "both")).predict(TEXTS)


def test_a_model_is_pushed_on_to_another_repository(hub: Hub, scored: Path) -> None:
    pushed(scored, "anna/first")
    pushed("anna/first", NAME)
    assert files_of(hub)["model.safetensors"] == (scored / "model" / "model.safetensors").read_bytes()
    assert front_matter(files_of(hub)["README.md"])["model-index"]


def test_a_local_folder_of_the_same_name_is_pointed_out(
    hub: Hub, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / NAME).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert f"{NAME} names the local" in pushed(run, NAME).stderr


@pytest.mark.slow
def test_an_export_beside_the_model_is_verified_and_needs_no_pytorch(hub: Hub, base: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    run = tiny.copy(tiny.trained(base, tiny.multi_label(base)), tmp_path / "starter")
    pushed(run, NAME, "--with-onnx")
    assert {"onnx/model.onnx", "onnx/tokenizer.json", f"onnx/{MANIFEST}", "model.safetensors"} <= files_of(hub).keys()
    assert "already there" in pushed(run, NAME, "--with-onnx").stdout
    hub.calls.clear()
    trained = load(NAME)
    assert not hub.sent("onnx/model.onnx")
    exported = load(f"{NAME}/onnx")
    assert exported.length_ratio == 1, "other software has no `lengths`"
    assert read_manifest(find_model(f"{NAME}/onnx")).kind == "onnx"
    assert exported.predict_proba(TEXTS) == pytest.approx(trained.predict_proba(TEXTS), abs=1e-4)
    pushed(run, NAME)
    assert not any(name.startswith("onnx/") for name in files_of(hub))
    assert emotune("export", NAME, "--out", tmp_path / "made").exit_code == 0
    made = load(str(tmp_path / "made"))  # packed
    assert made.predict_proba(TEXTS) == pytest.approx(exported.predict_proba(TEXTS), abs=1e-6)


def test_the_folder_of_an_export_is_a_model_of_its_own(
    hub: Hub, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import snapshot_download

    made = find_model("default")
    monkeypatch.setattr(module, "export_model", lambda request, _: shutil.copytree(made, request.out))
    pushed(run, NAME, "--with-onnx")
    assert files_of(hub)["onnx/model.onnx"] == (made / "model.onnx").read_bytes()
    hub.calls.clear()
    assert load(NAME).predict(TEXTS) == load(str(run)).predict(TEXTS)
    assert not hub.sent("onnx/model.onnx")
    assert load(f"{NAME}/onnx@main").predict(TEXTS) == load("default").predict(TEXTS)
    whole = tmp_path / "downloaded"
    snapshot_download(NAME, local_dir=whole)
    assert load(str(whole)).predict(TEXTS) == load(str(run)).predict(TEXTS)
    assert load(str(whole / "onnx")).predict(TEXTS) == load("default").predict(TEXTS)
    pushed(whole, "anna/alone")
    with pytest.raises(ModelError, match="no export"):
        find_model("anna/alone/onnx")


def test_a_model_that_needs_no_export_is_not_exported(hub: Hub, run: Path) -> None:
    assert "needs no export" in refused(2, run, NAME, "--with-onnx")
    assert not hub.calls


# The card


def test_the_card_has_the_results_with_their_intervals(hub: Hub, scored: Path) -> None:
    from huggingface_hub.repocard_data import model_index_to_eval_results

    pushed(scored, NAME)
    card = files_of(hub)["README.md"].decode()
    front = front_matter(card.encode())
    name, results = model_index_to_eval_results(front["model-index"])
    metrics = json.loads((scored / "eval" / "test" / "metrics.json").read_text())
    found = {result.metric_name: result for result in results}
    assert name == "emotions"
    assert found["macro-F1"].metric_value == round(metrics["metrics"]["macro_f1"], 4)
    assert found["macro-F1"].metric_type == "f1"
    args = found["macro-F1"].metric_args
    assert args["confidence_interval_95"] == [round(bound, 4) for bound in metrics["intervals"]["macro_f1"]]
    assert args["seed"] == 0
    assert "rows of valid" in args["thresholds"]
    assert found["macro-F1"].dataset_split == "test"
    assert found["macro-F1"].dataset_type == "unknown"
    assert front["pipeline_tag"] == "text-classification"
    assert "datasets" not in front
    assert "base_model" not in front
    low, high = metrics["intervals"]["macro_f1"]
    assert f"| macro-F1 | {metrics['metrics']['macro_f1']:.3f} | {low:.3f}–{high:.3f} |" in card
    assert f'emotune.load("{NAME}")' in card


def test_a_published_data_set_is_named_by_its_id() -> None:
    from emotune.labels import LabelSet, Task

    decision = Decision.default(LabelSet(("joy", "anger"), Task.MULTI_CLASS))
    result = Result("GoEmotions", "google-research-datasets/go_emotions", "test", None, 3, {"accuracy": 0.5}, {})
    front = front_matter(published_card("---\nlanguage: en\n---\n# x\n", NAME, decision, [result]).encode())
    assert front["model-index"][0]["results"][0]["dataset"]["type"] == result.hub_id
    assert front["model-index"][0]["results"][0]["metrics"] == [
        {"type": "accuracy", "value": 0.5, "name": "accuracy", "args": {}}
    ]


def test_what_is_added_to_the_card_on_the_hub_stays(hub: Hub, run: Path) -> None:
    pushed(run, NAME)
    repository = hub.pushed[NAME]
    card = files_of(hub)["README.md"].decode()
    repository.commit(
        "main", files_of(hub) | {"README.md": card.replace("---\n", "---\nlicense: mit\n", 1).encode()}, ""
    )
    assert "already there" in pushed(run, NAME).stdout
    assert front_matter(files_of(hub)["README.md"])["license"] == "mit"
    edited = files_of(hub)["README.md"].replace(b"# starter", b"# My own words")
    repository.commit("main", files_of(hub) | {"README.md": edited}, "")
    assert "stays" in pushed(run, NAME).stderr
    assert files_of(hub)["README.md"] == edited
    assert load(NAME).predict(TEXTS) == load(str(run)).predict(TEXTS)


@pytest.mark.parametrize(("remote", "kept"), [("", True), ("---\nlicense: mit\n---\n", True), ("# by hand\n", False)])
def test_a_card_is_merged_with_that_of_a_new_repository(remote: str, kept: bool) -> None:
    merged = merged_card("---\ntags:\n- emotion\n---\n# x\n", remote)
    assert (merged is not None) is kept


# What must not be published


def test_folders_of_this_machine_are_cut(hub: Hub, scored: Path, base: Path) -> None:
    assert str(base) in (scored / "model" / "README.md").read_text()
    assert str(base) in (scored / "eval" / "test" / "report.html").read_text()
    pushed(scored, NAME)
    for name, content in files_of(hub).items():
        assert str(base).encode() not in content, name
    assert b"- multi\\_label (train.csv" in files_of(hub)["README.md"]


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("/home/anna/my data/train.csv:17", "my data/train.csv:17"),
        ("from `/srv/models/mini` (local directory /srv/models/mini)", "from `mini` (local directory mini)"),
        (r"C:\Users\anna\train.csv", "train.csv"),
        (r"\\server\share\train.csv", "train.csv"),
        ("~/data/train.csv", "train.csv"),
        ("https://example.org/a/b and joy/anger, 1/2, /tmp", "https://example.org/a/b and joy/anger, 1/2, /tmp"),
        ('open(f"{MODEL_DIR}/a/b.json")', 'open(f"{MODEL_DIR}/a/b.json")'),
    ],
)
def test_what_counts_as_a_folder_of_this_machine(text: str, cut: str) -> None:
    assert module._FOLDERS.sub("", text) == cut


@pytest.mark.parametrize(
    ("secret", "what"),
    [
        (f"hf_{'a' * 34}", "secret"),
        (f"ghp_{'a' * 36}", "secret"),
        ("AKIAIOSFODNN7EXAMPLE", "secret"),
        ("-----BEGIN RSA PRIVATE KEY-----", "secret"),
        ("file:///home/anna/x", "folder"),
    ],
)
def test_a_secret_is_refused_with_its_line(hub: Hub, scored: Path, secret: str, what: str) -> None:
    page = scored / "eval" / "test" / "report.html"
    page.write_text(f"<p>\n{secret}\n{page.read_text()}")
    message = refused(65, scored, NAME)
    assert "eval/test/report.html:2" in message
    assert what in message
    assert what == "folder" or secret not in message
    assert not hub.calls


def test_a_public_push_leaves_a_report_with_texts_out(hub: Hub, scored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = scored / "eval" / "test" / "metrics.json"
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {"texts_in_report": 3}))
    result = pushed(scored, NAME, "--public")
    assert "--texts 0" in result.stderr
    assert not hub.pushed[NAME].private
    assert not any(name.startswith("eval/") for name in files_of(hub))
    assert front_matter(files_of(hub)["README.md"])["model-index"]
    monkeypatch.setitem(sys.modules, "emotune.reports.figures", None)  # pictures take most of an evaluation
    assert emotune("evaluate", scored, "--texts", 0).exit_code == 0
    pushed(scored, NAME, "--public")
    assert "eval/test/report.html" in files_of(hub)


def test_a_changed_file_is_refused(hub: Hub, run: Path) -> None:
    with (run / "model" / "model.safetensors").open("ab") as file:
        file.write(b"x")
    assert "differs from its sha256" in refused(65, run, NAME)
    assert not hub.calls


@pytest.mark.parametrize("name", ["notes.txt", "sub/data.csv", "extra.json", "training.pkl"])
def test_a_file_outside_the_manifest_is_refused(hub: Hub, run: Path, name: str) -> None:
    (run / "model" / name).parent.mkdir(exist_ok=True)
    (run / "model" / name).write_text("x")
    assert name in refused(65, run, NAME)
    assert not hub.calls


def test_a_classifier_of_other_software_is_refused(hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_model", lambda name: replace(open_model(name), manifest=None))
    assert "emotune tune" in refused(2, run, NAME)
    assert not hub.calls


@pytest.mark.parametrize("name", ["emotions", "a/b/c", "anna/.x", "anna/a--b", "anna/x.git", "anna/ö", "", "anna/"])
def test_a_name_that_no_repository_can_have_is_refused(hub: Hub, run: Path, name: str) -> None:
    assert "owner/name" in refused(2, run, name)
    assert not hub.calls


@pytest.mark.parametrize("branch", ["", "a b", "/v2", "v2/", "-v"])
def test_a_name_that_no_branch_can_have_is_refused(hub: Hub, run: Path, branch: str) -> None:
    assert "not a name for a branch" in refused(2, run, NAME, f"--branch={branch}")
    assert not hub.calls


def test_there_is_no_option_for_a_token() -> None:
    assert "--token" not in emotune("push", "--help").stdout


# Failures: one clear error with a remedy each, and nothing half-published


@contextlib.contextmanager
def unchanged(hub: Hub) -> Iterator[None]:
    """Nothing is published in the block: no repository but an empty one, and no commit."""
    before = {name: list(each.commits) for name, each in hub.pushed.items()}
    yield
    for name, each in hub.pushed.items():
        assert list(each.commits) == before.get(name, list(each.commits)[:1])
        assert name in before or not each.files()


FAULTS = [
    ("GET /api/whoami-v2", Fault(status=401), ("does not accept your token", "hf auth login")),
    ("POST /api/repos/create", Fault(status=403, message="no rights"), ("may not write to anna/emotions", "whoami")),
    ("POST /api/repos/create", Fault(status=404), ("no user or organisation anna", "Check the owner")),
    ("POST /api/repos/create", Fault(status=402, message="quota"), ("quota", "billing")),
    ("POST /api/validate-yaml", Fault(status=400, message="bad card"), ("bad card", "")),
    ("/preupload/", Fault(status=403), ("may not write", "token may write")),
    ("/preupload/", Fault(status=429, headers={"Retry-After": "7"}), ("too many requests", "in 7 seconds")),
    ("/objects/batch", Fault(status=500), ("the hub failed (HTTP 500", "Push again")),
    ("PUT /lfs/", Fault(status=413), ("larger than the hub accepts", "compact")),
    ("PUT /lfs/", Fault("cut"), ("Error while uploading", "not sent a second time")),
    ("PUT /lfs/", Fault("wait"), ("timed out", "Push again")),
    ("/lfs/verify", Fault(status=503), ("HTTP 503", "Push again")),
    ("/commit/", Fault(status=409, message="conflict"), ("was changed on the hub", "push again")),
    ("/commit/", Fault(status=412), ("was changed on the hub", "push again")),
    ("/commit/", Fault(status=401), ("does not accept your token", "hf auth login")),
    ("/commit/", Fault(status=503), ("the hub failed (HTTP 503", "Push again")),
    ("/commit/", Fault("cut"), ("cannot be pushed", "Push again")),
]


@pytest.mark.parametrize(("request_", "fault", "words"), FAULTS, ids=lambda value: str(value)[:60])
@pytest.mark.filterwarnings("default")
def test_a_failing_hub_gets_nothing_and_the_next_push_succeeds(
    hub: Hub, run: Path, request_: str, fault: Fault, words: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault.action == "wait":
        monkeypatch.setattr(publishing, "_SILENCE", 0.05)
    hub.faults[request_] = fault
    with unchanged(hub):
        message = refused(73, run, NAME)
    assert all(word in message for word in (*words, "nothing was published"))
    hub.faults.clear()
    pushed(run, NAME)
    assert hub.pushed[NAME].messages == ["initial commit", "Push starter with emotune"]
    assert verify(find_model(NAME))


def test_a_push_again_after_a_cut_sends_no_file_twice(hub: Hub, run: Path) -> None:
    hub.faults["/commit/"] = Fault(status=503)
    refused(73, run, NAME)
    uploads = hub.sent("PUT /lfs/")
    assert uploads == len(hub.objects) > 0
    hub.faults.clear()
    pushed(run, NAME)
    assert hub.sent("PUT /lfs/") == uploads


def test_a_connection_that_breaks_for_a_moment_needs_no_second_push(hub: Hub, run: Path) -> None:
    hub.faults["PUT /lfs/"] = Fault("cut", times=2)
    pushed(run, NAME)
    assert verify(find_model(NAME))


def test_a_commit_whose_answer_was_lost_counts_as_done(hub: Hub, run: Path) -> None:
    hub.faults["/commit/"] = Fault("lose", times=1)
    assert "pushed" in pushed(run, NAME).stdout
    assert hub.sent("/commit/") == 1
    assert "already there" in pushed(run, NAME).stdout
    assert len(hub.pushed[NAME].messages) == 2


def test_a_hub_that_vanishes_with_the_commit_is_told_from_one_that_refuses(hub: Hub, run: Path) -> None:
    pushed(run, NAME)
    assert emotune("tune", run, "--method", "global").exit_code == 0

    def vanish(state: Hub) -> None:
        state.faults["GET /api/models/"] = Fault(status=503)

    hub.on_commit = vanish
    hub.faults["/commit/"] = Fault("lose", times=1)
    message = refused(73, run, NAME)
    assert "may have the commit or not" in message
    assert "Push again" in message
    hub.faults.clear()
    hub.on_commit = None
    assert "already there" in pushed(run, NAME).stdout


def test_a_commit_of_somebody_else_meanwhile_stops_the_push(
    hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = publishing.publish

    def late(remote: Any, *args: Any, **options: Any) -> str:
        hub.pushed[NAME].commit("main", {"README.md": b"theirs"}, "theirs")
        return publish(remote, *args, **options)

    pushed(run, NAME)
    assert emotune("tune", run, "--method", "global").exit_code == 0
    monkeypatch.setattr(publishing, "publish", late)
    assert "A commit has happened since" in refused(73, run, NAME)
    assert files_of(hub) == {"README.md": b"theirs"}


def test_a_repository_that_exists_already_is_used(hub: Hub, run: Path) -> None:
    hub.pushed[NAME] = Repository(private=True)
    hub.pushed[NAME].commit("main", {".gitattributes": b"", "README.md": b"---\nlicense: mit\n---\n"}, "initial commit")
    pushed(run, NAME)
    assert not hub.sent("/repos/create")
    assert front_matter(files_of(hub)["README.md"])["license"] == "mit"


def test_a_repository_that_somebody_makes_meanwhile_is_used_if_it_is_private(
    hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = publishing.publish

    def late(remote: Any, *args: Any, **options: Any) -> str:
        hub.pushed[NAME] = Repository(private=private)
        hub.pushed[NAME].commit("main", {}, "initial commit")
        return publish(remote, *args, **options)

    monkeypatch.setattr(publishing, "publish", late)
    private = False
    assert "is public" in refused(73, run, NAME)
    assert files_of(hub) == {}
    hub.pushed.clear()
    private = True
    pushed(run, NAME)
    assert hub.sent("/repos/create") == 2


@pytest.mark.parametrize(("private", "options", "remedy"), [(True, ["--public"], "without"), (False, [], "with")])
def test_the_visibility_of_a_repository_is_never_changed(
    hub: Hub, run: Path, private: bool, options: list[str], remedy: str
) -> None:
    hub.pushed[NAME] = Repository(private)
    hub.pushed[NAME].commit("main", {}, "initial commit")
    with unchanged(hub):
        assert f"Push {remedy}" in refused(73, run, NAME, *options)
    assert hub.pushed[NAME].private is private


def test_a_repository_with_files_of_other_software_is_left_alone(hub: Hub, run: Path) -> None:
    hub.pushed[NAME] = Repository(private=True)
    hub.pushed[NAME].commit("main", {"pytorch_model.bin": b"theirs"}, "theirs")
    with unchanged(hub):
        message = refused(73, run, NAME)
    assert "pytorch_model.bin" in message
    assert "another name" in message


def test_a_renamed_repository_is_pushed_to_by_its_new_name(hub: Hub, run: Path) -> None:
    pushed(run, "anna/new-name")
    hub.renamed[NAME] = "anna/new-name"
    assert "Push to anna/new-name" in refused(73, run, NAME)


def test_the_owner_must_be_oneself_or_an_organisation(hub: Hub, run: Path) -> None:
    message = refused(73, run, "bob/emotions")
    assert "namespace bob" in message
    assert not hub.pushed
    pushed(run, "acme/emotions")


def test_without_a_login_the_error_says_how_to_log_in(hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert "hf auth login" in refused(73, run, NAME)
    assert not hub.calls


def test_a_token_that_may_only_read_is_refused_before_anything_is_made(hub: Hub, run: Path) -> None:
    hub.roles[TOKEN] = "read"
    assert "may only read" in refused(73, run, NAME)
    assert not hub.pushed


def test_a_hub_that_is_not_there(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at("http://127.0.0.1:9", monkeypatch)
    message = refused(73, run, NAME)
    assert "nothing was published" in message
    assert "network" in message


@pytest.mark.parametrize("place", ["tempfile", "cache"])
def test_a_full_disk_is_named_with_another_place(
    hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    full = failing_with(OSError(28, "No space left on device", "x"))
    pushed(run, NAME)
    if place == "cache":
        monkeypatch.setattr("huggingface_hub.HfApi.hf_hub_download", full)
    else:
        monkeypatch.setattr(module, "TemporaryDirectory", full)
    with unchanged(hub):
        message = refused(73, run, NAME)
    assert "No space left" in message
    assert ("HF_HOME" if place == "cache" else "TMPDIR") in message


def test_offline_mode_forbids_a_push(hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in refused(73, run, NAME)
    assert not hub.calls
    pushed(run, NAME, "--dry-run")


def test_a_repository_that_ignores_files_is_left_alone(hub: Hub, run: Path) -> None:
    hub.pushed[NAME] = Repository(private=True)
    hub.pushed[NAME].commit("main", {".gitignore": b"model.safetensors\n"}, "initial commit")
    with unchanged(hub):
        assert "Delete .gitignore" in refused(73, run, NAME)


def test_a_mirror_without_xet_is_named(hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    pytest.importorskip("hf_xet")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    with unchanged(hub):
        assert "HF_HUB_DISABLE_XET=1" in refused(73, run, NAME)

    def _upload_xet_files(**_: object) -> None:
        raise RuntimeError("Network error: operation timed out")

    monkeypatch.setattr("huggingface_hub._commit_api._upload_xet_files", _upload_xet_files)
    with unchanged(hub):
        error = refused(73, run, NAME)
    assert "operation timed out" in error
    assert "HF_HUB_DISABLE_XET=1" in error


def test_an_error_is_json_where_the_result_would_be(hub: Hub, run: Path) -> None:
    hub.faults["/commit/"] = Fault(status=403)
    error = json.loads(emotune("push", run, NAME, "--json").stderr.splitlines()[-1])["error"]
    assert error["exit_code"] == 73
    assert error["hint"]


# The page of the documentation


def test_the_dry_runs_of_the_page_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parent.parent / "docs" / "hub.md").read_text(encoding="utf-8")
    calls = [
        shlex.split(line, comments=True) for line in page.splitlines() if re.match("emotune push .*--dry-run", line)
    ]
    assert len(calls) == 2
    (tmp_path / "here" / "runs").mkdir(parents=True)
    shutil.copytree(run, tmp_path / "here" / "runs" / "starter")
    monkeypatch.chdir(tmp_path / "here")
    for _, verb, *args in calls:
        if "--with-onnx" not in args:  # this model needs no export
            assert "model.safetensors" in emotune(verb, *args).stdout
