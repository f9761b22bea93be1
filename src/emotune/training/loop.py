"""The training loop.

    batches of like length → logits → summed loss / examples of the step → gradient → clip → optimizer → schedule
    (of several processes, each computes the gradient of its rows; the sum of them is that of one process)
    after each epoch: validation logits → thresholds tuned out of fold → metric → keep the weights or not
    at intervals, and after each epoch: a checkpoint

It gets token ids and targets, not files, and reports to an observer.
"""

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedModel

from emotune.config.schema import Config
from emotune.data.tokens import Encoded, batches_by_length, shuffled_buckets
from emotune.errors import TrainingError
from emotune.labels import Task
from emotune.models import cpu_shortcuts
from emotune.models import encoder as encoders
from emotune.models.losses import make_loss
from emotune.models.scoring import give_back
from emotune.training import device, processes
from emotune.training.checkpoint import Checkpoint, Checkpoints
from emotune.training.optim import MovingAverage, TrainState, forget_tiny, make_optimizer, make_schedule
from emotune.training.progress import (
    Examples,
    Fitted,
    Floats32,
    Interrupt,
    Ints,
    Metric,
    Observer,
    Progress,
    StepReport,
)

_STEPS_BETWEEN_TRIMS = 50
_NOT_FINITE = "Lower the rate (--set optimizer.lr=…), or train in fp32 (--set training.precision=fp32)."


