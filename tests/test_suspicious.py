"""Texts to which something happened on the way are told from those that only look strange."""

from pathlib import Path

import pytest

from emotune.data.quality.checks import suspicious, visible
from emotune.data.records import Corpus, Record
from emotune.labels import LabelSet

SOUND = [
    "so it goes",
    "",
    "AMANHÃ… \u201cAMANHÃ\u201d NÃO",
    "voilà\u00a0» dit-elle",
    "ÅÄÖ Ñandú über 20 °C, ½ × 2 … “pâté” – 5 €",
    "Привет, как дела?",
    "من می\u200cروم خانه",
    "क्\u200dष बहुत अच्छा है",
    "👩\u200d👧 my family 🤷🏼\u200d♂️",
    "שלום עולם",
    "I am 5 > 3 & 2 < 4; R&D; AT&T",
    "if a<b and b>c",
    "5 stars!!!",
    "line one\nline two\tand a tab\r\n",
    "?!",
    "10/10",
    "我很高兴",
]
ODD = {
    "mojibake": [
        "I donâ€™t",
        "cafÃ©",
        "so sad ðŸ˜¢",
        "20Â°C",
        "Ð¿Ñ€Ð¸Ð²ÐµÑ‚",
        "it\u00e2\u0080\u0099s",
        "ï¿½",
        "â‚¬5",
        "Ã\xa0 la",
    ],
    "replacement_character": ["caf\ufffd", "\ufffd"],
    "control_character": ["a\x07b", "a\x1b[31mred", "a\x9fb", "a\x7f"],
    "html_entity": ["this &amp; that", "&#39;so&#39;", "&#x200B; x", "&nbsp;", "&lt;3"],
    "html_tag": ["one<br>two", "<br />", '<a href="x">link</a>', "</p>", "<I>so</I>"],
    "invisible_character": ["zero\u200bwidth", "\ufeffbom", "soft\u00adhyphen", "\u202eevil", "joi\u200dned"],
    "one_character": ["aaaaaa", "!", "? ? ?", "......"],
    "few_letters": ["!!!???!!! ok", "0.1122 ^^^^ 11", ":-) :-) :-) ;)"],
}


def corpus_of(**splits: list[str]) -> Corpus:
    records = {
        split: [Record(text, (), Path(f"{split}.csv"), line) for line, text in enumerate(texts, start=2)]
        for split, texts in splits.items()
    }
    return Corpus(LabelSet(("joy",)), records, ())


def kinds(text: str) -> list[str]:
    return [odd.finding.kind for odd in suspicious(corpus_of(train=[text]))]


@pytest.mark.parametrize("text", SOUND)
def test_what_languages_write_is_sound(text: str) -> None:
    assert [kind for kind in kinds(text) if kind != "one_character"] == []


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in ODD.items() for text in texts])
def test_each_kind_is_told(kind: str, text: str) -> None:
    assert kind in kinds(text)


@pytest.mark.parametrize("character", ["é", "ñ", "’", "“", "–", "…", "😂", "ü", "°", "€", "™", "про"])
@pytest.mark.parametrize("wrong", ["cp1252", "latin-1"])
def test_whatever_was_read_in_the_wrong_encoding_is_mojibake(character: str, wrong: str) -> None:
    broken = character.encode("utf-8").decode(wrong, "ignore")
    assert "mojibake" in kinds(f"so {broken} it goes")
    assert "mojibake" not in kinds(f"so {character} it goes")


def test_a_finding_counts_places_and_shows() -> None:
    corpus = corpus_of(train=["sound", "so long a beginning of this text &amp; so long an end of it"], valid=["&quot;"])
    (odd,) = suspicious(corpus)
    assert str(odd.finding) == "2 texts have HTML entities (train.csv:3, valid.csv:2)"
    assert (odd.finding.splits, [row.line for row in odd.finding.rows]) == (("train", "valid"), [3, 2])
    assert odd.excerpts == ("…ning of this text &amp; so long an end of…", "&quot;")


def test_what_cannot_be_seen_is_escaped() -> None:
    assert visible("a\x07b\u200b c\n\t d\ud800") == r"a\x07b\u200b c d\ud800"
    assert visible("👩\u200d👧 é") == "👩\u200d👧 é"
