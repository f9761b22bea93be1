"""`emotune page`: an offline page, whose answers are those of `emotune predict`, and the runtime that npm downloads."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from typer.testing import CliRunner, Result

import browser
import emotune
import tiny
from browser import Browser
from emotune.artifact.manifest import DECISION, DEFAULT, find_model, seal
from emotune.artifact.opening import open_model
from emotune.atomic import write_file, write_json
from emotune.cli.app import app
from emotune.data.published import cache_directory
from emotune.data.tokens import TextEncoder
from emotune.decision import Decision, Fallback
from emotune.errors import DataError, DownloadError, MissingInputError, ModelError, UsageError
from emotune.inference.classifier import EmotionClassifier
from emotune.labels import DAIR, GOEMOTIONS
from emotune.reporter import NullReporter
from emotune.serving import offline, runtime, wordpiece
from sealed import sealed

CACHE = cache_directory() / runtime.PACKAGE / runtime.VERSION  # of whoever runs the tests
STARTER = Path(emotune.__file__).parent / "starter"
PROGRAM = browser.find()
in_browser = pytest.mark.skipif(
    PROGRAM is None, reason=f"no browser is installed; looked for {', '.join(browser.NAMES)}"
)
DATA = pytest.mark.skipif("EMOTUNE_DATA" not in os.environ, reason="name the folder of the data sets in EMOTUNE_DATA")
MAX_TOKENS = 32
MOST_BYTES = 35_000_000
TEXTS = [
    "I can't believe I got the job!!",
    "",
    " \u200b\t\n",
    "\U0001f600\U0001f600 so funny \U0001f469\U0001f3fd\u200d\U0001f4bb \U0001f1eb\U0001f1f7 ❤️ 1️⃣",
    "Ça va? Ünïcödé naïve CAFÉ e\u0301\u0301 ﬁne ① ㎏ Å ﷺ",
    "我很高兴 今天天气很好 でも悲しい 안녕하세요 각",
    "ΟΔΥΣΣΕΥΣ İstanbul ǅ ß ẞ ŉ",
    "warum nicht heute und morgen auch noch, das ist nicht gut",
    "сегодня мне очень грустно",
    ":) :-( xD :/ \\o/ ;( ¯\\_(ツ)_/¯ a:)b (:) ಠ_ಠ <3 8)",
    "[CLS] [SEP] x[MASK]y [PAD][UNK] [NAME] said [RELIGION]!",
    "\0\x01\x1b[31m\x7f\x85\u2028\u2029\ufeff\ufffd",
    "half \ud83d and \udc00 half, \ud83d\ud83d",
    "</script><!--<script>alert(1)</script> &amp; ${x} `",
    "a" * 99,
    "a" * 100,
    "a" * 101,
    "x́" * 60,
    "don't well-known rock-’n’-roll . , ... ?! I.B.M. (quoted) “curly” a_b",
    "\u0378\ue000\U000e0041\U0010ffff\U0001fadf new and private",
    "أنا سعيد جدا اليوم नमस्ते दुनिया ไม่เป็นไร",
    "sad. " * 30 + "happy, " * 25 + "and then afraid",
    "happy sad " * 15 + "\U0001f622 grief " * 9,
    "word " * 4000,
]


def emotune_(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


# --- a model that a script can compute: the logits are the means of a table's rows --------------------------------


def weights(vocabulary: int, labels: int) -> np.ndarray:
    ids, columns = np.arange(vocabulary)[:, None], np.arange(labels)[None, :]
    return ((ids * 31 + columns * 17) % 201 - 100).astype(np.float32) / 10


COMPUTED = """rows => rows.map(row => Float32Array.from({length: LABELS}, (_, j) =>
  row.reduce((sum, id) => sum + ((id * 31 + j * 17) % 201 - 100) / 10, 0) / row.length))"""
RULES = {
    "many": Decision(GOEMOTIONS, tuple(0.4 + 0.01 * i for i in range(28)), Fallback.NEUTRAL, neutral_excludes=True),
    "best": Decision(GOEMOTIONS, (0.9,) * 27 + (1.0,), Fallback.BEST),
    "class": Decision.default(DAIR),
}


def model(folder: Path, rule: Decision, tokenizer: bytes | None = None) -> Path:
    content = tokenizer or (find_model(DEFAULT) / "tokenizer.json").read_bytes()
    tokens = json.loads(content)
    number = max([*tokens["model"]["vocab"].values(), *(token["id"] for token in tokens["added_tokens"])]) + 1
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["found"]),
            helper.make_node("ReduceMean", ["found", "axes"], ["logits"], keepdims=0),
        ],
        "mean",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", "tokens"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", len(rule.labels)])],
        [
            numpy_helper.from_array(weights(number, len(rule.labels)), "table"),
            numpy_helper.from_array(np.array([1], np.int64), "axes"),
        ],
    )
    opset = [helper.make_opsetid("", 20)]
    write_file(folder / "model.onnx", helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString())
    write_file(folder / "tokenizer.json", content)
    write_file(folder / "README.md", "---\nlanguage: en\n---\n")
    write_json(folder / DECISION, rule.to_json())
    described = {"encoder": "mean", "max_tokens": MAX_TOKENS, "versions": {}, "data": {}}
    seal(folder, kind="onnx", portability="emotune", **described)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _tables_once() -> Iterator[None]:
    """Make the tables of a tokenizer once: that takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        made: dict[str, Any] = {}
        tables = wordpiece.tables

        def once(path: Path, max_tokens: int) -> dict[str, Any]:
            key = hashlib.sha256(path.read_bytes()).hexdigest()
            if key not in made:
                made[key] = tables(path, max_tokens)
            return made[key] | {"max_tokens": max_tokens}

        patch.setattr(wordpiece, "tables", once)
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("models")
    return cache(lambda name: model(folder / name, RULES[name]))


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser(PROGRAM, tmp_path_factory.mktemp("profile")) as found:
        yield found


