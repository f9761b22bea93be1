"""Emoji reach the model as tokens of their own, by `tokenizer.json` alone, and rows of emoji alone are trained on."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from typer.testing import CliRunner

import tiny
from emotune.artifact.safety.tokenizer import require_safe_tokenizer
from emotune.cli.app import app
from emotune.config.loading import config_from, load_config
from emotune.data import emoji
from emotune.data.tokens import TextEncoder
from emotune.inference.classifier import load
from emotune.labels import LabelSet, Task
from emotune.reporter import NullReporter
from emotune.workflows.train import train

WORDS = sorted({word for said in emoji.words().values() for word in re.findall(r"[a-z0-9]+", said)})
EMOJI_LABELS = Path(__file__).with_name("emoji_labels.yaml")
LETTERS = [chr(i) for i in range(33, 127)]


@pytest.fixture(scope="module")
def plain() -> Tokenizer:
    """A tokenizer like BERT's, which knows those words and ASCII, and no emoji."""
    tokens = dict.fromkeys(["[UNK]", *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)])
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


@pytest.fixture(scope="module")
def reading(plain: Tokenizer) -> Tokenizer:
    return emoji.with_tokens(plain)[0]


def tokens(tokenizer: Tokenizer, text: str) -> list[str]:
    return list(tokenizer.encode(text, add_special_tokens=False).tokens)


def test_every_emoji_is_a_token_even_within_a_word(plain: Tokenizer, reading: Tokenizer) -> None:
    _, origins = emoji.with_tokens(plain)
    assert len(emoji.words()) > 1400
    for char, name in emoji.words().items():
        if name:
            assert tokens(reading, f"so{char}good") == [*tokens(plain, "so"), char, *tokens(plain, "good")], char
            origin = origins[reading.token_to_id(char)]
            assert origin.before == [plain.token_to_id("[UNK]")]
            assert origin.words == plain.encode(name, add_special_tokens=False).ids
        else:
            assert tokens(reading, f"so{char}good") in [tokens(plain, "so good"), tokens(plain, "sogood")], char


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("😂😂😂", "😂 😂 😂"),
        ("love❤️", "love ❤"),
        ("👍🏽", "👍"),
        ("👩‍💻", "👩 💻"),
        ("🤷🏻‍♀️", "🤷"),
        ("🇬🇧", "🇬 🇧"),
        ("❤️‍🔥", "❤ 🔥"),
        (r"¯\_(ツ)_/¯", r"¯\_(ツ)_/¯"),
        (r"¯\(ツ)/¯", r"¯ \ ( [UNK] ) / ¯"),
        ("ಠ_ಠ ಠ", "ಠ_ಠ ಠ"),
        ("sad :( but <3!", "sad :( b ##u ##t <3 !"),
        ("a:) b://c", "a : ) b : / / c"),
    ],
)
def test_sequences_and_emoticons(reading: Tokenizer, text: str, read: str) -> None:
    assert tokens(reading, text) == read.split()


def test_other_characters_stay_as_they_are(plain: Tokenizer, reading: Tokenizer) -> None:
    for code in [*range(32, 0x3000), *range(0xFE00, 0x10000), *range(0x1F000, 0x1FB00, 3)]:
        if chr(code) not in emoji.words():
            assert tokens(reading, f"a {chr(code)}x") == tokens(plain, f"a {chr(code)}x"), hex(code)


