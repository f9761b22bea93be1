"""The training loop: it learns, repeats itself to the byte, stops when told to, and keeps the weights it should."""

from __future__ import annotations

import math
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from emotune.config.loading import config_from
from emotune.config.schema import Config, DataConfig
from emotune.data.tokens import TextEncoder
from emotune.errors import TrainingError
from emotune.models import encoder as encoders
from emotune.training import checkpoint as checkpoint_files
from emotune.training import loop
from emotune.training.checkpoint import Checkpoints
from emotune.training.device import make_accelerator
from emotune.training.loop import Trainer
from emotune.training.progress import (
    EndedByObserverError,
    EpochReport,
    Examples,
    Fitted,
    Interrupt,
    Progress,
    StepReport,
)
from label_files import load_corpus

Checkpoint = Callable[[str], Path]
Floats = npt.NDArray[np.float32]
Metric = Callable[[Floats], dict[str, float]]
CPU = torch.device("cpu")
BATCH = 8
# of a gradient that is zero but for rounding, as that of a key bias is, Adam makes a full step unless eps is large
SMOOTH = {"lr": 1e-3, "eps": 1e-4}
LEARNT = {"optimizer": {"lr": 5e-3, "head_lr": 1e-2}, "training": {"epochs": 10}}


@dataclass
class Recorder:
    """An observer that keeps what it is told; `then` is called after each step, with its number."""

    then: Callable[[int], None] = lambda _: None
    steps: list[StepReport] = field(default_factory=list)
    epochs: list[EpochReport] = field(default_factory=list)
    weights: list[dict[str, Tensor]] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    trainer: Trainer | None = None

    def warn(self, message: str) -> None:
        self.trouble.append(message)

    def on_step(self, report: StepReport) -> None:
        self.steps.append(report)
        self.then(report.step)

    def on_epoch(self, report: EpochReport) -> None:
        assert self.trainer is not None
        self.epochs.append(report)
        self.weights.append(copy_of(self.trainer.core))


@dataclass
class Run:
    """A fitted model and what was seen of its training."""

    model: PreTrainedModel
    fitted: Fitted
    seen: Recorder
    trainer: Trainer
    start: dict[str, Tensor]


def copy_of(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def settings(source: Path, **sections: Any) -> Config:
    values: dict[str, dict[str, Any]] = {
        "model": {"encoder": str(source), "freeze_word_embeddings": False, "dropout": 0.0},
        "training": {"batch_size": BATCH, "epochs": 2},
        "optimizer": {"lr": 1e-3},
    }
    for name, section in sections.items():
        values[name] = values.get(name, {}) | section
    return config_from(values)


def prepared(
    source: Path,
    corpus: Path,
    *,
    rows: int = 120,
    metric: Metric | None = None,
    precision: str = "no",
    then: Callable[[int], None] = lambda _: None,
    **sections: Any,
) -> Run:
    """A trainer before its run, on the first rows of a corpus."""
    config = settings(source, **sections)
    data = load_corpus(DataConfig(path=str(corpus)))
    accelerator = make_accelerator("cpu", precision)
    torch.manual_seed(config.training.seed)
    model = encoders.build(source, config.model, data.labels, CPU)
    encoder = encoders.text_encoder(source, model)
    train = examples(encoder, data, "train", rows)
    valid = examples(encoder, data, "valid", 40)

    def accuracy(logits: Floats) -> dict[str, float]:
        probabilities = torch.sigmoid(torch.from_numpy(logits)).numpy()
        return {
            "macro_f1": float(((logits > 0) == valid.targets).mean()),
            "loss": float(np.abs(probabilities - valid.targets).mean()),
        }

    seen = Recorder(then)
    trainer = Trainer(
        model,
        train,
        valid,
        config,
        accelerator=accelerator,
        metric=metric or accuracy,
        pad_id=encoder.pad_id,
        task=data.labels.task,
        observer=seen,
    )
    seen.trainer = trainer
    return Run(model, Fitted(), seen, trainer, copy_of(model))


def examples(encoder: TextEncoder, data: Any, split: str, rows: int) -> Examples:
    records = data.splits[split][:rows]
    encoded = encoder.cut([r.text for r in records], 32)
    return Examples(encoded, data.targets(split)[:rows], lambda i: str(records[i].place))


def trained(source: Path, corpus: Path, **options: Any) -> Run:
    run = prepared(source, corpus, **options)
    run.fitted = run.trainer.fit()
    run.model = run.trainer.core
    return run


def scripted(*values: float) -> Metric:
    """A metric that takes these values, epoch after epoch."""
    left = iter(values)
    return lambda _: {"macro_f1": (value := next(left)), "loss": -value}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], *, rtol: float = 0.0, atol: float = 0.0) -> None:
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


