"""Embeddings: layers, pooling, padding and long texts are correct; the cache is safe."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer

from conftest import FILLERS
from emotune.config.settings import EmbeddingConfig
from emotune.data.published import CACHE_VARIABLE
from emotune.errors import ConfigError, ModelError
from emotune.models.embedding import FOLDER, Embedder, EmbeddingCache, embed_texts, text_digest

Checkpoint = Callable[[str], Path]

TEXTS = ["the dog came home", "furious", "my brother was happy this evening and afraid again", ""]
LONG = " ".join(FILLERS[:30])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / FOLDER


def embedder(folder: Path, **reading: object) -> Embedder:
    return Embedder(folder, EmbeddingConfig.model_validate(reading), "cpu")


def alone(folder: Path, text: str, **keys: object) -> list[np.ndarray]:
    """The outputs of all layers for one text without padding, by plain transformers; each (tokens, hidden)."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt", **keys)
    with torch.no_grad():
        output = model(input_ids=tokens["input_ids"], output_hidden_states=True)
    return [state[0].numpy() for state in (*output.hidden_states[:-1], output.last_hidden_state)]


POOL = {"cls": lambda states: states[0], "mean": lambda states: states.mean(0), "max": lambda states: states.max(0)}


def test_every_layer_and_pooling_is_that_of_the_text_alone(checkpoint: Checkpoint, family: str) -> None:
    folder = checkpoint(family)
    states = [alone(folder, text) for text in TEXTS]
    for pooling, pool in POOL.items():
        expected = np.array([[pool(layer) for layer in layers] for layers in states])
        found = embedder(folder, pooling=pooling, layers=[0, 1, -1]).embed(TEXTS, 4)
        np.testing.assert_allclose(found, expected.reshape(len(TEXTS), -1), atol=1e-5)
        averaged = embedder(folder, pooling=pooling, layers=[2, -2], layer_join="average").embed(TEXTS, 4)
        np.testing.assert_allclose(averaged, expected[:, 1:].mean(axis=1), atol=1e-5)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.sampled_from(FILLERS), max_size=60).map(" ".join), min_size=1, max_size=9), st.integers(1, 5)
)
def test_an_embedding_does_not_depend_on_its_batch(checkpoint: Checkpoint, texts: list[str], batch: int) -> None:
    model = embedder(checkpoint("bert"), pooling="max", layers=[1, -1], max_length=16)
    together = model.embed(texts, batch)
    for text, found in zip(texts, together, strict=True):
        np.testing.assert_allclose(found, model.embed([text], 1)[0], atol=1e-5)


def test_a_long_text_is_the_mean_of_its_windows_weighted_by_tokens(checkpoint: Checkpoint) -> None:
    folder = checkpoint("bert")
    found = embedder(folder, max_length=16).embed([LONG, "the dog"], 8)
    tokens = AutoTokenizer.from_pretrained(folder)(
        LONG, max_length=16, truncation=True, stride=3, return_overflowing_tokens=True
    )["input_ids"]
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    assert len(tokens) > 2
    with torch.no_grad():
        means = [model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0).numpy() for ids in tokens]
    np.testing.assert_allclose(found[0], np.average(means, axis=0, weights=[len(ids) for ids in tokens]), atol=1e-5)
    np.testing.assert_allclose(found[1], alone(folder, "the dog")[-1].mean(0), atol=1e-5)


@pytest.mark.parametrize(("layers", "said"), [([3], "no layer 3"), ([-4], "no layer -4"), ([2, -1], "listed twice")])
def test_layers_that_are_not_there_are_named(checkpoint: Checkpoint, layers: list[int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        embedder(checkpoint("bert"), layers=layers)


def test_a_checkpoint_with_code_or_with_holes_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoint("bert"), tmp_path / "encoder"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(ModelError, match="are missing"):
        embedder(folder)
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "own.Model"}}))
    with pytest.raises(ModelError, match="auto_map"):
        embedder(folder)


def test_without_a_pooler_it_is_saved_and_read_as_the_same_encoder(checkpoint: Checkpoint, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(checkpoint("bert"), tmp_path / "encoder"))
    weights = {k: v for k, v in load_file(folder / "model.safetensors").items() if not k.startswith("pooler.")}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    first = embedder(folder)
    first.save(tmp_path / "saved")
    again = embedder(tmp_path / "saved")
    assert again.about() == first.about() == embedder(checkpoint("bert")).about()
    np.testing.assert_array_equal(again.embed(TEXTS, 2), first.embed(TEXTS, 2))


# The cache


def read(model: Embedder, texts: list[str], *, cached: bool = True) -> tuple[np.ndarray, list[str]]:
    """The embeddings of texts, and the messages."""
    said: list[str] = []
    return embed_texts(model, texts, batch_size=8, cached=cached, info=said.append), said


@pytest.fixture
def counted(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Embedder, list[str]]]:
    """An embedder, and the texts that it has embedded."""
    model, seen = embedder(checkpoint("bert")), []
    embed = model.embed
    monkeypatch.setattr(model, "embed", lambda texts, size: (seen.extend(texts), embed(texts, size))[1])
    return model, seen