def ask(page: Browser, expression: str) -> Any:
    """The value of a promise in the page; raises RuntimeError when it is rejected."""
    answer = page.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
    if "exceptionDetails" in answer:
        raise RuntimeError(str(answer["exceptionDetails"]))
    return answer["result"].get("value")


def predicted(page: Browser, texts: Sequence[str], engine: str = "engine", **options: Any) -> dict[str, Any]:
    return ask(page, f"{engine}.predict({json.dumps({'texts': list(texts), **options})})")


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]], tolerance: float = 1e-6) -> None:
    """Check predictions, and the words of explanations, against those of Python."""
    for one, other in zip(found, expected, strict=True):
        for part in [(one, other), *zip(one.pop("words", []), other.pop("words", []), strict=True)]:
            for key in ("scores", "contributions"):
                numbers = [each.pop(key, {}) for each in part]
                assert numbers[0] == pytest.approx(numbers[1], abs=tolerance)
            assert part[0] == part[1]


# --- the engine without the runtime: tokens, windows, rules, explanations ------------------------------------------


@pytest.fixture(scope="module")
def opened(chromium: Browser, models: Callable[[str], Path]) -> Callable[[str], str]:
    """`opened(NAME)` is the expression of a model that computes its logits in JavaScript."""
    chromium.open("about:blank")
    chromium.evaluate(offline._text("engine.js"))

    @cache
    def found(name: str) -> str:
        settings = offline._settings(open_model(str(models(name))), name)
        run = COMPUTED.replace("LABELS", str(len(RULES[name].labels)))
        chromium.evaluate(f"globalThis.{name}_ = new Model({json.dumps(settings)}, async rows => ({run})(rows)); 0")
        return f"{name}_"

    return found


