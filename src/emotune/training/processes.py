"""The processes of a training, which `torchrun` or `accelerate launch` started; without them, this process alone.

All read the same data, make the same batches and take the same steps. Each computes the gradient of its rows of a step;
the sum is the gradient that one process would compute. Only the first process writes and reports. A failure of one
process ends all of them, and one of them reports it.

Everything but weights and gradients is exchanged between CPUs (gloo), so that a dead process is noticed at once.
"""

import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any

from emotune.errors import EmotuneError, TrainingError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor, nn
    from torch.distributed import Store  # type: ignore[attr-defined]

_TO_CONNECT = timedelta(minutes=10)
_TO_WAIT = timedelta(hours=6)  # for the first process, such as while it saves and tunes a model
_SHARDED = ("DEEPSPEED", "FSDP", "MEGATRON_LM", "PARALLELISM_CONFIG")
_HOW = "Start emotune with: torchrun --nproc-per-node N --module emotune train …"


class PeerError(EmotuneError):
    """Another process failed, and reports why; `exit_code` is that of its error."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("another process of this training failed")
        self.exit_code = exit_code


class _State:
    """The state of this process among the others.

    store: None before it has joined them. ending: it has failed. reporter: of a failure that all know, its reporter.
    """

    store: "Store | None" = None
    ending = False
    reporter: int | None = None


def count() -> int:
    """Return the number of processes, on all machines."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def rank() -> int:
    """Return the number of this process, from 0."""
    return int(os.environ.get("RANK") or 0) if count() > 1 else 0


def is_first() -> bool:
    """Return whether this is the only process, or the first: the one that writes and reports."""
    return rank() == 0


def local_rank() -> int:
    """Return the number of this process among those of its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK") or rank())


# The beginning and the end


@contextmanager
def joined() -> Iterator[None]:
    """Connect the processes while entered. At the end, all wait for the first.

    After a failure, one process raises its error; the others raise SystemExit. Raises UsageError when the environment
    does not describe the processes, or asks for sharded training.
    """
    if count() == 1 or _State.store is not None:
        yield
        return
    _State.store, _State.ending, _State.reporter = _connected(), False, None
    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _on_sigterm) if in_main_thread else None
    try:
        yield
        with together():
            pass
        _destroy_group()
    except BaseException as error:
        _State.ending = True
        if _reports():
            raise
        raise SystemExit(_exit_code(error)) from None
    finally:
        _State.store = None
        if before is not None and not _State.ending:  # else the launcher's SIGTERM would cut the message off
            signal.signal(signal.SIGTERM, before)


def _connected() -> "Store":
    """Return the store that all processes share, with the group of all processes set up."""
    sharded = [name for name in _SHARDED if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true"]
    if sharded:
        message = f"{sharded[0]} splits a model over processes; emotune trains the whole model in each"
        if not is_first():
            raise SystemExit(UsageError.exit_code)  # the first reports it
        raise UsageError(message, hint="Run accelerate config again, without it.")
    import torch
    from torch.distributed import PrefixStore, init_process_group, is_nccl_available  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    _share_cpus()
    backend = "gloo"
    if torch.cuda.is_available() and is_nccl_available():
        backend = "cpu:gloo,cuda:nccl"
        _avoid_direct_exchange()
    try:
        store = next(rendezvous("env://", timeout=_TO_CONNECT))[0]
        attempt = PrefixStore(f"emotune/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        init_process_group(backend, store=attempt, rank=rank(), world_size=count(), timeout=_TO_WAIT)
    except ValueError as error:  # a variable is missing
        raise UsageError(f"WORLD_SIZE is {count()}, but the launcher is missing: {error}", hint=_HOW) from error
    except RuntimeError as error:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        reason = str(error).strip().split("\n")[0]
        message = f"process {rank()} of {count()} cannot connect to the others at {place}: {reason}"
        hint = "The same address and another free port must be given on all machines (--master-addr, --master-port)."
        raise UsageError(message, hint=hint) from error
    return attempt


def _share_cpus() -> None:
    """Give each process its share of the CPUs; torchrun sets one thread each, where OMP_NUM_THREADS is not set."""
    import torch

    from emotune.config.kinds import available_cpus

    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        threads = max(1, available_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE") or count()))
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)  # Accelerate sets the threads otherwise


def _avoid_direct_exchange() -> None:
    """Set the variables without which NCCL fails on some GPUs of consumers, as `accelerate launch` does."""
    from accelerate.utils import check_cuda_p2p_ib_support

    if not check_cuda_p2p_ib_support():
        os.environ.setdefault("NCCL_P2P_DISABLE", "1")
        os.environ.setdefault("NCCL_IB_DISABLE", "1")


def _destroy_group() -> None:
    from torch.distributed import destroy_process_group

    destroy_process_group()


def _reports() -> bool:
    """Return whether this process reports its failure: the first to fail, or the first of those that fail together."""
    if _State.reporter is not None:
        return _State.reporter == rank()
    assert _State.store is not None
    try:
        return int(_State.store.add("failures", 1)) == 1
    except RuntimeError:  # the store was in a process that has ended
        return True


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.exit_code if isinstance(error, EmotuneError) else 1


def _on_sigterm(_number: int, _frame: FrameType | None) -> None:
    """End the process, unless it is ending already; during steps, `Interrupt` takes its place."""
    if not _State.ending:
        _State.ending = True
        raise TrainingError("the launcher ended this process (SIGTERM)", hint="Its report says why.")


# The same decisions everywhere


@contextmanager
def together() -> Iterator[None]:
    """Do something in all processes; what fails in one fails in all: with its error there, PeerError elsewhere."""
    try:
        yield
    except Exception as error:
        with suppress(TrainingError):
            _fail_together(_exit_code(error), -rank())
        raise
    if code := _fail_together(0, -count()):
        raise PeerError(code)


def _fail_together(exit_code: int, reporter: int) -> int:
    """Return the greatest exit code; if it is not 0, the process with the greatest `reporter` reports its error."""
    code, reporter = _greatest([exit_code, reporter])
    if code and _State.reporter is None:
        _State.reporter = -reporter
    return code


def agree(*flags: bool) -> list[bool]:
    """Return for each flag whether it is set in any process, so that all do the same after the same step."""
    return [bool(vote) for vote in _greatest([int(flag) for flag in flags])]


def _greatest(numbers: list[int]) -> list[int]:
    """Return the greatest of each number over all processes."""
    if count() == 1:
        return numbers
    import torch
    from torch.distributed import ReduceOp, all_reduce

    votes = torch.tensor(numbers)
    with _noticing():
        all_reduce(votes, op=ReduceOp.MAX)
    return [int(vote) for vote in votes]


@contextmanager
def _noticing() -> Iterator[None]:
    """Raise TrainingError where an exchange fails because a process has ended."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        _State.ending = True
        hint = (
            "The report of the launcher says which one, and how. To resume from the newest checkpoint: "
            "emotune train --resume RUN, in any number of processes"
        )
        raise TrainingError("another process of this training has ended", hint=hint) from error