class Trainer:
    """Trains one model in place. `metric` computes metrics by name from validation logits (n, labels)."""

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
        started: float | None = None,
    ) -> None:
        """started: when the training time starts, by `time.perf_counter`; None: now."""
        self._counted = time.perf_counter() if started is None else started
        self.config, self.train, self.valid, self.observer = config, train, valid, observer
        self.metric, self.pad_id, self.accelerator = metric, pad_id, accelerator
        self.core = model
        self.rng = np.random.default_rng(config.training.seed)
        encoders.freeze(model, config.network)
        model.to(accelerator.device)
        self.loss = make_loss(config.loss, task, train.targets, accelerator.device)
        self.average = MovingAverage(model, config.training.ema) if config.training.ema else None
        processes.send_weights(model)
        if not processes.is_first():  # dropout masks of its own
            torch.manual_seed(config.training.seed + processes.rank())
        # "evaluation" leaves out DistributedDataParallel: this loop itself adds up the gradients. No placement: on CPUs
        # it would copy the parameters, and the moving average would follow those that are no longer trained
        self.model = accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
        self.optimizer = accelerator.prepare_optimizer(make_optimizer(model, config.optimizer))
        if accelerator.scaler:  # it starts with the first loss, which a process without rows does not have
            accelerator.scaler.scale(torch.zeros((), device=accelerator.device))
        self.trained = [p for p in model.parameters() if p.requires_grad]
        training = config.training
        steps = training.epochs * math.ceil(len(train.encoded) / (training.batch_size * training.accumulation))
        self.num_steps = steps if training.max_steps is None else min(steps, training.max_steps)
        self.schedule = make_schedule(self.optimizer.optimizer, config.optimizer, self.num_steps)
        self.train_state = TrainState(model, self.optimizer.optimizer, self.schedule, self.average, accelerator)
        self.progress = Progress()
        self.epoch_rng = self.rng.bit_generator.state
        self.kept: dict[str, Tensor] | None = None
        self.checkpoints: Checkpoints | None = None

    @property
    def fitted(self) -> Fitted:
        """The epochs so far, and how the training ended."""
        return self.progress.fitted

    @property
    def kept_epoch(self) -> int:
        """The epoch whose weights are kept so far; 0 before the end of the first."""
        return self.fitted.best_epoch if self.config.training.keep == "best" else len(self.fitted.epochs)

    def fit(self, checkpoints: Checkpoints | None = None) -> Fitted:
        """Train until the last epoch or step, until the metric stops improving, or until Ctrl-C.

        Raises TrainingError when the loss (the rows of its batch are named) or a validation logit is not finite, and
        OutputError when a checkpoint cannot be written.
        """
        self.checkpoints = checkpoints
        fitted = self.fitted
        device.keep_freed()
        with ExitStack() as stack:
            interrupt = stack.enter_context(Interrupt())
            stack.enter_context(cpu_shortcuts.applied(self.core, self.accelerator.device))
            while self.progress.step < self.num_steps and not (fitted.stopped or fitted.interrupted):
                fitted.interrupted = self._epoch(interrupt)
        fitted.stop_requested = interrupt.requested
        # load the weights to keep: those of the kept epoch, or the latest without one
        state = self.kept if self.kept is not None else self._snapshot()
        self.core = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        self.core.load_state_dict(state, strict=False)
        self.core.to("cpu").eval()
        self._count_time()
        fitted.seconds = self.progress.spent
        return fitted

    def resume_from(self, checkpoint: Checkpoint | None) -> None:
        """Restore the state of the training that wrote the checkpoint, so that the next step is the same.

        All processes take that of the first, which alone may see the run directory: None in the others.
        """
        with processes.together():
            state, tensors, kept = None, None, None
            if checkpoint is not None and processes.is_first():
                state, tensors, kept = checkpoint.state, checkpoint.tensors(), checkpoint.kept()
        state, tensors = processes.from_first(state), processes.tensors_from_first(tensors)
        assert state is not None, "the first process has a checkpoint"
        assert tensors is not None
        self.train_state.restore(tensors, state)
        self.rng.bit_generator.state = state["epoch_rng"]
        self.progress = Progress.from_json(state["progress"])
        self.kept = processes.tensors_from_first(kept)
        self._counted = time.perf_counter()  # the time to build the model is in the checkpoint

    def _count_time(self) -> None:
        """Add the time until now to the time of the training."""
        now = time.perf_counter()
        self.progress.spent += now - self._counted
        self._counted = now

    def _epoch(self, interrupt: Interrupt) -> bool:
        """Train the rest of the current epoch and score it; return whether it was interrupted."""
        now = self.progress
        # the whole encoder is frozen in the first `freeze_epochs`
        frozen = now.epoch <= self.config.network.freeze_epochs
        head = {id(p) for _, p in encoders.head_parameters(self.core)}
        for parameter in self.trained:
            parameter.requires_grad_(not frozen or id(parameter) in head)
        self.model.train()
        self.epoch_rng = self.rng.bit_generator.state  # a resumed run makes the same batches from it
        batches = shuffled_buckets(self.train.encoded.lengths, self.config.training.batch_size, self.rng)
        size = self.config.training.accumulation
        windows = [batches[i : i + size] for i in range(0, len(batches), size)]
        start = now.step - now.step_in_epoch
        for window in windows[now.step_in_epoch : self.num_steps - start]:
            started = time.perf_counter()
            report = self._step(now.epoch, window)
            now.count(report, time.perf_counter() - started)
            self.observer.on_step(report)
            if now.step_in_epoch == len(windows) or now.step == self.num_steps:
                continue  # the epoch is scored before its last checkpoint
            due = self.checkpoints is not None and self.checkpoints.is_due(now.step)
            stop, due = processes.agree(interrupt.requested, processes.is_first() and due)  # by its clock
            if stop or due:
                self._write_checkpoint()
            if stop:
                return True
        self._score()
        over = now.step == self.num_steps or now.fitted.stopped is not None
        return processes.agree(interrupt.requested)[0] and not over

    def _score(self) -> None:
        """End the epoch: validation metrics, the weights to keep, a checkpoint."""
        self.model.eval()
        with self.average.in_place() if self.average else nullcontext():
            logits = logits_of(self.core, self.valid, self.pad_id, self.accelerator)
        if not np.isfinite(logits).all():
            message = f"the validation logits after epoch {self.progress.epoch} are not finite"
            raise TrainingError(message, hint=_NOT_FINITE)
        with processes.together():
            metrics = self.metric(logits) if processes.is_first() else None
        report = self.progress.end_epoch(processes.from_first(metrics), self.config.training)
        if report.best or self.config.training.keep == "last":
            self.kept = self._snapshot()
        self.observer.on_epoch(report)
        self.epoch_rng = self.rng.bit_generator.state
        due = self.checkpoints is not None and self.checkpoints.is_due_after_epoch()
        if processes.agree(processes.is_first() and due)[0]:
            self._write_checkpoint()

    def _write_checkpoint(self) -> None:
        if self.checkpoints is None:
            return
        tensors = self.train_state.tensors()  # in all processes
        self._count_time()
        if processes.is_first():
            state = self.train_state.numbers() | {"progress": asdict(self.progress), "epoch_rng": self.epoch_rng}
            self.checkpoints.write(state, tensors, self.kept, self.kept_epoch)

    def _step(self, epoch: int, window: Sequence[Ints]) -> StepReport:
        """Take one optimizer step over a window of batches, as if they were one batch."""
        examples = sum(len(batch) for batch in window)
        with processes.together():
            loss = self._gradient(epoch, window, examples)
        loss = processes.add_up_gradients([p for p in self.trained if p.requires_grad], loss)
        norm, limit = None, self.config.optimizer.clip_norm
        if limit is not None:
            norm = self._clip(limit)
        rate = float(self.schedule.get_last_lr()[0])
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update()
        step = self.progress.step + 1
        if step % _STEPS_BETWEEN_TRIMS == 0:
            give_back()
            forget_tiny(self.optimizer.optimizer)
        return StepReport(epoch, step, self.num_steps, loss / examples, rate, norm, examples)

    def _clip(self, limit: float) -> float:
        """Limit the norm of the gradient, and return it; a smaller gradient is not even multiplied by 1."""
        self.accelerator.unscale_gradients()
        gradients = [p.grad.flatten() for p in self.trained if p.grad is not None]
        if self.accelerator.device.type == "cpu":  # there, a dot product is four times faster than a norm
            norm = torch.stack([gradient.dot(gradient) for gradient in gradients]).sum().sqrt()
        else:
            norm = nn.utils.get_total_norm(gradients)
        if not norm <= limit:
            nn.utils.clip_grads_with_norm_(self.trained, limit, norm)
        return float(norm)

    def _gradient(self, epoch: int, window: Sequence[Ints], examples: int) -> float:
        """Compute this process's part of the gradient of the mean loss, and return its part of the sum of the loss.

        Its rows are every n-th of each batch, so that all n processes have texts of like length. When the device runs
        out of memory, repeat it with the same random numbers in pieces half as large.
        """
        generators = device.capture(self.accelerator.device)
        own = [batch[processes.rank() :: processes.count()] for batch in window]
        while True:
            parts = self.progress.parts  # of similar size, at most one a row
            pieces = [piece for rows in own if len(rows) for piece in np.array_split(rows, min(parts, len(rows)))]
            try:
                return self._backward(epoch, pieces, examples)
            except RuntimeError as error:
                if not device.is_exhausted(error):
                    raise
                self._halve(max(map(len, pieces)))
            device.release()
            self.optimizer.zero_grad(set_to_none=True)
            device.restore(generators, self.accelerator.device)

    def _backward(self, epoch: int, pieces: Sequence[Ints], examples: int) -> float:
        loss_sum = 0.0
        for rows in pieces:
            targets = torch.from_numpy(self.train.targets[rows]).to(self.accelerator.device)
            inputs = model_inputs(self.train.encoded, rows, self.pad_id, self.accelerator.device)
            loss = self.loss(self.model(**inputs).logits.float(), targets)
            self.accelerator.backward(loss * (1.0 / examples))
            piece_loss = float(loss.detach())
            if not math.isfinite(piece_loss):
                places = ", ".join(self.train.place(int(row)) for row in rows[:4])
                more = f" and {len(rows) - 4} more" if len(rows) > 4 else ""
                where = f"in epoch {epoch}, step {self.progress.step + 1}, in the batch of {places}{more}"
                raise TrainingError(f"the loss is {piece_loss} {where}", hint=_NOT_FINITE)
            loss_sum += piece_loss
        return loss_sum

    def _halve(self, rows: int) -> None:
        """Compute batches in pieces half as large from now on; raises TrainingError when that cannot help."""
        if rows == 1:
            hint = "Lower training.batch_size and raise training.accumulation by as much, or lower model.max_length."
            raise TrainingError(f"the device ran out of memory at {rows} texts at a time", hint=hint)
        self.progress.parts *= 2
        self.observer.warn(
            f"out of memory at {rows} texts at a time: continuing with {math.ceil(rows / 2)} and twice the "
            "accumulation, which leaves each step the same"
        )

    def _snapshot(self) -> dict[str, Tensor]:
        with self.average.in_place() if self.average else nullcontext():
            return {name: value.detach().clone() for name, value in self.train_state.weights().items()}


