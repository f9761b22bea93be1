"""Hostile models of kinds without a network are refused with a reason and a place, and their code is not run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import emotune
import hostile
import tiny
from emotune.artifact.manifest import DECISION
from emotune.errors import ModelError
from hostile import Kind, configure, unsealed, write
from test_linear_kinds import trained

WEIGHTS, SETTINGS, VOCABULARY = "model.safetensors", "tfidf.json", "vocabulary.json"


def arrays(**changes: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Replace arrays of the weights by functions of them; remove an array for None."""

    def change(model: Path) -> None:
        found = load_file(model / WEIGHTS)
        made = found | {
            name.replace("_", "."): value(found.get(name.replace("_", "."))) for name, value in changes.items()
        }
        save_file({name: np.ascontiguousarray(a) for name, a in made.items() if a is not None}, model / WEIGHTS)

    return change


def more_labels(model: Path) -> None:
    content = json.loads((model / DECISION).read_text())
    content["thresholds"] |= {"another": 0.5}
    (model / DECISION).write_text(json.dumps(content | {"tuning": {}}))


OF_ANY = {
    "a pickle as weights": Kind(write(WEIGHTS, hostile.bomb), "it looks like a pickle"),
    "a pickle beside": unsealed("a pickle is not allowed", write("model.pkl", hostile.bomb)),
    "a header of 2**63 bytes": hostile.weights({}, "longer than the file", length=2**63),
    "a shape that lies": hostile.weights({"bias": hostile.entry([1000], 0, 16)}, "does not fit its bytes"),
    "weights that are no numbers": Kind(arrays(bias=lambda a: a * np.nan), "infinite or NaN"),
    "weights that are whole numbers": Kind(arrays(bias=lambda a: a.astype(np.int64)), "bias is I64"),
    "weights of no shape": Kind(arrays(bias=lambda a: a.reshape(1, -1)), "of shape [1, 3]"),
    "weights that are missing": Kind(arrays(bias=lambda _: None, x=lambda _: np.zeros(2, np.float32)), "expected"),
    "weights too many": Kind(arrays(x=lambda _: np.zeros(3, np.float32)), "it holds"),
    "no weights": Kind(lambda model: (model / WEIGHTS).unlink(), "there is no such file"),
    "other weights with numbers that are none": Kind(
        lambda model: save_file({"a": np.full(3, np.inf, np.float32)}, model / "other.safetensors"), "infinite"
    ),
    "a configuration with code": Kind(
        write("config.json", b'{"auto_map": {"AutoModel": "own.py"}}'), "needs its own code"
    ),
    "a file that nests": Kind(write("other.json", hostile.nested()), "not valid JSON"),
    "a tokenizer that never ends": Kind(
        write("tokenizer.json", json.dumps({"model": {"vocab": ["a"]}, "normalizer": {"Regex": "(a+)+$"}}).encode()),
        "repeats what itself repeats",
    ),
    "a label too many": Kind(more_labels, "this model has 3 scores, but its decision.json has 4 labels"),
    "a link": unsealed("a link is not allowed", hostile.linked(WEIGHTS, "/dev/zero")),
    "a hole of 8 TB": unsealed("a sparse file", hostile.sparse(WEIGHTS, 8 << 40)),
}
OF_TFIDF = {
    "fewer weights than terms": Kind(arrays(weights=lambda a: a[:-1]), "weights is F32 of shape"),
    "fewer idf than terms": Kind(arrays(idf_word=lambda a: a[:-1]), "idf.word is F64 of shape"),
    "fewer labels than biases": Kind(arrays(weights=lambda a: a[:, :2]), "weights of 2 labels, and a bias of 3"),
    "no settings": Kind(lambda model: (model / SETTINGS).unlink(), "there is no such file"),
    "settings that are a list": Kind(write(SETTINGS, b"[]"), "not a JSON object"),
    "settings that are too large": Kind(write(SETTINGS, hostile.blanks(9)), "far too large"),
    "a setting that there is not": Kind(configure(SETTINGS, token_pattern="(a+)+$"), "token_pattern"),
    "terms of 10**9 words": Kind(configure(SETTINGS, word_ngrams=[1, 10**9]), "word_ngrams"),
    "no terms at all": Kind(configure(SETTINGS, word_ngrams=None, char_ngrams=None), "needs word_ngrams or"),
    "terms that the vocabulary has not": Kind(
        hostile.both(configure(SETTINGS, char_ngrams=[1, 2]), configure(VOCABULARY, char=None)), "no list of terms"
    ),
    "a setting of another type": Kind(configure(SETTINGS, lowercase="yes"), "lowercase"),
    "no vocabulary": Kind(lambda model: (model / VOCABULARY).unlink(), "there is no such file"),
    "a vocabulary of numbers": Kind(configure(VOCABULARY, word=lambda found: [0] * len(found)), "no list of terms"),
    "a term twice": Kind(configure(VOCABULARY, word=lambda found: [found[0], *found[:-1]]), "a term occurs twice"),
    "a term too many": Kind(configure(VOCABULARY, word=lambda found: [*found, "zebra"]), "idf.word is F64 of shape"),
    "a vocabulary of 33 MB": Kind(write(VOCABULARY, hostile.blanks(33)), "far too large"),
    "a vocabulary of millions": Kind(write(VOCABULARY, b'{"word": [' + b"[]," * 1_000_000 + b"[]]}"), "far too large"),
}
SETTINGS_OF_NGRAMS = "ngrams.json"
OF_NGRAMS = {
    "fewer weights than terms": Kind(arrays(word_weights=lambda a: a[:-1]), "word.weights of shape"),
    "more terms than weights": Kind(
        arrays(char_keys=lambda a: np.append(a, a[-1:] + np.uint64(1))), "char.weights of shape"
    ),
    "a scale too few": Kind(arrays(scale=lambda a: a[:-1]), "2 scales and a bias of 3"),
    "weights of other labels": Kind(arrays(char_weights=lambda a: a[:, :2]), "char.weights of shape"),
    "weights that are floats": Kind(arrays(word_weights=lambda a: a.astype(np.float32)), "expected is I8"),
    "terms that are signed": Kind(arrays(word_keys=lambda a: a.astype(np.int64)), "expected is U64"),
    "terms out of order": Kind(arrays(word_keys=lambda a: a[::-1]), "not sorted"),
    "a term twice": Kind(arrays(char_keys=lambda a: np.append(a[:-1], a[-2])), "not sorted, or one occurs twice"),
    "a bias too large": Kind(
        arrays(bias=lambda a: np.full(len(a), 1e300), scale=lambda a: a.astype(np.float64)), "too large for 32 bits"
    ),
    "no settings": Kind(lambda model: (model / SETTINGS_OF_NGRAMS).unlink(), "there is no such file"),
    "a setting that there is not": Kind(configure(SETTINGS_OF_NGRAMS, token_pattern="(a+)+$"), "token_pattern"),
    "terms of 10**9 words": Kind(configure(SETTINGS_OF_NGRAMS, word_ngrams=10**9), "word_ngrams"),
    "terms of 10**9 characters": Kind(configure(SETTINGS_OF_NGRAMS, char_ngrams=[1, 10**9]), "char_ngrams"),
}
CASES = [
    *(("dummy", name, case) for name, case in OF_ANY.items()),
    *(("tfidf", name, case) for name, case in (OF_ANY | OF_TFIDF).items()),
    *(("ngrams", name, case) for name, case in (OF_ANY | OF_NGRAMS).items()),
]


@pytest.mark.parametrize(("kind", "name", "case"), CASES, ids=[f"{kind}: {name}" for kind, name, _ in CASES])
def test_an_invalid_linear_model_is_refused_with_a_reason(
    kind: str, name: str, case: Kind, base: Path, tmp_path: Path
) -> None:
    model = tiny.copy(trained(base, kind, tiny.multi_label(base)) / "model", tmp_path / "model")
    emotune.load(model)
    spoilt = hostile.spoil(case, model)
    with pytest.raises(ModelError) as caught:
        emotune.load(spoilt)("so happy")
    assert case.refusal in str(caught.value)
    assert len(caught.value.message) < 400
    assert not (tmp_path / hostile.WAS_RUN).exists()