def test_a_text_is_read_once(counted: tuple[Embedder, list[str]]) -> None:
    model, seen = counted
    first, _ = read(model, [*TEXTS, TEXTS[0]])
    assert seen == TEXTS
    again, said = read(model, ["new", *reversed(TEXTS)])
    assert seen == [*TEXTS, "new"]
    assert "4 of 5" in said[0]
    np.testing.assert_array_equal(again[1:], first[3::-1])
    np.testing.assert_array_equal(first[4], first[0])


def test_without_the_cache_nothing_is_written_or_taken(counted: tuple[Embedder, list[str]], cache: Path) -> None:
    model, seen = counted
    kept, _ = read(model, TEXTS, cached=False)
    assert not cache.exists()
    read(model, TEXTS)
    again, _ = read(model, TEXTS, cached=False)
    assert len(seen) == 3 * len(TEXTS)
    np.testing.assert_array_equal(again, kept)


def test_another_encoder_or_reading_has_a_folder_of_its_own(checkpoint: Checkpoint, cache: Path) -> None:
    for keys in ({}, {"pooling": "max"}, {"layers": [0]}, {"layers": [0, 1]}, {"max_length": 8}):
        read(embedder(checkpoint("bert"), **keys), TEXTS)
    read(embedder(checkpoint("electra")), TEXTS)
    read(embedder(checkpoint("bert"), layers=[2]), TEXTS)  # the top layer by another number
    assert len(list(cache.iterdir())) == 6


@pytest.mark.parametrize(
    "damage",
    [lambda c: c[:-5], lambda c: b"", lambda c: c[:-1] + bytes([c[-1] ^ 1]), lambda c: b"\x80" + c, lambda c: c * 2],
)
def test_a_damaged_file_is_removed_and_made_again(
    counted: tuple[Embedder, list[str]], cache: Path, damage: Callable[[bytes], bytes]
) -> None:
    model, seen = counted
    first, _ = read(model, TEXTS)
    (path,) = cache.glob("*/*")
    content = path.read_bytes()
    path.write_bytes(damage(content))
    again, _ = read(model, TEXTS)
    assert seen == 2 * TEXTS
    np.testing.assert_array_equal(again, first)
    assert [p.read_bytes() for p in cache.glob("*/*")] == [content]


def test_a_file_with_a_true_name_and_another_content_is_no_embedding(cache: Path) -> None:
    import hashlib

    from safetensors.numpy import save

    rows = {"texts": np.zeros((2, 32), np.uint8), "embeddings": np.zeros((2, 3), np.float32)}
    bad = ({}, {"embeddings": rows["embeddings"] * np.nan}, {"embeddings": np.zeros((1, 3), np.float32)})
    kept = EmbeddingCache({}, 4)
    kept.folder.mkdir(parents=True)
    for change in bad:
        content = save(rows | change)
        (kept.folder / f"{hashlib.sha256(content).hexdigest()}.safetensors").write_bytes(content)
    assert not kept.find([bytes(32)], np.zeros((1, 4), np.float32)).any()
    assert not list(kept.folder.iterdir())


def test_several_may_write_and_read_at_once() -> None:
    rows = np.arange(800, dtype=np.float32).reshape(200, 4)
    digests = [text_digest(str(i)) for i in range(200)]

    def work(start: int) -> None:
        mine = EmbeddingCache({"a": 1}, 4)
        for i in range(start, start + 100, 10):
            mine.add(digests[i : i + 10], rows[i : i + 10])
            mine.find(digests, np.zeros((200, 4), np.float32))
            mine.tidy()

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 50, 100, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    out = np.zeros_like(rows)
    assert EmbeddingCache({"a": 1}, 4).find(digests, out).all()
    np.testing.assert_array_equal(out, rows)


def test_what_was_of_use_longest_ago_goes_first(cache: Path) -> None:
    import os

    rows = np.ones((1, 1000), dtype=np.float32)
    caches = [EmbeddingCache({"a": i}, 1000, limit=10_000) for i in range(3)]
    digests = [text_digest("a")]
    for age, kept in enumerate(caches):
        kept.add(digests, rows)
        (path,) = kept.folder.iterdir()
        os.utime(path, (1e9 - age, 1e9 - age))
    left = caches[0].folder / "of-a-killed-process.part"
    left.touch()
    os.utime(left, (1e9, 1e9))
    caches[2].find(digests, np.zeros_like(rows))  # the oldest is of use now
    caches[0].tidy()
    assert [bool(list(kept.folder.iterdir())) for kept in caches] == [True, False, True]
    assert not left.exists()


def test_a_cache_that_cannot_be_written_is_said_once(checkpoint: Checkpoint, cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where the folder would be")
    texts = [f"text {i}" for i in range(1030)]  # more than a file of the cache holds
    found, said = read(embedder(checkpoint("bert"), layers=[0]), texts)
    assert len(said) == 1
    assert "not cached" in said[0]
    assert np.isfinite(found).all()
