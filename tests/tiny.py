"""A two-layer encoder with a word-list tokenizer, small corpora that it can learn, and runs trained on them.

What takes time is made once a session, below pytest's base directory; tests that change a run copy it first.
"""

import itertools
import random
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from typer.testing import CliRunner

from emotune.cli.app import app
from emotune.labels import GOEMOTIONS, LabelSet, Task

CUES = {"anger": ("furious", "hate"), "fear": ("scared", "afraid"), "joy": ("happy", "glad")}
LINE = "the cat sat on a mat while rain fell and we drank tea by an old door near this long road"
FILLERS = LINE.split()
WORDS = sorted({*FILLERS, *itertools.chain(*CUES.values()), *GOEMOTIONS.names})
SPLITS = {"train": 160, "valid": 40, "test": 30}


def unchecked(names: tuple[str, ...], task: Task = Task.MULTI_LABEL) -> LabelSet:
    """Labels that a `LabelSet` refuses, such as markup: who shows labels must not rely on that."""
    labels = object.__new__(LabelSet)
    object.__setattr__(labels, "names", names)
    object.__setattr__(labels, "task", task)
    return labels


def once(base: Path, name: str, build: Callable[[Path], object]) -> Path:
    """`base/tiny/name`, built by the first who asks for it."""
    path = base / "tiny" / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        build(path)
    return path


def encoder(base: Path, layers: int = 2) -> Path:
    """The checkpoint's directory."""
    return once(base, f"encoder-{layers}", partial(_write_encoder, layers=layers))


def _write_encoder(folder: Path, layers: int) -> None:
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    ids = {word: i for i, word in enumerate([*special.values(), *WORDS])}
    words = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    )
    PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=32, **special).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(ids),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.1,  # so that attention has something to go by from the start
    )
    BertModel(config).save_pretrained(folder)


def texts(number: int, cues: Callable[[int], Sequence[str]], seed: int = 0) -> list[str]:
    """Different texts, the i-th with the words `cues(i)` somewhere in it."""
    rng = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < number:
        words = [*rng.sample(FILLERS, 2), *cues(len(found))]
        rng.shuffle(words)
        found.setdefault(" ".join(words))
    return list(found)


def _labels(i: int) -> list[str]:
    """Every subset of the labels in turn, the empty one too."""
    return [name for j, name in enumerate(CUES) if i >> j & 1]


def multi_label_rows(number: int, seed: int = 0) -> list[str]:
    """Lines of a CSV file with 0/1 columns, without its header."""
    found = texts(number, lambda i: [CUES[name][i // 8 % 2] for name in _labels(i)], seed)
    return [",".join([text, *(str(int(name in _labels(i))) for name in CUES)]) for i, text in enumerate(found)]


def multi_label(base: Path) -> Path:
    """A folder of CSV files with 0/1 columns anger, fear and joy."""
    return once(
        base, "multi_label", lambda path: _write(path, multi_label_rows(sum(SPLITS.values())), MULTI_LABEL_HEADER)
    )


def turned(base: Path) -> Path:
    """The rows of `multi_label` with the columns joy, anger and fear."""

    def build(path: Path) -> None:
        path.mkdir()
        for file in multi_label(base).glob("*.csv"):
            rows = [line.split(",") for line in file.read_text().splitlines()]
            (path / file.name).write_text("".join(f"{t},{j},{a},{f}\n" for t, a, f, j in rows))

    return once(base, "turned", build)


MULTI_LABEL_HEADER = f"text,{','.join(CUES)}\n"


def multi_class(base: Path) -> Path:
    """A folder of `text;label` files."""
    names = list(CUES)
    found = texts(sum(SPLITS.values()), lambda i: [CUES[names[i % 3]][i // 3 % 2]])
    rows = [f"{text};{names[i % 3]}" for i, text in enumerate(found)]
    return once(base, "multi_class", lambda path: _write(path, rows, suffix=".txt"))


def goemotions(base: Path) -> Path:
    """A folder in GoEmotions' layout, all 28 labels, one or two a text."""

    def ids(i: int) -> list[int]:
        return sorted({i % 28, (i + i // 28) % 28})

    def build(path: Path) -> None:
        found = texts(sum(SPLITS.values()), lambda i: [GOEMOTIONS.names[j] for j in ids(i)])
        rows = [f"{text}\t{','.join(map(str, ids(i)))}\tid{i}" for i, text in enumerate(found)]
        _write(path, rows, suffix=".tsv")
        (path / "labels.txt").write_text("\n".join(GOEMOTIONS.names) + "\n")

    return once(base, "goemotions", build)


def _write(folder: Path, rows: Sequence[str], header: str = "", suffix: str = ".csv") -> None:
    folder.mkdir()
    lines = iter(rows)
    for split, number in SPLITS.items():
        part = "".join(f"{row}\n" for row in itertools.islice(lines, number))
        (folder / f"{split}{suffix}").write_text(header + part)


def options(base: Path, data: Path, *, epochs: int = 8) -> list[str]:
    """What follows `emotune train starter` for a training of about a second."""
    settings = {
        "model.encoder": encoder(base),
        "model.dropout": 0,
        "training.epochs": epochs,
        "training.precision": "fp32",
        "training.batch_size": 8,
        "optimizer.lr": 5e-3,
        "optimizer.head_lr": 1e-2,
        "tuning.folds": 3,
    }
    return ["--data", str(data), *(part for k, v in settings.items() for part in ("--set", f"{k}={v}"))]


def trained(base: Path, data: Path, *more: str) -> Path:
    """A run trained on that data."""

    def build(path: Path) -> None:
        result = CliRunner().invoke(app, ["train", "starter", "--out", str(path), *options(base, data), *more])
        assert result.exit_code == 0, result.output

    return once(base, f"run-{data.name}", build)


def ngrams(base: Path) -> Path:
    """A run of n-grams on the multi-label corpus, which needs no PyTorch."""
    settings = ["--data", str(multi_label(base)), "--set", "model.kind=tfidf"]

    def build(out: Path) -> None:
        assert CliRunner().invoke(app, ["train", "starter", *settings, "--out", str(out)]).exit_code == 0

    return once(base, "ngrams", build)


def copy(run: Path, target: Path) -> Path:
    """A copy of a run or model that may be changed."""
    return shutil.copytree(run, target)


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
