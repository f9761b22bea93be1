"""Emoji and emoticons reach the model as words, by `tokenizer.json` alone."""

import json
import os
import re
from pathlib import Path

import pytest
import yaml
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from typer.testing import CliRunner

import tiny
from emotune.artifact.safety.tokenizer import require_safe_tokenizer
from emotune.cli.app import app
from emotune.config.kinds import KINDS
from emotune.config.loading import config_from, load_config
from emotune.config.settings import CheckpointConfig
from emotune.data import emoji
from emotune.inference.classifier import load
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
    return emoji.with_words(plain)


def tokens(tokenizer: Tokenizer, text: str) -> list[str]:
    return list(tokenizer.encode(text, add_special_tokens=False).tokens)


def test_every_emoji_is_read_as_words_even_within_a_word(plain: Tokenizer, reading: Tokenizer) -> None:
    assert len(emoji.words()) > 1400
    for char, name in emoji.words().items():
        read = [f"so {name} good"] if name else ["so good", "sogood"]
        assert tokens(reading, f"so{char}good") in [tokens(plain, text) for text in read], char


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("😂😂😂", "laughing laughing laughing"),
        ("love❤️", "love love"),
        ("👍🏽", "thumbs up, approve"),
        ("👩‍💻", "woman laptop"),
        ("🤷🏻‍♀️", "shrug, I don't know"),
        ("🇬🇧", "g b"),
        ("❤️‍🔥", "love fire, awesome"),
        (":( :-( :((", "sad frown sad frown sad frown"),
        ("thanks:)", "thanks smile"),
        (r"¯\_(ツ)_/¯ ¯_(ツ)_/¯", "shrug, I don't know shrug, I don't know"),
        ("<3 </3", "love heartbroken"),
        ("xD :D :-D", "laughing laughing laughing"),
        (":'( T_T >:(", "crying, sad crying, sad angry"),
        ("( ͡° ͜ʖ ͡°) ಠ_ಠ -_-", "smirk disapproving, suspicious annoyed, no expression"),
        ("(╯°□°）╯︵ ┻━┻", "frustrated, angry"),
        (
            ":/ :| :P ;) :O o_O D:",
            "unsure no expression tongue out, joking wink surprised surprised horrified, anguished",
        ),
    ],
)
def test_sequences_and_emoticons(plain: Tokenizer, reading: Tokenizer, text: str, read: str) -> None:
    assert tokens(reading, text) == tokens(plain, read)


@pytest.mark.parametrize(
    "text",
    [
        "see http://x.y/z and C:/data at 10:30, 7:3",
        "a list: (1) one; (2) two: [NAME]: {x}",
        "x <3.5 and a->b; f(x): return x; a:b::c",
        "|:-|:-:| and *bold* -- dashes - _ -",
        "O.K. 0.0 T.V. xdd Dad: hi",
    ],
)
def test_other_texts_stay_as_they_are(plain: Tokenizer, reading: Tokenizer, text: str) -> None:
    assert tokens(reading, text) == tokens(plain, text)


def test_other_characters_stay_as_they_are(plain: Tokenizer, reading: Tokenizer) -> None:
    for code in [*range(32, 0x3000), *range(0xFE00, 0x10000), *range(0x1F000, 0x1FB00, 3)]:
        if chr(code) not in emoji.words():
            assert tokens(reading, f"a {chr(code)}x") == tokens(plain, f"a {chr(code)}x"), hex(code)


def test_a_tokenizer_that_knows_them_keeps_them(plain: Tokenizer) -> None:
    of_bytes = Tokenizer(
        models.BPE({char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, [])
    )
    of_bytes.pre_tokenizer, of_bytes.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    assert emoji.with_words(of_bytes) is of_bytes
    some = Tokenizer.from_str(plain.to_str())
    some.add_tokens(["😂"])
    assert tokens(emoji.with_words(some), "😂😡 :(") == ["😂", *tokens(plain, "angry sad frown")]


def test_the_saved_tokenizer_passes_the_checks_of_a_model(reading: Tokenizer, tmp_path: Path) -> None:
    reading.save(str(tmp_path / "tokenizer.json"))
    require_safe_tokenizer(tmp_path / "tokenizer.json")


def test_plain_transformers_reads_them_alike(base: Path) -> None:
    from transformers import AutoTokenizer

    model = tiny.trained(base, tiny.multi_label(base), "--set", "model.emoji_words=true") / "model"
    theirs = AutoTokenizer.from_pretrained(model)
    ours = Tokenizer.from_file(str(model / "tokenizer.json"))
    for text in ("so happy 😂", "scared :(", "😡glad❤️"):
        assert theirs(text)["input_ids"] == ours.encode(text).ids


def test_it_is_a_setting_and_earlier_runs_go_on_without_it() -> None:
    assert load_config("goemotions", ["model.emoji_words=true"]).network.emoji_words
    assert not load_config("goemotions").network.emoji_words
    for name, kind in KINDS.items():
        if not issubclass(kind.settings, CheckpointConfig):
            continue
        # an earlier version wrote every key but this one
        written = config_from({"model": {"kind": name}}).model_dump(mode="json", by_alias=True)
        del written["model"]["emoji_words"]
        earlier = config_from(json.loads(json.dumps(written))).model
        assert isinstance(earlier, CheckpointConfig)
        assert not earlier.emoji_words


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
    """Train the recipe with emoji as words (minutes), then ask for 40 emoji and 20 emoticons (`emoji_labels.yaml`)."""
    data = f"data.path={Path(os.environ['EMOTUNE_DATA']) / 'goemotions'}"
    train(load_config("goemotions", [data, "model.emoji_words=true"]), tmp_path / "run", reporter=NullReporter())
    classifier, table = load(tmp_path / "run"), yaml.safe_load(EMOJI_LABELS.read_text(encoding="utf-8"))
    for part, at_least in (("emoji", 22), ("emoticons", 8)):
        asked = [(text, table["groups"][group]) for group, texts in table[part].items() for text in texts]
        strongest = [
            next((n for n in p.labels if n != "neutral"), None) for p in classifier([text for text, _ in asked])
        ]
        wrong = [text for (text, allowed), name in zip(asked, strongest, strict=True) if name not in allowed]
        assert len(asked) - len(wrong) >= at_least, wrong
    crying, angry, heart = (set(p.labels) for p in classifier(["😢", "😡", "❤️"]))
    assert "sadness" in crying
    assert "anger" in angry
    assert "love" in heart