@in_browser
@pytest.mark.parametrize("options", [{}, {"level": "ekman"}, {"level": "sentiment"}, {"threshold": 0.6}, {"top_k": 2}])
@pytest.mark.parametrize("name", list(RULES))
def test_the_engine_answers_as_python(
    chromium: Browser,
    opened: Callable[[str], str],
    models: Callable[[str], Path],
    name: str,
    options: dict[str, Any],
) -> None:
    if name == "class" and "threshold" in options:
        with pytest.raises(RuntimeError, match="no threshold"):
            predicted(chromium, TEXTS, opened(name), **options)
        return
    classifier = emotune.load(models(name), threads=1)
    found = predicted(chromium, TEXTS, opened(name), **options)
    own = {name: value for name, value in options.items() if name != "top_k"}
    same(found["predictions"], [p.to_json(options.get("top_k")) for p in classifier.predict(TEXTS, **own)])
    assert {found["model"], found["level"]} == {name, options.get("level")}
    rule = RULES[name] if "threshold" not in options else RULES[name].with_threshold(options["threshold"])
    expected = dict(zip(rule.labels.names, rule.thresholds, strict=True))
    assert found["thresholds"] == (None if name == "class" or "level" in options else expected)
    assert any(each["windows"] > 2 for each in found["predictions"])
    assert any(each["unread"] for each in found["predictions"])
    assert [each["foreign"] for each in found["predictions"]].count(True) > 3


@in_browser
@pytest.mark.parametrize("name", ["many", "class"])
def test_the_engine_explains_as_python(
    chromium: Browser, opened: Callable[[str], str], models: Callable[[str], Path], name: str
) -> None:
    classifier = emotune.load(models(name), threads=1)
    for texts in (TEXTS[:16], TEXTS[16:]):
        found = predicted(chromium, texts, opened(name), explain=True)
        same(found["predictions"], [each.to_json() for each in classifier.explain(texts)], 1e-5)
    best = predicted(chromium, TEXTS[:1], opened(name), explain=True, top_k=2)["predictions"][0]
    assert [set(word["contributions"]) for word in best["words"]] == [set(best["scores"])] * len(best["words"])
    assert list(best["scores"]) == list(classifier.predict(TEXTS[0])[0].top(2))


@in_browser
@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("{}", 422, "'text' and 'texts'"),
        ("{text: 'a', texts: ['a']}", 422, "'text' and 'texts'"),
        ("{text: 5}", 422, "texts"),
        ("{text: 'a', model: 'other'}", 404, "other"),
        ("{text: 'a', level: 'none'}", 422, "level"),
        ("{text: 'a', top_k: 0}", 422, "top_k"),
        ("{text: 'a', threshold: 2}", 422, "threshold"),
        ("{text: 'a', topk: 2}", 422, "topk"),
        ("{text: 'a', level: 'ekman', explain: true}", 422, "explain"),
        ("{texts: Array(17).fill('a'), explain: true}", 413, "17"),
    ],
)
def test_the_engine_refuses_what_the_server_refuses(
    chromium: Browser, opened: Callable[[str], str], body: str, status: int, message: str
) -> None:
    found = ask(chromium, f"{opened('many')}.predict({body}).catch(({{status, message}}) => [status, message])")
    assert found[0] == status
    assert message in found[1]


def python_tokens(texts: Sequence[str], path: Path, max_tokens: int) -> list[list[int]]:
    encoded = TextEncoder.from_file(path, max_tokens, 0).windows(texts)
    return [encoded.ids[start:end].tolist() for start, end in zip(encoded.offsets, encoded.offsets[1:], strict=False)]


def hostile_texts(number: int) -> list[str]:
    """Random texts of ASCII, accents, scripts, controls, emoji, and pieces of tokens and emoticons."""
    rng = random.Random(5)
    pools = [
        [chr(code) for code in range(0x20, 0x7F)],
        [chr(code) for code in range(0x300)],
        [chr(code) for code in (*range(0x300, 0x3000), *range(0x3000, 0x3400), *range(0xA000, 0xABFF))],
        [chr(code) for code in (*range(0x4E00, 0x4E50), *range(0xAC00, 0xAC50), *range(0xF900, 0xFB50))],
        [chr(code) for code in (*range(0x1F000, 0x1FB00), 0x200D, 0xFE0F, 0x20E3, 0xE0067)],
        ["[CLS]", "[MASK]", "##", "ing", " un", "able ", ":)", ":-(", "xD", "<3", "\ud83d", "\u200b", "\r\n"],
    ]
    return ["".join(rng.choice(rng.choice(pools)) for _ in range(rng.randrange(40))) for _ in range(number)]