def differ(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    return {name for name in one if not torch.equal(one[name], other[name])}


@pytest.fixture(autouse=True)
def _handler_is_restored() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before


# --- learning ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("corpus", ["multi_label_corpus", "multi_class_corpus"])
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_what_can_be_learnt_is_learnt(
    corpus: str, precision: str, checkpoint: Checkpoint, request: pytest.FixtureRequest
) -> None:
    run = trained(checkpoint("bert"), request.getfixturevalue(corpus), precision=precision, **LEARNT)
    losses = [report.loss for report in run.fitted.epochs]
    assert losses[-1] < 0.25 * losses[0]
    assert run.fitted.epochs[-1].metrics["macro_f1"] > 0.95
    assert not run.fitted.interrupted
    assert run.fitted.stopped is None


def test_a_focal_loss_and_frozen_words_learn_too(checkpoint: Checkpoint, multi_label_corpus: Path) -> None:
    run = trained(
        checkpoint("electra"),
        multi_label_corpus,
        loss={"name": "focal", "weights": "sqrt_ratio"},
        model={"dropout": 0.1, "freeze_word_embeddings": True},
        **LEARNT,
    )
    losses = [report.loss for report in run.fitted.epochs]
    assert losses[-1] < 0.5 * losses[0]
    words = next(n for n, p in run.model.named_parameters() if p is run.model.get_input_embeddings().weight)
    assert differ(run.start, copy_of(run.model)).isdisjoint({words})


def test_every_step_and_epoch_is_reported(checkpoint: Checkpoint, multi_label_corpus: Path) -> None:
    run = trained(checkpoint("bert"), multi_label_corpus, rows=37, training={"accumulation": 2})
    steps = run.seen.steps
    assert [s.step for s in steps] == list(range(1, 7))
    assert {s.num_steps for s in steps} == {6}
    assert [s.examples for s in steps] == [16, 16, 5] * 2
    assert [s.epoch for s in steps] == [1] * 3 + [2] * 3
    assert steps[0].rate > 0
    assert steps[-1].rate < steps[1].rate
    assert all(s.grad_norm is not None and s.grad_norm > 0 for s in steps)
    assert run.seen.epochs == run.fitted.epochs
    assert [e.epoch for e in run.fitted.epochs] == [1, 2]
    for e in run.fitted.epochs:
        own = [s for s in steps if s.epoch == e.epoch]
        assert e.loss == pytest.approx(sum(s.loss * s.examples for s in own) / 37)


def test_only_a_gradient_above_the_limit_is_scaled(checkpoint: Checkpoint, multi_label_corpus: Path) -> None:
    trainer = prepared(checkpoint("bert"), multi_label_corpus).trainer
    for parameter in trainer.trained:
        parameter.grad = torch.randn_like(parameter)
    before = [p.grad.clone() for p in trainer.trained if p.grad is not None]
    norm = float(torch.cat([g.flatten() for g in before]).norm())
    assert trainer._clip(2 * norm) == pytest.approx(norm, rel=1e-5)
    assert all(torch.equal(p.grad, g) for p, g in zip(trainer.trained, before, strict=True) if p.grad is not None)
    assert trainer._clip(norm / 4) == pytest.approx(norm, rel=1e-5)
    for parameter, gradient in zip(trainer.trained, before, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient / 4, rtol=1e-4, atol=1e-6)


def test_the_first_loss_is_the_mean_over_the_examples_of_the_step(
    checkpoint: Checkpoint, multi_label_corpus: Path
) -> None:
    run = prepared(checkpoint("bert"), multi_label_corpus, rows=30, training={"accumulation": 4, "epochs": 1})
    trainer = run.trainer
    ids, mask = trainer.train.encoded.padded(np.arange(30), trainer.pad_id)
    with torch.no_grad():
        logits = run.model.eval()(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits
        targets = torch.from_numpy(trainer.train.targets)
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
    trainer.fit()
    assert run.seen.steps[0].loss == pytest.approx(float(expected), rel=1e-5)


# --- accumulation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulation", [2, 4, 8])
def test_accumulation_gives_the_weights_of_the_large_batch(
    accumulation: int, checkpoint: Checkpoint, multi_label_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_order(lengths: npt.NDArray[np.int64], batch_size: int, _: object) -> list[npt.NDArray[np.int64]]:
        rows = np.arange(len(lengths))
        return [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]

    monkeypatch.setattr(loop, "shuffled_buckets", in_order)
    once = {"rows": 45, "optimizer": SMOOTH, "training": {"batch_size": 32}}
    whole = trained(checkpoint("bert"), multi_label_corpus, **once)
    training = {"batch_size": 32 // accumulation, "accumulation": accumulation}
    parts = trained(checkpoint("bert"), multi_label_corpus, **once | {"training": training})
    assert [s.examples for s in whole.seen.steps] == [s.examples for s in parts.seen.steps] == [32, 13] * 2
    assert_same(copy_of(parts.model), copy_of(whole.model), rtol=1e-5, atol=1e-6)
    assert differ(copy_of(parts.model), whole.start)


# --- repeating ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_seed_gives_the_same_bytes(precision: str, checkpoint: Checkpoint, multi_label_corpus: Path) -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        drops = {"dropout": 0.1, "attention_dropout": 0.1}
        options = {"model": drops, "training": {"seed": seed, "epochs": 1}}
        return copy_of(trained(checkpoint("bert"), multi_label_corpus, rows=60, precision=precision, **options).model)

    first = weights(3)
    assert not differ(weights(3), first)
    assert len(differ(weights(4), first)) > 20


def test_the_fitted_model_is_a_plain_one(checkpoint: Checkpoint, multi_label_corpus: Path) -> None:
    """In fp32, ready to score, without the wrappings of mixed precision and without shortcuts."""
    run = trained(checkpoint("bert"), multi_label_corpus, rows=40, precision="bf16", model={"dropout": 0.1})
    plain = type(run.model)(run.model.config)
    plain.load_state_dict(run.model.state_dict())
    ids = torch.from_numpy(run.trainer.valid.encoded.padded(np.arange(3), run.trainer.pad_id)[0])
    with torch.no_grad():
        assert torch.equal(run.model(input_ids=ids).logits, plain.eval()(input_ids=ids).logits)
    assert [type(m) for m in run.model.modules()] == [type(m) for m in plain.modules()]
    assert not any(m.training for m in run.model.modules())
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}


# --- freezing ----------------------------------------------------------------------------------------------------


def test_the_encoder_rests_in_the_first_epochs(checkpoint: Checkpoint, multi_label_corpus: Path) -> None:
    run = trained(
        checkpoint("bert"), multi_label_corpus, model={"freeze_epochs": 1, "freeze_word_embeddings": True}, rows=40
    )
    first, second = run.seen.weights
    head = {name for name, _ in encoders.head_parameters(run.model)}
    trained_in_all = {name for name, p in run.model.named_parameters() if p.requires_grad}
    assert differ(run.start, first) == head
    assert differ(first, second) >= trained_in_all - {"bert.embeddings.token_type_embeddings.weight"}
    assert "bert.embeddings.word_embeddings.weight" not in differ(first, second)


def test_a_frozen_encoder_never_moves(checkpoint: Checkpoint, multi_label_corpus: Path) -> None:
    run = trained(checkpoint("roberta"), multi_label_corpus, model={"freeze": "all"}, rows=40)
    assert differ(run.start, copy_of(run.model)) == {name for name, _ in encoders.head_parameters(run.model)}


# --- which weights -----------------------------------------------------------------------------------------------


def test_training_stops_when_the_metric_no_longer_grows(checkpoint: Checkpoint, multi_label_corpus: Path) -> None:
    metric = scripted(0.3, 0.5, 0.4, 0.5, 0.9)
    run = trained(checkpoint("bert"), multi_label_corpus, rows=16, metric=metric, training={"epochs": 5, "patience": 2})
    assert [e.best for e in run.fitted.epochs] == [True, True, False, False]
    assert run.fitted.best_epoch == 2
    assert run.fitted.stopped == "no better macro_f1 for 2 epochs"
    assert_same(copy_of(run.model), run.seen.weights[1])


@pytest.mark.parametrize(
    ("training", "best", "kept"),
    [({}, 2, 2), ({"keep": "last"}, 2, 3), ({"metric": "loss"}, 1, 1), ({"metric": "loss", "keep": "last"}, 1, 3)],
)
def test_the_kept_epochs_weights_are_left_in_the_model(
    training: dict[str, str], best: int, kept: int, checkpoint: Checkpoint, multi_label_corpus: Path
) -> None:
    values = iter([{"macro_f1": 0.1, "loss": 1.0}, {"macro_f1": 0.3, "loss": 3.0}, {"macro_f1": 0.2, "loss": 2.0}])
    run = trained(
        checkpoint("bert"),
        multi_label_corpus,
        rows=16,
        metric=lambda _: next(values),
        training={"epochs": 3, **training},
    )
    assert run.fitted.best_epoch == best
    assert_same(copy_of(run.model), run.seen.weights[kept - 1])
    assert len(differ(run.seen.weights[0], run.seen.weights[1])) > 20


def test_the_average_of_the_weights_is_scored_and_kept(checkpoint: Checkpoint, multi_label_corpus: Path) -> None:
    logits: list[Floats] = []

    def metric(seen: Floats) -> dict[str, float]:
        logits.append(seen.copy())
        return {"macro_f1": float(len(logits))}

    steps: list[dict[str, Tensor]] = []
    run = prepared(
        checkpoint("bert"),
        multi_label_corpus,
        rows=40,
        metric=metric,
        then=lambda _: steps.append(copy_of(run.trainer.core)),
        training={"ema": 0.4},
    )
    run.trainer.fit()
    expected = run.start
    for i, weights in enumerate(steps, start=1):
        decay = min(0.4, (1 + i) / (10 + i))
        expected = {n: decay * expected[n] + (1 - decay) * w for n, w in weights.items()}
    model = run.trainer.core
    assert_same(copy_of(model), expected, rtol=1e-4, atol=1e-6)
    assert len(differ(copy_of(model), steps[-1])) > 20
    ids, mask = run.trainer.valid.encoded.padded(np.arange(40), run.trainer.pad_id)
    with torch.no_grad():
        again = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits
    np.testing.assert_allclose(logits[-1], again, atol=1e-5)


# --- what goes wrong ---------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_names_its_rows(checkpoint: Checkpoint, multi_label_corpus: Path) -> None:
    run = prepared(checkpoint("bert"), multi_label_corpus)
    with torch.no_grad():
        run.model.classifier.bias.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"the loss is nan in epoch 1, step 1.* and 4 more\n") as caught:
        run.trainer.fit()
    assert caught.value.message.count("train.csv:") == 4
    assert "optimizer.lr" in str(caught.value)
    assert not run.seen.steps


def test_an_absurd_rate_is_found_out(checkpoint: Checkpoint, multi_label_corpus: Path) -> None:
    with pytest.raises(TrainingError, match=r"in epoch 1, step 2, in the batch of"):
        trained(checkpoint("bert"), multi_label_corpus, optimizer={"lr": 1e30, "head_lr": 1e30, "warmup": 0.0})


def test_a_model_broken_by_its_last_step_is_not_kept(checkpoint: Checkpoint, multi_label_corpus: Path) -> None:
    rate = {"lr": 1e30, "head_lr": 1e30, "warmup": 0.0}
    with pytest.raises(TrainingError, match="validation logits after epoch 1 are not finite"):
        trained(checkpoint("bert"), multi_label_corpus, rows=8, training={"epochs": 1}, optimizer=rate)


# --- too little memory -------------------------------------------------------------------------------------------


def limited(run: Run, rows: int, error: type[RuntimeError] = torch.OutOfMemoryError, words: str = "CUDA") -> list[int]:
    """Have the model run out of memory at more texts, after it drew random numbers; the sizes that it was asked for."""
    forward, asked = run.trainer.model.forward, []

    def exhausted(**inputs: Any) -> Any:
        asked.append(len(inputs["input_ids"]))
        out = forward(**inputs)
        if asked[-1] > rows and torch.is_grad_enabled():
            raise error(words)
        return out

    run.trainer.model.forward = exhausted
    return asked


SMALL = {"rows": 45, "training": {"accumulation": 2, "epochs": 1}, "model": {"dropout": 0.1}}


@pytest.mark.parametrize(
    ("error", "words"),
    [(torch.OutOfMemoryError, "CUDA"), (RuntimeError, "MPS backend out of memory (MPS allocated: 9 GB)")],
)
def test_out_of_memory_the_step_is_repeated_in_smaller_pieces(
    error: type[RuntimeError], words: str, checkpoint: Checkpoint, multi_label_corpus: Path
) -> None:
    run = prepared(checkpoint("bert"), multi_label_corpus, **SMALL)
    asked = limited(run, 2, error, words)
    run.trainer.fit()
    assert asked[:4] == [8, 4, 2, 2]
    assert max(asked[2:20]) == 2
    assert [message.partition(" and")[0] for message in run.seen.trouble] == [
        "out of memory at 8 texts at a time: continuing with 4",
        "out of memory at 4 texts at a time: continuing with 2",
    ]
    small = prepared(checkpoint("bert"), multi_label_corpus, **SMALL)
    small.trainer.progress.parts = 4
    small.trainer.fit()
    assert [s.examples for s in run.seen.steps] == [s.examples for s in small.seen.steps] == [16, 16, 13]
    assert_same(copy_of(run.trainer.core), copy_of(small.trainer.core))


def test_what_was_left_of_the_failed_attempt_is_not_in_the_gradient(
    checkpoint: Checkpoint, multi_label_corpus: Path
) -> None:
    once = {"rows": 45, "training": {"accumulation": 4, "epochs": 1, "keep": "last"}, "optimizer": SMOOTH}
    whole = trained(checkpoint("bert"), multi_label_corpus, **once)
    run = prepared(checkpoint("bert"), multi_label_corpus, **once)
    forward, calls = run.trainer.model.forward, []

    def third_fails(**inputs: Any) -> Any:
        calls.append(0)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA")
        return forward(**inputs)

    run.trainer.model.forward = third_fails
    run.trainer.fit()
    assert_same(copy_of(run.trainer.core), copy_of(whole.model), rtol=1e-5, atol=1e-6)


def test_out_of_memory_in_scoring_the_batch_is_halved(checkpoint: Checkpoint, multi_label_corpus: Path) -> None:
    seen: list[list[Floats]] = [[], []]
    for logits, limit in zip(seen, (40, 7), strict=True):

        def metric(found: Floats, logits: list[Floats] = logits) -> dict[str, float]:
            logits.append(found)
            return {"macro_f1": 0.5}

        run = prepared(checkpoint("bert"), multi_label_corpus, metric=metric, **SMALL)
        forward = run.trainer.core.forward

        def limited_scoring(forward: Any = forward, limit: int = limit, **inputs: Any) -> Any:
            if torch.is_inference_mode_enabled() and len(inputs["input_ids"]) > limit:
                raise torch.OutOfMemoryError("CUDA")
            return forward(**inputs)

        run.trainer.core.forward = limited_scoring
        run.trainer.fit()
    np.testing.assert_allclose(seen[0], seen[1], atol=1e-5)


def test_too_little_memory_for_one_text_is_said(checkpoint: Checkpoint, multi_label_corpus: Path) -> None:
    run = prepared(checkpoint("bert"), multi_label_corpus, **SMALL)
    limited(run, 0)
    with pytest.raises(TrainingError, match=r"out of memory at 1 texts at a time\n.*model.max_length"):
        run.trainer.fit()
    assert not run.seen.steps


def test_other_failures_are_not_taken_for_it(checkpoint: Checkpoint, multi_label_corpus: Path) -> None:
    run = prepared(checkpoint("bert"), multi_label_corpus, **SMALL)
    limited(run, 0, RuntimeError, "shapes do not match")
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run.trainer.fit()
    assert not run.seen.trouble


# --- time --------------------------------------------------------------------------------------------------------


def test_the_time_of_a_training_is_that_of_building_scoring_and_former_processes_too(
    checkpoint: Checkpoint, multi_label_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_000.0]

    def clock() -> float:
        now[0] += 1e-6  # a step takes some time
        return now[0]

    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=clock))

    def metric(_: Floats) -> dict[str, float]:
        now[0] += 50
        return {"macro_f1": 0.5, "loss": 0.5}

    def stepped(_: int) -> None:
        now[0] += 1

    def fitted(*, resume: bool) -> Fitted:
        run = prepared(checkpoint("bert"), multi_label_corpus, rows=40, metric=metric, then=stepped)
        files = Checkpoints(tmp_path / "checkpoints", {}, every_steps=1, every_minutes=None)
        now[0] += 7  # of building the model
        if resume:
            found = checkpoint_files.newest(tmp_path / "checkpoints")
            assert found is not None
            run.trainer.resume_from(found)
        return run.trainer.fit(files)

    whole = fitted(resume=False)
    steps = 2 * math.ceil(40 / BATCH)
    expected = pytest.approx(7 + steps + 2 * 50, abs=0.01)
    assert whole.seconds == expected
    assert fitted(resume=True).seconds == expected  # nothing was left to do
    for path in sorted((tmp_path / "checkpoints").iterdir())[1:]:
        shutil.rmtree(path)
    assert fitted(resume=True).seconds == expected  # its last step again, and no second building


