"""Two ways to show emoji and emoticons to an encoder whose tokenizer does not know them, against none.

    python benchmarks/emoji.py DATA --out RUNS --seeds 3

none      the tokenizer as it is: an emoji is [UNK], and so is a word that touches it
words     words in place of them, in the normalizer of the tokenizer (the default of a training)
tokens    a token for each; its embedding starts as the mean of the pieces of those words

DATA is a folder in the format of GoEmotions. Each way is trained once for each seed, as RUNS/WAY-SEED; a run that is
there is used. Scores are those of the validation rows: thresholds out of fold, the loss without thresholds, over all
rows and over the rows that have an emoji or emoticon. A difference is the mean over the seeds, with the 95 % interval
of a paired bootstrap over the rows. The last line is one JSON object.
"""

import argparse
import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Regex, Tokenizer, normalizers

from emotune import hub
from emotune.config.kinds import DEFAULT_ENCODER
from emotune.config.loading import load_config
from emotune.data import emoji
from emotune.data.corpus import load_corpus, resolve_data
from emotune.data.records import Corpus
from emotune.labels import positives
from emotune.reporter import NullReporter
from emotune.runs import layout
from emotune.scoring.metrics import Counts, interval
from emotune.scoring.tuning import decide_out_of_fold, start_decision
from emotune.workflows.train import train

WAYS = ("none", "words", "tokens")
METRICS = ("macro_f1", "micro_f1", "loss")
EMOTICONS = {
    "🙂": ":) :-) :)) =) :] :} (: ^_^ ^-^",
    "😆": ":D :-D :DD =D XD xD",
    "🙁": ":( :-( :(( =( :[ ):",
    "😉": ";) ;-) ;D ;P ;]",
    "❤": "<3 <33",
    "💔": "</3",
    "🫤": ":/ :-/ :\\ =/ :S :s",
    "😛": ":P :p :-P :-p =P",
    "😮": ":O :o :-O :0 O_O o_O O_o o_o O.o 0_0",
    "😺": ":3 =3",
    "😐": ":| :-|",
    "😢": ":'( :,( ;_; ;__; T_T",
    "😧": "D:",
    "🤷": r"¯_(ツ)_/¯ ¯\_(ツ)_/¯ ¯\(ツ)/¯",
    "🥲": ":') :,) ='D",
    "😠": ">:( >:(( >:[",
    "😑": "-_- -.- -__-",
    "😣": ">_< >.< >__<",
    "😈": ">:) >=)",
    "🤨": "ಠ_ಠ",
    "😘": ":* :-*",
}
RESAMPLES = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--recipe", default="goemotions")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C")
    args = parser.parse_args()
    scores = {}
    for way in args.ways:
        for seed in range(args.seeds):
            out = args.out / f"{way}-{seed}"
            if not (out / "valid.safetensors").is_file():
                encoder = [f"model.encoder={with_tokens(args.out / 'encoder')}"] if way == "tokens" else []
                named = [f"model.emoji_words={str(way == 'words').lower()}"]
                wanted = [f"data.path={args.data}", f"training.seed={seed}", *encoder, *named, *args.set]
                train(load_config(args.recipe, wanted), out, reporter=NullReporter())
            scores[way, seed] = out
    config = layout.read_config(next(iter(scores.values())))
    corpus = load_corpus(resolve_data(config.data), ("valid",))
    report(corpus, scores, args.ways, args.seeds)


