"""Training throughput of emotune and the Hugging Face Trainer, in one run on the same rows and checkpoint.

    python benchmarks/train_throughput.py --data DIR
    python benchmarks/train_throughput.py --data DIR --profile

Compared in turn:
  emotune     the goemotions recipe as shipped, and the same with batch 32
  trainer-a   Trainer, every text padded to 128 tokens, fp32, batch 16: a common recipe
  trainer-b   Trainer, bf16, dynamic padding, grouped by length, batch 32: its fast settings

Each trains one epoch on its share of the same random rows. The first steps, in which kernels are chosen, are not
counted. Prints examples per second and ratios; the last line is one JSON object.

The share of the ceiling is the FLOPs of the matrix products of emotune's steps, per second, divided by what the device
reaches in one matrix product, in the same precision and with the same number of threads, measured after each training.

--profile prints instead where the time of a step goes: by part of the step, and by operation.
"""

import argparse
import json
import logging
import os
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import DataCollatorWithPadding, TrainerCallback, TrainingArguments
from transformers import Trainer as TheirTrainer

from emotune import hub
from emotune.config.loading import load_config
from emotune.config.schema import Config
from emotune.config.settings import EncoderConfig
from emotune.data.corpus import load_corpus, resolve_data
from emotune.data.records import Corpus, targets_of
from emotune.data.tokens import shuffled_buckets
from emotune.models import cpu_shortcuts
from emotune.models import encoder as encoders
from emotune.models.scoring import pick_device
from emotune.training import device as precision
from emotune.training import loop
from emotune.training.device import make_accelerator
from emotune.training.loop import Trainer
from emotune.training.progress import EpochReport, Examples, StepReport

WARM_UP = 10
_PRODUCTS = 100  # repetitions of a matrix product
_PROFILED = 20  # steps


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


def build(
    config: Config, corpus: Corpus, source: hub.Source, rows: Sequence[int], observer: _Observer | None = None
) -> Trainer:
    """Return emotune's training loop on these rows."""
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

    return Trainer(
        model,
        examples(len(records)),
        examples(config.training.batch_size),
        config,
        accelerator=accelerator,
        metric=lambda _: dict.fromkeys(("macro_f1", "loss"), 0.0),
        pad_id=encoder.pad_id,
        task=corpus.labels.task,
        observer=observer or _Observer(),
    )


def ours(config: Config, corpus: Corpus, source: hub.Source, rows: Sequence[int]) -> float:
    """Return the examples per second of emotune's training loop on these rows."""
    observer = _Observer()
    build(config, corpus, source, rows, observer).fit()
    return observer.rate


def work(trainer: Trainer) -> float:
    """Return the FLOPs of the matrix products of an epoch per example, from one in five of its batches."""
    lengths, size = trainer.train.encoded.lengths, trainer.config.training.batch_size
    batches = shuffled_buckets(lengths, size, np.random.default_rng(0))
    chosen = sorted(batches, key=lambda rows: int(lengths[rows].max()))[2::5]
    with cpu_shortcuts.applied(trainer.core, trainer.accelerator.device), FlopCounterMode(display=False) as counter:
        for rows in chosen:
            trainer._step(1, [rows])
    return float(counter.get_total_flops()) / sum(map(len, chosen))


def ceilings(trainer: Trainer) -> dict[str, float]:
    """Return the FLOPs per second of matrix products in the training precision.

    `square` is one of 2,048 × 2,048 matrices; `model` are those of a step in the feed-forward part of a layer: of the
    tokens of an average batch, forward and backward.
    """
    accelerator, settings = trainer.accelerator, trainer.core.config
    dtype = torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32
    tokens = round(trainer.config.training.batch_size * float(trainer.train.encoded.lengths.mean()))
    wide, narrow = settings.intermediate_size, settings.hidden_size

    def matrix(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, device=accelerator.device).to(dtype)

    x, weight, gradient = matrix(tokens, narrow), matrix(wide, narrow), matrix(tokens, wide)
    square = matrix(2048, 2048)
    products = {
        "square": [(square, square)],
        "model": [(x, weight.T), (gradient, weight), (gradient.T, x)],
    }
    return {name: _flops_per_second(pairs, accelerator.device) for name, pairs in products.items()}