def test_a_checkpoint_that_does_not_tell_the_time_gives_that_of_its_steps() -> None:
    progress = Progress(seconds=2.0)
    progress.fitted.epochs.append(EpochReport(1, 0.5, {}, True, 3.0, 1.0))
    kept = asdict(progress)
    assert kept.pop("spent") == 0
    assert Progress.from_json(kept).spent == 5


# --- interrupts --------------------------------------------------------------------------------------------------


def control_c(at: int, times: int = 1) -> Callable[[int], None]:
    def then(step: int) -> None:
        for _ in range(times if step == at else 0):
            os.kill(os.getpid(), signal.SIGINT)

    return then


def test_an_interrupt_leaves_the_best_weights(checkpoint: Checkpoint, multi_label_corpus: Path) -> None:
    metric = scripted(0.5, 0.4)
    run = trained(
        checkpoint("bert"), multi_label_corpus, rows=40, metric=metric, then=control_c(12), training={"epochs": 4}
    )
    assert run.fitted.interrupted
    assert [s.step for s in run.seen.steps] == list(range(1, 13))
    assert [e.epoch for e in run.fitted.epochs] == [1, 2]
    assert run.fitted.best_epoch == 1
    assert_same(copy_of(run.model), run.seen.weights[0])


def test_an_interrupt_in_the_first_epoch_leaves_the_latest_weights(
    checkpoint: Checkpoint, multi_label_corpus: Path
) -> None:
    latest: list[dict[str, Tensor]] = []

    def then(step: int) -> None:
        latest.append(copy_of(run.trainer.core))
        control_c(2)(step)

    run = prepared(checkpoint("bert"), multi_label_corpus, rows=40, then=then)
    fitted = run.trainer.fit()
    assert fitted.interrupted
    assert fitted.epochs == []
    assert len(latest) == 2
    assert_same(copy_of(run.trainer.core), latest[-1])