def test_a_tokenizer_that_knows_them_keeps_them(plain: Tokenizer) -> None:
    of_bytes = Tokenizer(
        models.BPE({char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, [])
    )
    of_bytes.pre_tokenizer, of_bytes.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    assert emoji.with_tokens(of_bytes) == (of_bytes, {})
    some = Tokenizer.from_str(plain.to_str())
    some.add_tokens(["😂"])
    reading, origins = emoji.with_tokens(some)
    assert reading.token_to_id("😂") == some.token_to_id("😂")
    assert some.token_to_id("😂") not in origins
    assert tokens(reading, "😂😡") == ["😂", "😡"]


@pytest.mark.parametrize("scheme", ["always", "never"])
def test_a_sentencepiece_tokenizer_gets_those_that_it_lacks(scheme: str) -> None:
    """As in DeBERTa-v3 and XLM-R: the unknown token has an id, and no token of its name is ever returned."""
    pieces = dict.fromkeys(["<unk>", "▁", "▁so", "😂", *"abcdefghijklmnopqrstuvwxyz:()"])
    model = models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)], unk_id=0)
    of_pieces = Tokenizer(model)
    of_pieces.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    reading, origins = emoji.with_tokens(of_pieces)
    assert [token for token in tokens(reading, "so 😡❤️ :) 👍🏽😂") if token != "▁"][-5:] == [
        "😡",
        "❤",
        ":)",
        "👍",
        "😂",
    ]
    assert 0 in origins[reading.token_to_id("😡")].before
    assert reading.token_to_id("😂") == 3
    assert TextEncoder(of_pieces, 8, 0).unknown(["so", "so ǝ😂"]) == {1: "ǝ"}