def with_tokens(folder: Path) -> Path:
    """Make a copy of the default encoder that has a token for each emoji and emoticon."""
    import torch
    from transformers import AutoModel

    if folder.is_dir():
        return folder
    source = hub.resolve_encoder(DEFAULT_ENCODER, None).directory
    shutil.copytree(source, folder)
    plain = Tokenizer.from_file(str(source / "tokenizer.json"))
    plain.no_padding()
    plain.no_truncation()
    unknown = emoji.unknown_token(plain)
    single = {char: said for char, said in emoji.words().items() if not emoji.knows(plain, char, unknown)}
    removed = "".join(char for char, said in single.items() if not said)
    words = {char: said for char, said in single.items() if said}
    words |= {each: emoji.words()[char] for char, several in EMOTICONS.items() for each in several.split()}
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(Regex(f"[{removed}]"), ""), tokenizer.normalizer])
    tokenizer.add_tokens([AddedToken(word, single_word=word not in single, normalized=True) for word in words])
    model = AutoModel.from_pretrained(source, dtype=torch.float32, add_pooling_layer=False)
    model.resize_token_embeddings(tokenizer.get_vocab_size())
    table, ids = model.get_input_embeddings().weight.data, tokenizer.get_vocab()
    for word, said in words.items():
        if word in ids:
            table[ids[word]] = table[plain.encode(said, add_special_tokens=False).ids].mean(dim=0)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"  # BertTokenizer would make a normalizer of its own
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "vocab.txt").unlink(missing_ok=True)
    return folder


def report(corpus: Corpus, runs: dict[tuple[str, int], Path], ways: list[str], seeds: int) -> None:
    """Print the scores of each way, and the differences to the first one."""
    records, found = corpus.splits["valid"], {}
    has = np.array([has_emoji(r.text) for r in records])
    rows = {"all": np.arange(len(records)), "with emoji": np.flatnonzero(has), "others": np.flatnonzero(~has)}
    for name, chosen in rows.items():
        print(f"{name}: {len(chosen):,} rows")
        draws = {way: [drawn(corpus, runs[way, seed], chosen) for seed in range(seeds)] for way in ways}
        for way in ways:
            for metric in METRICS:
                values = [seed[metric][0] for seed in draws[way]]
                entry = {"mean": float(np.mean(values)), "values": list(map(float, values))}
                shown = f"{entry['mean']:.4f}" + (f" ± {np.std(values, ddof=1):.4f}" if seeds > 1 else "")
                if way != ways[0]:
                    differences = np.mean(
                        [a[metric] - b[metric] for a, b in zip(draws[way], draws[ways[0]], strict=True)], axis=0
                    )
                    low, high = interval(differences[1:])
                    entry |= {"difference": float(differences[0]), "interval": [low, high]}
                    shown += f"   {way} minus {ways[0]}: {differences[0]:+.4f} ({low:+.4f} to {high:+.4f})"
                print(f"  {way:7} {metric:9} {shown}")
                found[f"{name}/{way}/{metric}"] = entry
    print(json.dumps(found))


@cache
def _normalizers() -> tuple[normalizers.Normalizer, normalizers.Normalizer]:
    plain = Tokenizer.from_file(str(hub.resolve_encoder(DEFAULT_ENCODER, None).directory / "tokenizer.json"))
    return plain.normalizer, emoji.with_words(plain).normalizer


def has_emoji(text: str) -> bool:
    """Whether a text has an emoji or emoticon that is read as words."""
    plain, reading = _normalizers()
    return plain.normalize_str(text).split() != reading.normalize_str(text).split()


def drawn(corpus: Corpus, run: Path, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float64]]:
    """Return each metric of the rows, then of the same bootstrap draws of them for every run; shape (1 + draws,)."""
    config, (logits, targets) = layout.read_config(run), layout.read_valid(run, corpus.labels)
    start = start_decision(corpus.labels, config.decision)
    positive = positives(targets)
    decided = decide_out_of_fold(logits, targets, start, config.tuning)[rows]
    counts = Counts.of(positive[rows], decided)
    wrong = np.clip(np.where(positive, 1 - start.probabilities(logits), start.probabilities(logits)), 0, 1 - 1e-7)
    losses = -np.log1p(-wrong[rows]).sum(axis=1)  # negative log likelihood of a row, over its labels
    n, rng = len(rows), np.random.default_rng(0)
    weights = np.stack([np.ones(n), *(np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(RESAMPLES))])
    metrics = counts.sums(weights).metrics()
    return {name: metrics[name] for name in METRICS[:2]} | {"loss": weights @ losses / n}


if __name__ == "__main__":
    main()
