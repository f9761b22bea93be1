"""The training loop.

    batches of like length → logits → summed loss / examples of the step → gradient → clip → AdamW → schedule
    after each epoch: validation logits → thresholds tuned out of fold → metric → keep the weights or not

Knows nothing of files: it is given token ids and targets, and tells an observer what happens.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor
from transformers import PreTrainedModel

from emotune.config import Config
from emotune.data.encoding import Encoded, batches_by_length, shuffled_buckets
from emotune.errors import TrainingError
from emotune.labels import Task
from emotune.models import encoder as encoders
from emotune.models import shortcuts
from emotune.models.losses import make_loss
from emotune.training import memory
from emotune.training.interrupt import Interrupt
from emotune.training.optim import MovingAverage, make_optimizer, make_schedule

Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Metric = Callable[[Floats32], dict[str, float]]
_SCORING_BATCH = 128
_STEPS_BETWEEN_TRIMS = 50
_NOT_FINITE = "Lower the rate (--set optimizer.lr=…), or train in fp32 (--set training.precision=fp32)."


@dataclass(frozen=True)
class Examples:
    """Token ids and 0/1 targets (n, labels) of n texts; `place` says where row i comes from."""

    encoded: Encoded
    targets: Floats32
    place: Callable[[int], str]


@dataclass(frozen=True)
class StepReport:
    """One optimizer step: `loss` is the mean over its examples, `rate` the encoder's (all frozen: the head's)."""

    epoch: int
    step: int
    num_steps: int
    loss: float
    rate: float
    grad_norm: float | None
    examples: int


@dataclass(frozen=True)
class EpochReport:
    """One epoch (from 1): mean training loss, validation metrics, and whether it is the best so far."""

    epoch: int
    loss: float
    metrics: dict[str, float]
    best: bool
    seconds: float
    examples_per_second: float


class Observer(Protocol):
    """What is told of a run while it goes on."""

    def on_step(self, report: StepReport) -> None: ...

    def on_epoch(self, report: EpochReport) -> None: ...


@dataclass
class Fitted:
    """How a run ended; the model holds the weights that it was run for."""

    epochs: list[EpochReport] = field(default_factory=list)
    best_epoch: int = 0
    stopped: str | None = None
    interrupted: bool = False


class Trainer:
    """Fits one model in place. `metric` turns validation logits (n, labels) into numbers by name."""

    def __init__(
        self,
        model: PreTrainedModel,
        train: Examples,
        valid: Examples,
        config: Config,
        *,
        accelerator: Accelerator,
        metric: Metric,
        pad_id: int,
        task: Task,
        observer: Observer,
    ) -> None:
        self.config, self.train, self.valid, self.observer = config, train, valid, observer
        self.metric, self.pad_id, self.accelerator = metric, pad_id, accelerator
        self.core = model
        self.rng = np.random.default_rng(config.training.seed)
        encoders.freeze(model, config.model)
        model.to(accelerator.device)
        self.loss = make_loss(config.loss, task, train.targets, accelerator.device)
        self.average = MovingAverage(model, config.training.ema) if config.training.ema else None
        if config.model.freeze_epochs:  # several processes would wait for the gradients of the frozen parameters
            accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
        self.model, self.optimizer = accelerator.prepare(model, make_optimizer(model, config.optimizer))
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.steps_per_epoch = math.ceil(len(train.encoded) / (self._global_batch * config.training.accumulation))
        self.num_steps = self.steps_per_epoch * config.training.epochs
        self.schedule = make_schedule(self.optimizer.optimizer, config.optimizer, self.num_steps)
        self.step = 0

    @property
    def _global_batch(self) -> int:
        return self.config.training.batch_size * int(self.accelerator.num_processes)

    def fit(self) -> Fitted:
        """Train until the last epoch, until the metric stops growing, or until Ctrl-C.

        Raises TrainingError when the loss (the rows of its batch are named) or a validation logit is not finite.
        """
        fitted = Fitted()
        kept: dict[str, Tensor] | None = None
        with ExitStack() as stack:
            interrupt = stack.enter_context(Interrupt())
            stack.enter_context(shortcuts.applied(self.core, self.accelerator.device))
            for epoch in range(1, self.config.training.epochs + 1):
                self._thaw(epoch)
                report = self._epoch(epoch, interrupt, fitted)
                if report is None:
                    fitted.interrupted = True
                    break
                fitted.epochs.append(report)
                if report.best:
                    fitted.best_epoch = epoch
                if report.best or self.config.training.keep == "last":
                    kept = self._snapshot()
                self.observer.on_epoch(report)
                if self._out_of_patience(fitted, epoch):
                    fitted.stopped = (
                        f"no better {self.config.training.metric} for {self.config.training.patience} epochs"
                    )
                    break
        self._finish(kept)
        return fitted

    def _epoch(self, epoch: int, interrupt: Interrupt, fitted: Fitted) -> EpochReport | None:
        """Train one epoch and score it; None when it was interrupted."""
        start = time.perf_counter()
        self.model.train()
        batches = shuffled_buckets(self.train.encoded.lengths, self._global_batch, self.rng)
        loss_sum, seen = 0.0, 0
        for window in _windows(batches, self.config.training.accumulation):
            report = self._step(epoch, window)
            loss_sum, seen = loss_sum + report.loss * report.examples, seen + report.examples
            self.observer.on_step(report)
            if self._is_requested(interrupt):
                return None
        seconds = time.perf_counter() - start
        with self.average.in_place() if self.average else nullcontext():
            logits = self._valid_logits()
        if not np.isfinite(logits).all():
            raise TrainingError(f"the validation logits after epoch {epoch} are not finite", hint=_NOT_FINITE)
        metrics = self.metric(logits)
        best = self._is_better(metrics, fitted)
        return EpochReport(epoch, loss_sum / seen, metrics, best, seconds, seen / seconds)

    def _is_requested(self, interrupt: Interrupt) -> bool:
        """Whether any process was asked to stop: all of them leave after the same step."""
        if self.accelerator.num_processes == 1:
            return interrupt.requested
        asked = torch.tensor(float(interrupt.requested), device=self.accelerator.device)
        return bool(self.accelerator.reduce(asked, reduction="sum") > 0)

    def _step(self, epoch: int, window: Sequence[Ints]) -> StepReport:
        """One optimizer step over a window of batches, as if they were one batch."""
        examples = sum(len(batch) for batch in window)
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        loss_sum = 0.0
        for i, batch in enumerate(window):
            rows = batch[rank::world]
            share = 1.0 if len(rows) else 0.0  # a process without rows still takes part in the exchange of gradients
            rows = rows if len(rows) else batch[:1]
            targets = torch.from_numpy(self.train.targets[rows]).to(self.accelerator.device)
            last = i == len(window) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                logits = self.model(**self._inputs(self.train.encoded, rows)).logits
                loss = self.loss(logits.float(), targets) * share
                # gradients are averaged over processes: world / examples makes that the mean over the step's examples
                self.accelerator.backward(loss * (world / examples))
            batch_loss = float(loss.detach())
            if not math.isfinite(batch_loss):
                raise self._not_finite(epoch, batch_loss, rows)
            loss_sum += batch_loss
        norm = self._clip()
        rate = float(self.schedule.get_last_lr()[0])
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update()
        self.step += 1
        if self.step % _STEPS_BETWEEN_TRIMS == 0:
            memory.give_back()
        return StepReport(epoch, self.step, self.num_steps, loss_sum * world / examples, rate, norm, examples)

    def _clip(self) -> float | None:
        limit = self.config.optimizer.clip_norm
        if limit is None:
            return None
        norm = self.accelerator.clip_grad_norm_(self.trained, limit)
        return None if norm is None else float(norm)

    def _inputs(self, encoded: Encoded, rows: Ints) -> dict[str, Tensor | None]:
        """Token ids and mask of the rows, each of shape (rows, longest)."""
        ids, mask = encoded.padded(rows, self.pad_id)
        device = self.accelerator.device
        # attention is faster without a mask, and where nothing is padded none is needed
        attention_mask = None if mask.all() else torch.from_numpy(mask).to(device)
        return {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": attention_mask}

    def _not_finite(self, epoch: int, loss: float, rows: Ints) -> TrainingError:
        places = ", ".join(self.train.place(int(row)) for row in rows[:4])
        more = f" and {len(rows) - 4} more" if len(rows) > 4 else ""
        return TrainingError(
            f"the loss is {loss} in epoch {epoch}, step {self.step + 1}, in the batch of {places}{more}",
            hint=_NOT_FINITE,
        )

    def _valid_logits(self) -> Floats32:
        """Validation logits in the training precision, shape (n, labels), the same in every process."""
        self.model.eval()
        device, encoded = self.accelerator.device, self.valid.encoded
        out = torch.zeros((len(encoded), self.valid.targets.shape[1]), device=device)
        batches = list(batches_by_length(encoded.lengths, _SCORING_BATCH))
        with torch.inference_mode():
            for rows in batches[self.accelerator.process_index :: self.accelerator.num_processes]:
                # not through the wrapper of several processes, which has all of them run the same number of batches
                logits = self.core(**self._inputs(encoded, rows)).logits
                out[torch.from_numpy(rows).to(device)] = logits.float()
            if self.accelerator.num_processes > 1:
                out = self.accelerator.reduce(out, reduction="sum")
        memory.give_back()  # or the next epoch's peak comes on top of what this pass left
        return out.cpu().numpy()

    def _is_better(self, metrics: dict[str, float], fitted: Fitted) -> bool:
        name = self.config.training.metric
        sign = -1.0 if name == "loss" else 1.0
        best = max((sign * e.metrics[name] for e in fitted.epochs), default=-math.inf)
        return sign * metrics[name] > best

    def _out_of_patience(self, fitted: Fitted, epoch: int) -> bool:
        patience = self.config.training.patience
        return patience is not None and epoch - fitted.best_epoch >= patience and epoch < self.config.training.epochs

    def _thaw(self, epoch: int) -> None:
        """Freeze the whole encoder in the first `freeze_epochs`."""
        frozen = epoch <= self.config.model.freeze_epochs
        head = {id(p) for _, p in encoders.head_parameters(self.core)}
        for parameter in self.trained:
            parameter.requires_grad_(not frozen or id(parameter) in head)

    def _snapshot(self) -> dict[str, Tensor]:
        with self.average.in_place() if self.average else nullcontext():
            return {name: value.detach().clone() for name, value in self.core.state_dict().items()}

    def _finish(self, kept: dict[str, Tensor] | None) -> None:
        """Leave the weights worth keeping in the model: those of the kept epoch, or the latest when there is none."""
        state = kept if kept is not None else self._snapshot()
        self.core = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self.core.load_state_dict(state)
        self.core.to("cpu").eval()


def _windows(batches: Sequence[Ints], size: int) -> list[Sequence[Ints]]:
    return [batches[i : i + size] for i in range(0, len(batches), size)]


def seed_everything(seed: int) -> None:
    """Seed torch on all devices; everything else here takes its own generator."""
    torch.manual_seed(seed)


def make_accelerator(device: str, precision: str) -> Accelerator:
    """An Accelerator for that device (`cpu`, `cuda`, `cuda:1`, `mps`) and precision (`no`, `bf16`, `fp16`)."""
    chosen = torch.device(device)
    if chosen.type == "cuda" and chosen.index is not None:
        torch.cuda.set_device(chosen)
    # Accelerate keeps its settings for the whole process, and would refuse a second training with others
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=chosen.type == "cpu", mixed_precision=precision)