def test_a_second_interrupt_stops_at_once(checkpoint: Checkpoint, multi_label_corpus: Path) -> None:
    run = prepared(checkpoint("bert"), multi_label_corpus, then=control_c(1, times=2))
    with pytest.raises(KeyboardInterrupt):
        run.trainer.fit()
    assert len(run.seen.steps) == 1


def test_an_interrupt_in_the_last_step_is_told_though_the_training_is_whole(
    checkpoint: Checkpoint, multi_label_corpus: Path
) -> None:
    run = prepared(
        checkpoint("bert"), multi_label_corpus, rows=40, then=lambda step: control_c(run.trainer.num_steps)(step)
    )
    fitted = run.trainer.fit()
    assert (fitted.interrupted, fitted.stop_requested) == (False, True)
    assert len(fitted.epochs) == 2


def test_an_interrupt_goes_before_an_observer_that_has_seen_enough(
    checkpoint: Checkpoint, multi_label_corpus: Path
) -> None:
    def then(step: int) -> None:
        control_c(1)(step)
        raise EndedByObserverError

    with pytest.raises(KeyboardInterrupt):
        prepared(checkpoint("bert"), multi_label_corpus, then=then).trainer.fit()
    with pytest.raises(EndedByObserverError):
        prepared(checkpoint("bert"), multi_label_corpus, then=lambda _: then(0)).trainer.fit()


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[Any] = []

    def work() -> None:
        with Interrupt() as interrupt:
            seen.append((signal.getsignal(signal.SIGINT), interrupt.requested))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False)]