def from_first(value: Any) -> Any:
    """Return the value of the first process, of the types of JSON; the values of the others are ignored."""
    if count() == 1:
        return value
    import torch
    from torch.distributed import broadcast

    content = json.dumps(value).encode() if is_first() else b""
    size = torch.tensor([len(content)])
    with _noticing():
        broadcast(size, 0)
        data = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0)
        data = data if is_first() else torch.empty(int(size), dtype=torch.uint8)
        broadcast(data, 0)
    return json.loads(data.numpy().tobytes())


def tensors_from_first(tensors: "Mapping[str, Tensor] | None") -> "dict[str, Tensor] | None":
    """Return the tensors of the first process, on the CPU; None where it has None."""
    if tensors is None or count() == 1:
        found = None if tensors is None else dict(tensors)
    else:
        found = {name: value.cpu().contiguous() for name, value in tensors.items()}
    if count() == 1:
        return found
    import torch

    about = [[n, str(v.dtype).removeprefix("torch."), list(v.shape)] for n, v in (found or {}).items()]
    about = from_first(about if found is not None else None)
    if about is None:
        return None
    if not is_first():
        found = {name: torch.empty(shape, dtype=getattr(torch, dtype)) for name, dtype, shape in about}
    assert found is not None
    _send([found[name] for name, _, _ in about])
    return found


def array_from_first(array: "npt.NDArray[np.float32]") -> "npt.NDArray[np.float32]":
    """Return the array of the first process; those of the others have the same shape."""
    if count() == 1:
        return array
    import torch

    sent = tensors_from_first({"array": torch.from_numpy(array)})
    assert sent is not None
    return sent["array"].numpy()


def send_weights(model: "nn.Module") -> None:
    """Give the model of each process the weights of the first."""
    if count() > 1:
        with together():  # between CPUs, so that no GPU waits for a process that has failed
            values = list(model.state_dict().values())
        sent = [value.contiguous() for value in values]
        _send(sent)
        for value, copy in zip(values, sent, strict=True):
            if copy is not value:
                value.copy_(copy)


def _send(tensors: "Sequence[Tensor]") -> None:
    """Overwrite contiguous tensors with those of the first process."""
    import torch
    from torch.distributed import broadcast

    with _noticing():
        for tensor in tensors:
            if tensor.numel():
                broadcast(tensor.detach().reshape(-1).view(torch.uint8), 0)


# Sums


def add_up(tensor: "Tensor") -> None:
    """Replace the tensor by its sum over all processes, in place."""
    if count() > 1:
        from torch.distributed import all_reduce

        with _noticing():
            all_reduce(tensor)


def add_up_gradients(parameters: "Sequence[nn.Parameter]", loss: float) -> float:
    """Replace the gradients by their sums over all processes; return the sum of the loss.

    A parameter without a gradient in any process keeps none, because its optimizer state must not change.
    """
    if count() == 1:
        return loss
    import torch

    device = parameters[0].device
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    numbers = torch.tensor([loss, *(float(p.grad is not None) for p in parameters)], device=device)
    flat = torch.cat([numbers, *(gradient.reshape(-1) for gradient in gradients)])
    add_up(flat)
    has_gradient = flat[1 : len(numbers)].tolist()
    parts = torch.split(flat[len(numbers) :], [p.numel() for p in parameters])
    for parameter, part, has in zip(parameters, parts, has_gradient, strict=True):
        parameter.grad = part.view_as(parameter) if has else None
    return float(flat[0])


def gathered(tensor: "Tensor") -> "Tensor":
    """Return the tensors of all processes, stacked; the tensor must be on the CPU."""
    if count() == 1:
        return tensor[None]
    import torch
    from torch.distributed import all_gather

    found = [torch.empty_like(tensor) for _ in range(count())]
    with _noticing():
        all_gather(found, tensor.contiguous())
    return torch.stack(found)
