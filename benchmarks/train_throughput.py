"""Training throughput of emotune and the Hugging Face Trainer, in one run on the same rows and checkpoint.

    python benchmarks/train_throughput.py --data DIR

Compared in turn:
  emotune     the goemotions recipe as shipped, and the same with batch 32
  trainer-a   Trainer, every text padded to 128 tokens, fp32, batch 16: a common recipe
  trainer-b   Trainer, bf16, dynamic padding, grouped by length, batch 32: its fast settings

Each trains one epoch on its share of the same random rows. The first steps, in which kernels are chosen, are not
counted. Prints examples per second and ratios; the last line is one JSON object.
"""

import argparse
import json
import logging
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import DataCollatorWithPadding, TrainerCallback, TrainingArguments
from transformers import Trainer as TheirTrainer

from emotune import hub
from emotune.config.loading import load_config
from emotune.config.schema import Config
from emotune.config.settings import EncoderConfig
from emotune.data.corpus import load_corpus, resolve_data
from emotune.data.records import Corpus, targets_of
from emotune.models import encoder as encoders
from emotune.models.scoring import pick_device
from emotune.training import device as precision
from emotune.training.device import make_accelerator
from emotune.training.loop import Trainer
from emotune.training.progress import EpochReport, Examples, StepReport

WARM_UP = 10


class Clock:
    """Examples per second from the end of the warm-up steps to the last step."""

    def __init__(self) -> None:
        self.steps, self.examples, self.start, self.end = 0, 0, 0.0, 0.0

    def tick(self, examples: int) -> None:
        """Count an optimizer step."""
        self.steps += 1
        self.end = time.perf_counter()
        if self.steps == WARM_UP:
            self.start = self.end
        elif self.steps > WARM_UP:
            self.examples += examples

    @property
    def rate(self) -> float:
        return self.examples / (self.end - self.start)


class _Observer(Clock):
    def on_step(self, report: StepReport) -> None:
        self.tick(report.examples)

    def on_epoch(self, report: EpochReport) -> None:
        """Do nothing: only steps are timed."""

    def warn(self, message: str) -> None:
        raise RuntimeError(message)


class _Callback(TrainerCallback):  # type: ignore[misc]
    def __init__(self, clock: Clock, batch: int) -> None:
        self.clock, self.batch = clock, batch

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.clock.tick(self.batch)


def ours(config: Config, corpus: Corpus, source: hub.Source, rows: Sequence[int]) -> float:
    """Return the examples per second of emotune's training loop on these rows."""
    device = pick_device("auto")
    chosen = precision.choose(config.training.precision, device)
    accelerator = make_accelerator(device.type, chosen.name)
    assert isinstance(config.model, EncoderConfig)
    model = encoders.build(source.directory, config.model, corpus.labels, device)
    encoder = encoders.text_encoder(source.directory, model)
    records = [corpus.splits["train"][i] for i in rows]

    def examples(count: int) -> Examples:
        part = records[:count]
        encoded = encoder.cut([r.text for r in part], config.network.max_length)
        return Examples(encoded, targets_of(part, len(corpus.labels)), lambda i: str(part[i].place))

    observer = _Observer()
    trainer = Trainer(
        model,
        examples(len(records)),
        examples(config.training.batch_size),
        config,
        accelerator=accelerator,
        metric=lambda _: dict.fromkeys(("macro_f1", "loss"), 0.0),
        pad_id=encoder.pad_id,
        task=corpus.labels.task,
        observer=observer,
    )
    trainer.fit()
    return observer.rate


def theirs(corpus: Corpus, source: hub.Source, rows: Sequence[int], *, padded: bool) -> float:
    """Return the examples per second of the Hugging Face Trainer on these rows."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.directory)
    model = AutoModelForSequenceClassification.from_pretrained(
        source.directory,
        num_labels=len(corpus.labels),
        problem_type="multi_label_classification",
        dtype=torch.float32,
    )
    records = [corpus.splits["train"][i] for i in rows]
    padding = {"padding": "max_length"} if padded else {"padding": False}
    encoded = tokenizer([r.text for r in records], truncation=True, max_length=128, **padding)
    targets = targets_of(records, len(corpus.labels))
    dataset = [
        {"input_ids": ids, "attention_mask": mask, "labels": target}
        for ids, mask, target in zip(encoded["input_ids"], encoded["attention_mask"], targets.tolist(), strict=True)
    ]
    batch = 16 if padded else 32
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=batch,
            num_train_epochs=1,
            learning_rate=1e-4,
            bf16=not padded,
            use_cpu=not torch.cuda.is_available(),
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            **({} if padded else grouped_by_length()),
        )
        TheirTrainer(
            model=model,
            args=arguments,
            train_dataset=dataset,
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[_Callback(clock, batch)],
        ).train()
    return clock.rate


def grouped_by_length() -> dict[str, Any]:
    """Return the Trainer's option for grouping by length, which was renamed in transformers 5."""
    fields = TrainingArguments.__dataclass_fields__
    if "train_sampling_strategy" in fields:
        return {"train_sampling_strategy": "group_by_length"}
    return {"group_by_length": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder with GoEmotions' files")
    parser.add_argument("--rows", type=int, default=6400, help="training rows of an epoch")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    config = load_config("goemotions", [f"data.path={args.data}", "training.epochs=1"])
    batch_32 = config.model_copy(update={"training": config.training.model_copy(update={"batch_size": 32})})
    corpus = load_corpus(resolve_data(config.data), ("train",))
    source = hub.resolve_encoder(config.network.encoder)
    rows = np.random.default_rng(0).permutation(len(corpus.splits["train"]))[: args.rows].tolist()
    few = rows[: max(16 * (WARM_UP + 20), args.rows // 10)]
    rates: dict[str, list[float]] = {"emotune": [], "emotune batch 32": [], "trainer-b": [], "trainer-a": []}
    for round_ in range(args.rounds):
        rates["emotune"].append(ours(config, corpus, source, rows))
        rates["trainer-b"].append(theirs(corpus, source, rows, padded=False))
        rates["emotune batch 32"].append(ours(batch_32, corpus, source, rows))
        rates["trainer-a"].append(theirs(corpus, source, few, padded=True))
        print(f"round {round_ + 1}: " + ", ".join(f"{k} {v[-1]:.0f}" for k, v in rates.items()), flush=True)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, value in medians.items():
        print(f"{name:18} {value:7.1f} examples/s")
    ratios = {
        f"{mine} / {other}": statistics.median(a / b for a, b in zip(rates[mine], rates[other], strict=True))
        for mine in ("emotune", "emotune batch 32")
        for other in ("trainer-a", "trainer-b")
    }
    for name, value in ratios.items():
        print(f"{name}: {value:.2f} times")
    about = {"machine": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps({**about, "rows": args.rows, "examples_per_second": medians, "ratios": ratios}))


if __name__ == "__main__":
    main()