# --- several processes -------------------------------------------------------------------------------------------


def work_as_one_of(
    rank: int, world: int, port: int, source: Path, corpus: Path, out: Path, stop_at: int, resume: bool
) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()}
    then = control_c(stop_at) if rank == 1 else lambda _: None
    run = prepared(source, corpus, **shared_work(), then=then)
    assert run.trainer.accelerator.num_processes == world
    if resume:
        found = checkpoint_files.newest(out / "checkpoints")
        assert found is not None
        run.trainer.resume_from(found)
    fitted = run.trainer.fit(Checkpoints(out / "checkpoints", {}, every_steps=2, every_minutes=None))
    assert fitted.interrupted == (stop_at > 0)
    assert len(run.seen.steps) == (stop_at or (2 if resume else 2 * 3))
    save_file(copy_of(run.trainer.core), out / f"{rank}.safetensors")
    torch.distributed.destroy_process_group()


def together(source: Path, corpus: Path, out: Path, *, stop_at: int = 0, resume: bool = False) -> dict[str, Tensor]:
    """The weights of two processes, which have the same."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out.mkdir(exist_ok=True)
    torch.multiprocessing.spawn(work_as_one_of, args=(2, port, source, corpus, out, stop_at, resume), nprocs=2)
    both = [load_file(out / f"{rank}.safetensors") for rank in range(2)]
    assert_same(both[1], both[0])
    return both[0]


def shared_work() -> dict[str, Any]:
    """41 rows: the last batch has one row, so that one of two processes has none."""
    training = {"batch_size": BATCH, "accumulation": 2, "keep": "last"}
    return {"rows": 41, "training": training, "model": {"freeze_epochs": 1, "dropout": 0.0}, "optimizer": SMOOTH}


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [0, 4])
def test_two_processes_give_the_weights_of_one(
    stop_at: int, checkpoint: Checkpoint, multi_label_corpus: Path, tmp_path: Path
) -> None:
    source = checkpoint("bert")
    one = trained(source, multi_label_corpus, **shared_work(), then=control_c(stop_at))
    two = together(source, multi_label_corpus, tmp_path / "two", stop_at=stop_at)
    expected = copy_of(one.model)
    difference = torch.cat([(two[name] - expected[name]).flatten() for name in expected])
    assert difference.norm() <= 1e-6 * torch.cat([w.flatten() for w in expected.values()]).norm()
    assert len(differ(two, one.start)) > (1 if stop_at else 20)


@pytest.mark.slow
def test_two_processes_go_on_to_the_same_bytes(
    checkpoint: Checkpoint, multi_label_corpus: Path, tmp_path: Path
) -> None:
    source, folder = checkpoint("bert"), tmp_path / "stopped"
    whole = together(source, multi_label_corpus, tmp_path / "whole")
    together(source, multi_label_corpus, folder, stop_at=4)
    assert_same(together(source, multi_label_corpus, folder, resume=True), whole)