@in_browser
def test_tokens_are_those_of_the_library(
    chromium: Browser, opened: Callable[[str], str], models: Callable[[str], Path]
) -> None:
    texts = TEXTS + hostile_texts(2000)
    found = ask(chromium, f"{json.dumps(texts)}.flatMap(text => {opened('many')}.tokenizer.windows(text))")
    assert found == python_tokens(texts, models("many") / "tokenizer.json", MAX_TOKENS)


@in_browser
@pytest.mark.slow
def test_tokens_of_all_characters_are_those_of_the_library(
    chromium: Browser, opened: Callable[[str], str], models: Callable[[str], Path]
) -> None:
    codes = [code for code in range(sys.maxunicode + 1) if code not in range(0xD800, 0xE000)]
    texts = [" ".join(f"a{chr(c)} {chr(c)}b" for c in codes[i : i + 50]) for i in range(0, len(codes), 50)]
    expected = python_tokens(texts, models("many") / "tokenizer.json", MAX_TOKENS)
    script = f"{{texts}}.flatMap(text => {opened('many')}.tokenizer.windows(text))"
    found = []
    for i in range(0, len(texts), 2000):
        found += ask(chromium, script.replace("{texts}", json.dumps(texts[i : i + 2000])))
    assert found == expected


# --- other tokenizers ----------------------------------------------------------------------------------------------


