"""What several test modules need: tiny encoders of each architecture, a small corpus that can be learnt, trained runs.

Everything heavy is imported and made when a test first asks for it.
"""

from __future__ import annotations

import csv
import gc
import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

import tiny

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: tiny models run slower on many threads
gc.set_threshold(50_000, 20, 50)  # collections took a sixth of the data tests' processor time

WORDS_OF = {
    "anger": ("furious", "angry", "rage", "annoyed"),
    "fear": ("scared", "afraid", "terror", "panic"),
    "joy": ("happy", "glad", "delight", "cheerful"),
    "sadness": ("sad", "tears", "grief", "lonely"),
}
FILLER_TEXT = (
    "the a my your this that train dog house letter morning evening friend brother market rain garden kitchen road "
    "was is felt came went saw heard about before after with without again today and but"
)
FILLERS = tuple(FILLER_TEXT.split())
FAMILIES = ("bert", "roberta", "distilbert", "electra", "deberta-v2", "modernbert")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA_SPECIAL = ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")  # padding is 1 there, and positions start behind it
TOKENIZER_CLASSES = {"bert": "BertTokenizer", "distilbert": "DistilBertTokenizer", "electra": "ElectraTokenizer"}
POSITIONS = 48


@pytest.fixture(autouse=True, scope="session")
def _no_fetched_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees what whoever runs it has fetched, or adds to it."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("EMOTUNE_CACHE", str(tmp_path_factory.getbasetemp() / "no-cache"))
        environment.delenv("EMOTUNE_MIRROR", raising=False)
        yield


# --- encoders ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Each architecture in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of this test session, in which `tiny` keeps what several tests use."""
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="session")
def run(base: Path) -> Path:
    """A multi-label run; not to be changed."""
    return tiny.trained(base, tiny.multi_label(base))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`checkpoint("bert")` is the directory of a two-layer encoder of that architecture; its weights are random."""
    folder = tmp_path_factory.mktemp("encoders")

    def made(family: str) -> Path:
        directory = folder / family
        if not directory.exists():
            write_encoder(directory, family)
            write_tokenizer(directory, family)
        return directory

    return made


def write_encoder(directory: Path, family: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModel

    vocabulary = vocabulary_of(family)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 64}
    if family == "distilbert":
        sizes = {"n_layers": 2, "n_heads": 4, "dim": 32, "hidden_dim": 64}
    special = {f"{name}_token_id": vocabulary[f"[{name.upper()}]"] for name in ("pad", "cls", "sep")}
    more = {
        "electra": {"embedding_size": 16},
        "deberta-v2": {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
        "modernbert": {
            **special,
            "bos_token_id": special["cls_token_id"],
            "eos_token_id": special["sep_token_id"],
            "local_attention": 8,
            "global_attn_every_n_layers": 2,
        },
    }
    config = AutoConfig.for_model(
        family,
        vocab_size=len(vocabulary),
        max_position_embeddings=POSITIONS,
        initializer_range=0.2,
        **sizes,
        **{"pad_token_id": vocabulary["[PAD]"]} | more.get(family, {}),
    )
    state = torch.get_rng_state()
    torch.manual_seed(0)
    model = AutoModel.from_config(config)
    embeddings = model.get_input_embeddings().weight.data
    for words in WORDS_OF.values():  # as pretraining would have it, words of one emotion are near each other
        meaning = torch.randn(embeddings.shape[1])
        for word in words:
            embeddings[vocabulary[word]] += meaning
    torch.set_rng_state(state)
    model.save_pretrained(directory)


def vocabulary_of(family: str) -> dict[str, int]:
    special = ROBERTA_SPECIAL if family == "roberta" else SPECIAL
    words = [*FILLERS, *(word for words in WORDS_OF.values() for word in words), "##s", ".", ",", "!"]
    return {word: i for i, word in enumerate([*special, *words])}


def write_tokenizer(directory: Path, family: str) -> None:
    """A word list as a tokenizer which, like that of some published encoders, pads and cuts to a length of its own."""
    from tokenizers import Tokenizer, normalizers, pre_tokenizers
    from tokenizers.models import WordPiece
    from tokenizers.processors import TemplateProcessing

    vocabulary = vocabulary_of(family)
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.enable_padding(length=40, pad_id=vocabulary["[PAD]"], pad_token="[PAD]")
    tokenizer.enable_truncation(40)
    tokenizer.save(str(directory / "tokenizer.json"))
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    described = {"tokenizer_class": TOKENIZER_CLASSES.get(family, "PreTrainedTokenizerFast"), **names}
    (directory / "tokenizer_config.json").write_text(json.dumps(described), encoding="utf-8")


# --- corpora -----------------------------------------------------------------------------------------------------


def labelled_texts(count: int, seed: int, *, one_label: bool) -> list[tuple[str, tuple[str, ...]]]:
    """Texts of 4 to 11 words, in which every label shows by one of its words."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        names = list(WORDS_OF)
        chosen = (names[i % len(names)],) if one_label else tuple(n for n in names if rng.random() < 0.35)
        words = [rng.choice(FILLERS) for _ in range(rng.randint(4, 7))] + [rng.choice(WORDS_OF[n]) for n in chosen]
        rng.shuffle(words)
        rows.append((" ".join(words), chosen))
    return rows


@pytest.fixture(scope="session")
def multi_label_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.csv (120 rows), valid.csv and test.csv (40 each): id, text and four 0/1 columns."""
    folder = tmp_path_factory.mktemp("multi_label")
    for seed, (split, count) in enumerate((("train", 120), ("valid", 40), ("test", 40))):
        write_table(folder / f"{split}.csv", labelled_texts(count, seed, one_label=False))
    return folder


def write_table(path: Path, rows: Sequence[tuple[str, tuple[str, ...]]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", *WORDS_OF])
        for i, (text, names) in enumerate(rows):
            writer.writerow([f"{path.stem}-{i}", text, *(int(name in names) for name in WORDS_OF)])


@pytest.fixture(scope="session")
def multi_class_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.txt (120 rows), val.txt and test.txt (40 each): text;label."""
    folder = tmp_path_factory.mktemp("multi_class")
    for seed, (split, count) in enumerate((("train", 120), ("val", 40), ("test", 40)), start=10):
        rows = labelled_texts(count, seed, one_label=True)
        lines = [f"{text};{names[0]}\n" for text, names in rows]
        (folder / f"{split}.txt").write_text("".join(lines), encoding="utf-8")
    return folder


# --- trained runs ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def multi_label_run(
    checkpoint: Callable[[str], Path], multi_label_corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The run directory of a model trained on the multi-label corpus; not to be changed."""
    return trained_run(checkpoint("bert"), multi_label_corpus, tmp_path_factory.mktemp("runs") / "multi_label")


@pytest.fixture(scope="session")
def multi_class_run(
    checkpoint: Callable[[str], Path], multi_class_corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The run directory of a model trained on the multi-class corpus; not to be changed."""
    return trained_run(checkpoint("bert"), multi_class_corpus, tmp_path_factory.mktemp("runs") / "multi_class")


def trained_run(encoder: Path, corpus: Path, out: Path) -> Path:
    from emotune.config.loading import config_from
    from emotune.reporter import NullReporter
    from emotune.workflows.train import train

    config = config_from(
        {
            "data": {"path": str(corpus)},
            "model": {"encoder": str(encoder), "freeze_word_embeddings": False},
            "optimizer": {"lr": 5e-3, "head_lr": 1e-2},
            "training": {"epochs": 10, "batch_size": 8, "precision": "fp32"},
        }
    )
    return train(config, out, reporter=NullReporter(), device="cpu").run