def test_the_saved_tokenizer_passes_the_checks_of_a_model(reading: Tokenizer, tmp_path: Path) -> None:
    reading.save(str(tmp_path / "tokenizer.json"))
    require_safe_tokenizer(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("kind", ["encoder", "bilstm"])
def test_other_texts_keep_their_scores(base: Path, tmp_path: Path, kind: str) -> None:
    """Emoji are learnt when the training has ended; without them the network and its scores are the same."""
    said = [("so happy 😂 today", "joy"), ("so furious 😡 today", "anger"), ("so glad", "joy"), ("so angry", "anger")]
    rows = [f"{text} {i},{label}" for i in range(30) for text, label in said]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    models = {}
    for value in ("true", "false"):
        settings = [f"model.kind={kind}", f"model.encoder={tiny.encoder(base)}", f"data.path={tmp_path / 'data.csv'}"]
        settings += [f"model.emoji_tokens={value}", "training.epochs=1", "tuning.calibrate=false"]
        train(config_from({}, settings), tmp_path / value, reporter=NullReporter(), device="cpu")
        models[value] = load(tmp_path / value)
    plain = ["so glad today", "so angry today :("]
    assert np.allclose(models["true"].logits(plain), models["false"].logits(plain), atol=1e-5)
    happy = models["true"].labels.names.index("joy")
    laughing, raging = models["true"].predict_proba(["so 😂", "so 😡"])[:, happy]
    assert laughing > raging
    same = models["false"].logits(["so 😂", "so 😡"])
    assert np.array_equal(same[0], same[1])


def test_plain_transformers_reads_them_alike(base: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = tiny.trained(base, tiny.multi_label(base)) / "model"
    theirs, ours = AutoTokenizer.from_pretrained(model), Tokenizer.from_file(str(model / "tokenizer.json"))
    network = AutoModelForSequenceClassification.from_pretrained(model)
    texts = ["so happy 😂", "scared :(", "😡glad❤️", "👍🏽"]
    for text, logits in zip(texts, load(model).logits(texts), strict=True):
        ids = theirs(text, return_tensors="pt")
        assert ids["input_ids"][0].tolist() == ours.encode(text).ids
        assert np.allclose(network(**ids).logits[0].detach().numpy(), logits, atol=1e-5)


def test_it_is_a_setting(base: Path) -> None:
    config = load_config("goemotions", ["model.emoji_tokens=false", "data.emoji_rows=false"])
    assert not config.network.emoji_tokens
    model = tiny.trained(base, tiny.multi_label(base), "--set", "model.emoji_tokens=false") / "model"
    plain = Tokenizer.from_file(str(tiny.encoder(base) / "tokenizer.json"))
    assert Tokenizer.from_file(str(model / "tokenizer.json")).get_vocab() == plain.get_vocab()


def test_rows_of_emoji_have_labels_of_the_data() -> None:
    labels = LabelSet(("Anger", "joy", "confusing"), Task.MULTI_LABEL)
    rows = emoji.training_rows(labels, 10_000)
    found = {text: labels.names[label] for text, label, _ in rows}
    assert sum(text == "😡" for text, *_ in rows) == 1
    assert sum(text == ">:(" for text, *_ in rows) == 3
    assert found["😡😡"] == found[">:("] == found["🙄"] == "Anger"
    assert found["😂😂😂"] == found[":)"] == "joy"
    assert ":):)" not in found
    assert not {"😢", "😕"} & found.keys()
    for num_texts in (10, 600, 1000, 2000):
        assert len(emoji.training_rows(labels, num_texts)) <= num_texts / 10
    assert {len(text.rstrip("\ufe0f")) for text, *_ in emoji.training_rows(labels, 900)} >= {1, 2, 3}


def test_training_tells_of_the_rows_of_emoji(tmp_path: Path) -> None:
    rows = "".join(f"text number {i},{('joy', 'anger')[i % 2]}\n" for i in range(4000))
    (tmp_path / "data.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    said: list[str] = []
    for value, out in (("true", "with"), ("false", "without")):
        options = ["--out", str(tmp_path / out), "--set", f"data.emoji_rows={value}"]
        done = CliRunner().invoke(app, ["train", "goemotions-tfidf", "--data", str(tmp_path / "data.csv"), *options])
        assert done.exit_code == 0, done.stderr
        said.append(done.stderr)
    told = r"\d+ rows of emoji and emoticons added to the training rows \(data.emoji_rows\)"
    assert re.search(told, " ".join(said[0].split()))
    assert "emoji" not in said[1]
    joy, anger = (load(tmp_path / "with").predict_proba(["😂", "😡"])[i] for i in range(2))
    assert joy[1] > 0.7 > anger[1]  # the labels are anger, joy


def test_inspect_names_the_characters_that_are_still_unknown(tmp_path: Path, base: Path) -> None:
    rows = ["text,label", "so happy xyz,joy", "glad ǝ ʖ,joy", "scared ʖʖ,fear", "afraid,fear", "furious,anger"]
    (tmp_path / "data.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    shown = CliRunner().invoke(app, ["inspect", str(tmp_path / "data.csv"), "--encoder", str(tiny.encoder(base))])
    assert shown.exit_code == 0, shown.stderr
    assert "2 texts of data with characters that the tokenizer does not know: ʖ 2, ǝ 1" in " ".join(
        shown.stdout.split()
    )


@pytest.mark.slow
@pytest.mark.skipif("EMOTUNE_DATA" not in os.environ, reason="name the folder of the data sets in EMOTUNE_DATA")
def test_the_goemotions_recipe_gives_emoji_alone_sensible_labels(tmp_path: Path) -> None:
    """Train the recipe (minutes), then ask for 40 emoji and 20 emoticons (`emoji_labels.yaml`)."""
    data = f"data.path={Path(os.environ['EMOTUNE_DATA']) / 'goemotions'}"
    train(load_config("goemotions", [data]), tmp_path / "run", reporter=NullReporter())
    classifier, table = load(tmp_path / "run"), yaml.safe_load(EMOJI_LABELS.read_text(encoding="utf-8"))
    for part, at_least in (("emoji", 36), ("emoticons", 16)):
        asked = [(text, table["groups"][group]) for group, texts in table[part].items() for text in texts]
        given = [set(p.labels) for p in classifier([text for text, _ in asked])]
        wrong = [text for (text, allowed), names in zip(asked, given, strict=True) if not names & set(allowed)]
        assert len(asked) - len(wrong) >= at_least, wrong
    laughing, crying, angry, heart = (set(p.labels) for p in classifier(["😂😂😂", "😢", "😡", "❤️"]))
    assert "amusement" in laughing
    assert "sadness" in crying
    assert "anger" in angry
    assert "love" in heart