@in_browser
def test_the_tokenizer_of_words_too(
    chromium: Browser, opened: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wordpiece, "_CHARACTERS", [chr(code) for code in range(0x2100)])
    path = tmp_path / "tokenizer.json"
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(["[UNK]", "[CLS]", *tiny.WORDS])}, unk_token="[UNK]"))
    words.normalizer, words.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    words.save(str(path))
    texts = [tiny.LINE, "The CAT, sat... on?! a-mat", "", "unknown words", "furious_cat 'happy'", "Ünïcödé\tnaïve—x…!"]
    opened("many")
    tables = json.dumps(wordpiece.tables(path, MAX_TOKENS))
    found = ask(chromium, f"(t => {json.dumps(texts)}.flatMap(text => t.windows(text)))(new Tokenizer({tables}))")
    assert found == python_tokens(texts, path, MAX_TOKENS)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}, "BPE"),
        ({"model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 0}}, "Unigram"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "ByteLevel"),
        ({"normalizer": {"type": "NFKC"}}, "NFKC"),
        ({"normalizer": {"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""}}, "replaces"),
        ({"pre_tokenizer": None}, "pre-tokenizer"),
        ({"post_processor": {"type": "RobertaProcessing"}}, "RobertaProcessing"),
    ],
)
def test_a_tokenizer_that_a_page_cannot_have_is_named(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    content = json.loads((find_model(DEFAULT) / "tokenizer.json").read_text(encoding="utf-8")) | change
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelError) as caught:
        wordpiece.tables(path, MAX_TOKENS)
    assert named in caught.value.message
    assert str(caught.value.place) == str(path)
    assert "emotune serve" in str(caught.value.hint)


# --- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive as npm makes it, whose digests are the published ones."""
    contents = {runtime._SCRIPT: b"export const a = 1;", runtime._WASM: b"\0asm"}
    path = tmp_path / "registry" / runtime.ARCHIVE
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as files:
        for name, content in {**contents, "more.js": b"x"}.items():
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(content)
            files.addfile(entry, io.BytesIO(content))
    monkeypatch.setattr(runtime, "_SHA512", hashlib.sha512(path.read_bytes()).hexdigest())
    monkeypatch.setattr(runtime, "_SHA256", {n: hashlib.sha256(c).hexdigest() for n, c in contents.items()})
    monkeypatch.setenv("EMOTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return path


def install_npm(archive: Path, script: str) -> None:
    """Put a program `npm` on the path; its arguments are those of `npm pack NAME@VERSION --pack-destination DIR`."""
    program = archive.parent.parent / "bin" / "npm"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_the_runtime_comes_from_npm_once(archive: Path, tmp_path: Path) -> None:
    install_npm(archive, f'/bin/cp {archive} "$4/" && [ "$1 $2" = "pack {runtime.PACKAGE}@{runtime.VERSION}" ]')
    found = runtime.find_runtime(None, NullReporter())
    assert (found.script, found.wasm) == (b"export const a = 1;", b"\0asm")
    install_npm(archive, "exit 1")
    assert runtime.find_runtime(None, NullReporter()) == found
    next((tmp_path / "cache").rglob("*.wasm")).write_bytes(b"other")
    with pytest.raises(DownloadError):
        runtime.find_runtime(None, NullReporter())
    assert runtime.find_runtime(archive, NullReporter()) == found
    assert runtime.find_runtime(None, NullReporter()) == found


def test_without_npm_the_error_says_how_to_get_the_runtime(archive: Path) -> None:
    with pytest.raises(MissingInputError) as caught:
        runtime.find_runtime(None, NullReporter())
    assert f"npm pack {runtime.PACKAGE}@{runtime.VERSION}" in str(caught.value)
    assert f"--runtime {runtime.ARCHIVE}" in str(caught.value)
    with pytest.raises(MissingInputError, match=r"none\.tgz"):
        runtime.find_runtime(archive.parent / "none.tgz", NullReporter())


def test_the_reason_of_npm_is_reported(archive: Path) -> None:
    install_npm(archive, "echo 'npm error network is down' >&2; exit 1")
    with pytest.raises(DownloadError, match="network is down"):
        runtime.find_runtime(None, NullReporter())


def test_another_archive_is_refused_and_nothing_is_kept(archive: Path, tmp_path: Path) -> None:
    archive.write_bytes(archive.read_bytes() + b"\0")
    with pytest.raises(DataError, match="sha512") as caught:
        runtime.find_runtime(archive, NullReporter())
    assert str(caught.value.place) == str(archive)
    assert not (tmp_path / "cache").exists()


def test_the_page_is_one_file_with_a_policy_and_the_notice(
    archive: Path, models: Callable[[str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "new" / "page.html"
    done = emotune_("page", models("many"), "--out", out, "--runtime", archive, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    digest = open_model(str(models("many"))).manifest.digest
    assert found == {
        "page": str(out),
        "bytes": out.stat().st_size,
        "model": "many",
        "digest": digest,
        "runtime": f"{runtime.PACKAGE} {runtime.VERSION}",
    }
    content = out.read_text(encoding="utf-8")
    assert content.startswith("<!doctype html>")
    assert "default-src 'none'" in content
    assert "connect-src" not in content.split("Content-Security-Policy")[1].split(">")[0]
    assert "Copyright (c) Microsoft Corporation" in content
    assert "MIT License" in content
    assert list(out.parent.iterdir()) == [out]


def test_a_file_is_only_replaced_if_it_is_a_page_and_asked_for(
    archive: Path, models: Callable[[str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    args = ("page", models("many"), "--out", out, "--runtime", archive)
    assert emotune_(*args).exit_code == 0
    refused = emotune_(*args)
    assert refused.exit_code == 73
    assert "--overwrite" in refused.stderr
    assert emotune_(*args, "--overwrite").stdout == f"page: {out}\n"
    out.write_text("<p>mine</p>")
    refused = emotune_(*args, "--overwrite")
    assert refused.exit_code == 73
    assert out.read_text() == "<p>mine</p>"
    assert emotune_("page", models("many"), "--out", tmp_path, "--runtime", archive).exit_code == 73


@pytest.mark.parametrize("kind", ["tfidf", "ngrams", "dummy"])
def test_models_that_a_page_cannot_have(archive: Path, tmp_path: Path, kind: str) -> None:
    folder = sealed(tmp_path / "model", {DECISION: json.dumps(RULES["class"].to_json())}, kind=kind)
    done = emotune_("page", folder, "--out", tmp_path / "page.html", "--runtime", archive)
    assert done.exit_code == UsageError.exit_code
    assert kind in done.stderr
    assert "emotune serve" in done.stderr


@pytest.mark.slow
def test_the_base_install_writes_pages() -> None:
    code = "import sys, emotune.cli.page, emotune.serving.offline, emotune.workflows.export\n"
    code += "print(*sorted({'torch', 'transformers', 'onnx', 'sklearn', 'starlette', 'uvicorn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.slow
def test_a_trained_model_is_exported_first(archive: Path, run: Path, tmp_path: Path) -> None:
    """With the tokenizer of words that the tiny encoder has."""
    out = tmp_path / "page.html"
    done = emotune_("page", run, "--out", out, "--runtime", archive)
    assert done.exit_code == 0, done.output
    assert "compact" in done.stderr
    assert out.is_file()
    assert not (run / "page.html").exists()


# --- the page in a browser, with the runtime -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files() -> runtime.Runtime:
    """The published runtime: from the cache of whoever runs the tests, else from npm."""
    if all((CACHE / name).is_file() for name in runtime._SHA256):
        return runtime.Runtime(*((CACHE / name).read_bytes() for name in runtime._SHA256))
    if shutil.which("npm") is None:
        pytest.skip(f"{runtime.PACKAGE} is not in the cache, and npm is not installed")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("npm_config_fetch_retries", "0")
        environment.setenv("npm_config_fetch_timeout", "20000")
        try:
            return runtime.find_runtime(None, NullReporter())
        except DownloadError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="module")
def small(files: runtime.Runtime, models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small model."""
    out = tmp_path_factory.mktemp("page") / "emotions.html"
    offline.write_page(open_model(str(models("many"))), "many", out, files)
    return out


@pytest.fixture(scope="module")
def classifier(models: Callable[[str], Path]) -> EmotionClassifier:
    return emotune.load(models("many"), threads=1)


OUTSIDE = "http://emotune.invalid/"
ESCAPES = f"""Promise.allSettled([
  fetch('{OUTSIDE}a'), fetch('data:,a'), new Promise((yes, no) => {{
    Object.assign(new Image(), {{onload: yes, onerror: no, src: '{OUTSIDE}b'}}); }}),
  new Promise((yes, no) => {{
    Object.assign(new WebSocket('ws://emotune.invalid/c'), {{onopen: yes, onerror: no}}); }}),
  import('{OUTSIDE}d'),
  new Promise((yes, no) => {{
    const link = document.createElement('link');
    Object.assign(link, {{rel: 'stylesheet', href: '{OUTSIDE}e', onload: yes, onerror: no}});
    document.head.append(link); }}),
]).then(found => {{ navigator.sendBeacon('{OUTSIDE}f', 'text'); return found.map(each => each.status); }})"""


@in_browser
def test_the_page_answers_from_a_file_and_can_send_nothing(
    chromium: Browser, small: Path, classifier: EmotionClassifier
) -> None:
    chromium.open(small.as_uri())
    assert [each["name"] for each in ask(chromium, "engine.models()")] == ["many"]
    assert chromium.evaluate("typeof openModel") == "undefined", "the model is in a worker"
    same(predicted(chromium, TEXTS)["predictions"], [each.to_json() for each in classifier.predict(TEXTS)])
    found = predicted(chromium, TEXTS[:4], explain=True)["predictions"]
    same(found, [each.to_json() for each in classifier.explain(TEXTS[:4])], 1e-5)
    said = chromium.seen("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded", "Audits.issueAdded")
    assert said == []
    assert set(ask(chromium, ESCAPES)) == {"rejected"}
    requests = [event["params"] for event in chromium.seen("Network.requestWillBeSent")]
    failed = {event["params"]["requestId"]: event["params"] for event in chromium.seen("Network.loadingFailed")}
    outside = [each for each in requests if not each["request"]["url"].startswith(("file:", "blob:"))]
    assert len(outside) > 1
    assert {failed[each["requestId"]].get("blockedReason") for each in outside} == {"csp"}
    assert chromium.seen("Network.webSocketCreated") == []
    assert "Texts never leave this machine" in chromium.evaluate("document.body.innerText")


@in_browser
@pytest.mark.slow
def test_the_page_works_without_workers_too(chromium: Browser, small: Path, classifier: EmotionClassifier) -> None:
    script = chromium.call("Page.addScriptToEvaluateOnNewDocument", source="delete globalThis.Worker")
    try:
        chromium.open(small.as_uri())
        found = predicted(chromium, TEXTS)["predictions"]
    finally:
        chromium.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script["identifier"])
    assert chromium.evaluate("typeof openModel") == "function"
    same(found, [each.to_json() for each in classifier.predict(TEXTS)])


@in_browser
def test_a_prediction_can_be_cancelled(chromium: Browser, small: Path) -> None:
    chromium.open(small.as_uri())
    texts = json.dumps([f"{'happy ' * (i % 20)}{i}" for i in range(3000)])
    cancelled = f"""(async () => {{
      await engine.models();
      const stop = new AbortController(), found = engine.predict({{texts: {texts}}}, stop.signal);
      stop.abort();
      return [await found.catch(error => error.name), (await engine.predict({{text: 'happy'}})).predictions.length];
    }})()"""
    assert ask(chromium, cancelled) == ["AbortError", 1]


@pytest.fixture(scope="module")
def default(files: runtime.Runtime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of emotune's own model."""
    out = tmp_path_factory.mktemp("page") / "default.html"
    offline.write_page(open_model(DEFAULT), DEFAULT, out, files)
    return out


@in_browser
@pytest.mark.slow
def test_the_page_of_the_own_model_has_the_labels_of_python(chromium: Browser, default: Path) -> None:
    assert default.stat().st_size <= MOST_BYTES
    with (STARTER / "test.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)][:50] + TEXTS[:-1]
    compared(chromium, default, emotune.load(DEFAULT, threads=1), texts)


@in_browser
@pytest.mark.slow
@DATA
def test_the_page_of_the_own_model_has_the_labels_of_python_on_real_texts(chromium: Browser, default: Path) -> None:
    rows = (Path(os.environ["EMOTUNE_DATA"]) / "goemotions" / "dev.tsv").read_text(encoding="utf-8").splitlines()
    texts = [row.split("\t")[0] for row in rows]
    compared(chromium, default, emotune.load(DEFAULT, threads=1), texts[:1000])
    tables = json.dumps(wordpiece.tables(find_model(DEFAULT) / "tokenizer.json", 512))
    chromium.open("about:blank")
    chromium.evaluate(offline._text("engine.js"))
    found = ask(chromium, f"(t => {json.dumps(texts)}.flatMap(text => t.windows(text)))(new Tokenizer({tables}))")
    assert found == python_tokens(texts, find_model(DEFAULT) / "tokenizer.json", 512)


def compared(page: Browser, path: Path, classifier: EmotionClassifier, texts: Sequence[str]) -> None:
    """Check that at most 0.3 % of the decisions differ from those of Python; print the figures."""
    page.open(path.as_uri())
    ask(page, "engine.models()")
    seconds, found = ask(
        page,
        f"""(async start => {{
          const found = await engine.predict({{texts: {json.dumps(texts)}}});
          return [(performance.now() - start) / 1000, found.predictions];
        }})(performance.now())""",
    )
    expected = [each.to_json() for each in classifier.predict(texts)]
    flips = [len(set(one["labels"]) ^ set(other["labels"])) for one, other in zip(found, expected, strict=True)]
    scores = [[list(each["scores"].values()) for each in answers if not each["blank"]] for answers in (found, expected)]
    largest = np.abs(np.array(scores[0]) - np.array(scores[1])).max()
    share = sum(flips) / len(texts) / len(classifier.labels)
    print(f"{path.stat().st_size:,} bytes; {len(texts)} texts in {seconds:.1f} s ({len(texts) / seconds:.0f} texts/s)")
    print(f"{share:.3%} of the decisions differ, in {sum(map(bool, flips))} texts; largest difference {largest:.4f}")
    assert share <= 0.003
    for one, other in zip(found, expected, strict=True):
        for key in ("text", "windows", "unread", "foreign", "blank"):
            assert one[key] == other[key]
