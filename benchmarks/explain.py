"""Faithfulness and speed of explanations: occlusion against gradient × input and a random order.

    python benchmarks/explain.py --model MODEL --data FILE [--rows 200] [--timed 1000] [--threads 2]

FILE has one text per line, or is a TSV file with the text in its first column (GoEmotions). Faithfulness is the
deletion AUC (Petsiuk et al. 2018, https://arxiv.org/abs/1806.07421): the words of a text are removed one by one, those
that contribute most to its most probable label first; the AUC is the area under that label's probability over the share
of removed words, the mean over texts. Lower is better. It is measured with words deleted, and with words replaced by
[MASK]. All sides explain the same texts in the same run; differences to occlusion have 95 % intervals from a paired
bootstrap of the texts. `mask` and `unknown` are occlusion that replaces a word by [MASK] or [UNK] instead of deleting
it. gradient × input needs a model that plain transformers loads. The last line of the output is one JSON object.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForSequenceClassification

import emotune
from emotune.inference.explain import Explanation, Word, removed

Floats = npt.NDArray[np.float64]
RESAMPLES = 2000
MASK, UNKNOWN = "[MASK]", "[UNK]"


def read_texts(path: Path) -> list[str]:
    """Return the distinct texts of a file, in its order."""
    lines = (line.split("\t")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return list(dict.fromkeys(line for line in lines if line))


def replaced(text: str, words: Sequence[Word], replacement: str) -> str:
    """Return the text with the words replaced, or deleted for an empty replacement."""
    for word in sorted(words, key=lambda word: -word.start):
        masked = text[: word.start] + replacement + text[word.end :]
        text = masked if replacement else removed(text, word.start, word.end)
    return text


class Scores:
    """The probabilities of texts, each computed once."""

    def __init__(self, classifier: emotune.EmotionClassifier) -> None:
        self._classifier = classifier
        self._found: dict[str, Floats] = {}

    def __call__(self, texts: Sequence[str]) -> Floats:
        new = [text for text in dict.fromkeys(texts) if text not in self._found]
        self._found.update(zip(new, self._classifier.predict_proba(new, batch_size=64), strict=True))
        return np.stack([self._found[text] for text in texts])


def by_replacement(explanation: Explanation, label: int, scores: Scores, replacement: str) -> Floats:
    """Return the fall of the label's probability when each word is replaced."""
    variants = [replaced(explanation.text, [word], replacement) for word in explanation.words]
    return np.asarray(scores([explanation.text])[0, label] - scores(variants)[:, label])


class Gradients:
    """gradient × input of a label's logit, summed over the dimensions of each token and the tokens of each word."""

    def __init__(self, directory: Path) -> None:
        self._model = AutoModelForSequenceClassification.from_pretrained(directory, dtype=torch.float32).eval()
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def __call__(self, explanation: Explanation, label: int) -> Floats:
        encoding = self._tokenizer.encode(explanation.text)
        inputs = self._model.get_input_embeddings()(torch.tensor([encoding.ids])).detach().requires_grad_()
        self._model(inputs_embeds=inputs).logits[0, label].backward()
        assert inputs.grad is not None
        values = (inputs.grad * inputs.detach()).sum(dim=-1)[0].numpy()
        spans = np.array(encoding.offsets)
        inside = [(spans[:, 0] >= w.start) & (spans[:, 1] <= w.end) & (spans[:, 1] > 0) for w in explanation.words]
        return np.array([values[each].sum() for each in inside], dtype=np.float64)


def deletions(text: str, words: Sequence[Word], values: Floats, replacement: str) -> Iterator[str]:
    """Yield the text without its first, its first two, … words by contribution."""
    order = np.argsort(-values, kind="stable")
    for number in range(len(words) + 1):
        yield replaced(text, [words[i] for i in order[:number]], replacement)


def area(probabilities: Floats) -> float:
    """Return the area under a curve of equal steps from 0 to 1."""
    return float((probabilities[:-1] + probabilities[1:]).mean() / 2)


def interval(values: Floats) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean."""
    rng = np.random.default_rng(0)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(RESAMPLES)]
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def faithfulness(classifier: emotune.EmotionClassifier, texts: Sequence[str]) -> dict[str, Any]:
    """Print and return the deletion AUC of each side."""
    explanations = [found for found in classifier.explain(texts, batch_size=64) if len(found.words) > 1]
    scores, rng = Scores(classifier), np.random.default_rng(0)
    sides: dict[str, Callable[[Explanation, int], Floats]] = {
        "occlusion": lambda e, label: np.asarray(e.contributions[:, label]),
        "mask": lambda e, label: by_replacement(e, label, scores, MASK),
        "unknown": lambda e, label: by_replacement(e, label, scores, UNKNOWN),
        "random": lambda e, _: rng.random(len(e.words)),
    }
    if classifier.manifest.portability == "transformers" and classifier.directory is not None:
        sides["gradient x input"] = Gradients(classifier.directory)
    tops = [max(range(len(e.scores)), key=list(e.scores.values()).__getitem__) for e in explanations]
    values = {name: [side(e, top) for e, top in zip(explanations, tops, strict=True)] for name, side in sides.items()}
    found: dict[str, Any] = {"texts": len(explanations)}
    for how, replacement in (("deleted", ""), ("masked", MASK)):
        areas = {}
        for name, each in values.items():
            curves = [list(deletions(e.text, e.words, v, replacement)) for e, v in zip(explanations, each, strict=True)]
            scores([text for curve in curves for text in curve])
            areas[name] = np.array([area(scores(c)[:, top]) for c, top in zip(curves, tops, strict=True)])
        for name, auc in areas.items():
            difference = auc - areas["occlusion"]
            low, high = interval(difference)
            entry = {"auc": float(auc.mean()), "minus_occlusion": float(difference.mean()), "interval": [low, high]}
            found[f"{how}/{name}"] = entry
            print(
                f"{how:8} {name:17} AUC {entry['auc']:.4f}   minus occlusion {difference.mean():+.4f} "
                f"({low:+.4f} to {high:+.4f})",
                flush=True,
            )
    return found


def speed(classifier: emotune.EmotionClassifier, texts: Sequence[str]) -> dict[str, float]:
    """Return the seconds for explaining texts, and their words."""
    classifier.explain(texts[:16])
    started, used = time.perf_counter(), time.process_time()
    words = sum(len(found.words) for found in classifier.explain(texts, batch_size=64))
    return {
        "timed_texts": len(texts),
        "words": words,
        "seconds": round(time.perf_counter() - started, 2),
        "cpu_seconds": round(time.process_time() - used, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--timed", type=int, default=1000)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    texts = read_texts(options.data)
    classifier = emotune.load(options.model, device="cpu")
    found = speed(classifier, texts[: options.timed]) if options.timed else {}
    print(found, flush=True)
    faithful = faithfulness(classifier, texts[: options.rows]) if options.rows else {}
    print(json.dumps(found | faithful))


if __name__ == "__main__":
    main()