def _flops_per_second(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], device: torch.device) -> float:
    work = sum(2 * a.shape[0] * a.shape[1] * b.shape[1] for a, b in pairs)
    seconds = []
    for _ in range(_PRODUCTS):
        start = time.perf_counter()
        for a, b in pairs:
            a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return work / statistics.median(seconds)


def profile(trainer: Trainer) -> None:
    """Print where the time of steps goes, by part and by operation (CPU); the first steps are not counted."""
    spent: defaultdict[str, float] = defaultdict(float)

    def timed(owner: Any, name: str, part: str) -> None:
        original = getattr(owner, name)

        def wrapper(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return original(*arguments, **named)
            finally:
                spent[part] += time.perf_counter() - start

        setattr(owner, name, wrapper)

    timed(loop, "model_inputs", "batch")
    timed(trainer.model, "forward", "forward")
    timed(trainer.accelerator, "backward", "backward")
    timed(trainer, "_clip", "clipping")
    timed(trainer.optimizer, "step", "optimizer")
    timed(trainer.average, "update", "moving average")
    timed(trainer, "_step", "step")
    lengths, size = trainer.train.encoded.lengths, trainer.config.training.batch_size
    batches = shuffled_buckets(lengths, size, np.random.default_rng(0))
    with cpu_shortcuts.applied(trainer.core, trainer.accelerator.device):
        for rows in batches[:WARM_UP]:
            trainer._step(1, [rows])
        spent.clear()
        counted = batches[WARM_UP:-_PROFILED]
        for rows in counted:
            trainer._step(1, [rows])
        whole = spent.pop("step")
        spent["rest"] = whole - sum(spent.values())
        for part, seconds in sorted(spent.items(), key=lambda item: -item[1]):
            print(f"{part:16} {1000 * seconds / len(counted):7.1f} ms a step {seconds / whole:6.1%}")
        with torch.profiler.profile() as profiler:
            for rows in batches[-_PROFILED:]:
                trainer._step(1, [rows])
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=45))


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
    parser.add_argument("--profile", action="store_true", help="print where the time of a step goes, and end")
    args = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    config = load_config("goemotions", [f"data.path={args.data}", "training.epochs=1"])
    batch_32 = config.model_copy(update={"training": config.training.model_copy(update={"batch_size": 32})})
    corpus = load_corpus(resolve_data(config.data), ("train",))
    source = hub.resolve_encoder(config.network.encoder)
    rows = np.random.default_rng(0).permutation(len(corpus.splits["train"]))[: args.rows].tolist()
    if args.profile:
        profile(build(config, corpus, source, rows))
        return
    few = rows[: max(16 * (WARM_UP + 20), args.rows // 10)]
    rates: dict[str, list[float]] = {"emotune": [], "emotune batch 32": [], "trainer-b": [], "trainer-a": []}
    measured = build(config, corpus, source, rows)
    flops = work(measured)
    reached: dict[str, list[float]] = {"square": [], "model": []}
    for round_ in range(args.rounds):
        rates["emotune"].append(ours(config, corpus, source, rows))
        for name, value in ceilings(measured).items():
            reached[name].append(value)
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
    shares = {}
    for name, values in reached.items():
        shares[name] = statistics.median(flops * r / c for r, c in zip(rates["emotune"], values, strict=True))
        ceiling = f"{statistics.median(values) / 1e9:.0f} GFLOP/s ({name})"
        print(f"share of the ceiling of {ceiling}: {shares[name]:.0%} at {flops / 1e9:.2f} GFLOP an example")
    about = {"machine": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps({**about, "rows": args.rows, "examples_per_second": medians, "ratios": ratios, "shares": shares}))


if __name__ == "__main__":
    main()