_SCORING_BATCH = 128


def model_inputs(encoded: Encoded, rows: Ints, pad_id: int, device: torch.device) -> dict[str, Tensor | None]:
    """Return token ids and mask of the rows, each of shape (rows, longest)."""
    ids, mask = encoded.padded(rows, pad_id)
    # attention is faster without a mask, which is not needed where nothing is padded
    attention_mask = None if mask.all() else torch.from_numpy(mask).to(device)
    return {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": attention_mask}


def logits_of(model: PreTrainedModel, examples: Examples, pad_id: int, accelerator: Accelerator) -> Floats32:
    """Return logits in the training precision, shape (n, labels), the same in every process; each computes its share.

    Raises what scoring raises, in all processes.
    """
    target, encoded = accelerator.device, examples.encoded
    out = torch.zeros((len(encoded), examples.targets.shape[1]), device=target)
    batches = list(batches_by_length(encoded.lengths, _SCORING_BATCH))
    with processes.together(), torch.inference_mode():
        for rows in batches[processes.rank() :: processes.count()]:
            out[torch.from_numpy(rows).to(target)] = _logits(model, encoded, rows, pad_id, target)
    processes.add_up(out)
    give_back()  # otherwise the next epoch's peak adds to what this pass left
    return out.cpu().numpy()


def _logits(model: PreTrainedModel, encoded: Encoded, rows: Ints, pad_id: int, target: torch.device) -> Tensor:
    """Return the logits of a batch, shape (rows, labels); when out of memory, computed in halves."""
    try:
        return model(**model_inputs(encoded, rows, pad_id, target)).logits.float()  # type: ignore[no-any-return]
    except RuntimeError as error:
        if len(rows) == 1 or not device.is_exhausted(error):
            raise
    device.release()
    half = len(rows) // 2
    return torch.cat([_logits(model, encoded, part, pad_id, target) for part in (rows[:half], rows[half:])])
