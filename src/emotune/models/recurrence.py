"""A bidirectional LSTM layer over texts of several lengths, in which padding is never read.

`nn.LSTM` keeps the weights and says what is computed. On a CPU its backward pass walks step by step through each
direction in fp32 or through many small casts; `_Layer` computes the same with both directions in one product a step,
in bf16 under autocast, and gradients written out.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

_GATES = 4  # input, forget, cell, output, in the order of nn.LSTM
_aten = torch.ops.aten


def run(layer: nn.LSTM, x: Tensor, lengths: Tensor) -> Tensor:
    """The outputs of both directions side by side; what stands behind a text's end has no meaning.

    layer: of one layer, bidirectional. Shapes: x (tokens, batch, size), lengths (batch,) → (tokens, batch, 2 × hidden).
    """
    if x.device.type == "cpu":
        weights = _weights(layer)
        kept = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *weights))
        out: Tensor = _Layer.apply(kept, x, reversal(len(x), lengths), *weights)  # type: ignore[no-untyped-call]
        return out
    packed = pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
    return pad_packed_sequence(layer(packed)[0], total_length=len(x))[0]


def reversal(tokens: int, lengths: Tensor) -> Tensor:
    """Where each cell of a batch, laid out by tokens, comes from when texts are read from their ends; padding stays.

    Its own inverse. Shapes: (batch,) → (tokens × batch,).
    """
    places = torch.arange(tokens, device=lengths.device)[:, None]
    source = torch.where(places < lengths, lengths - 1 - places, places)
    return (source * len(lengths) + torch.arange(len(lengths), device=lengths.device)).reshape(-1)


def _weights(layer: nn.LSTM) -> list[Tensor]:
    """Input weights, recurrent weights and the two biases, of both directions."""
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return [getattr(layer, f"{name}{direction}") for name in names for direction in ("", "_reverse")]


class _Layer(torch.autograd.Function):
    """One layer on a CPU. D: the two directions; cells of texts read backwards are reversed on their way in and out."""

    @staticmethod
    def forward(ctx: Any, kept: bool, x: Tensor, backwards: Tensor, *weights: Tensor) -> Tensor:
        """kept: for a backward pass. Shapes as in `run`, `reversal` and `_weights`."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        with torch.autocast("cpu", enabled=False):
            tokens, batch, size = x.shape
            cells = x.reshape(-1, size).to(dtype)
            inputs = torch.stack((cells, cells.index_select(0, backwards)))  # (D, cells, size)
            w_in, w_rec = (torch.stack([w.to(dtype) for w in weights[i : i + 2]]) for i in (0, 2))
            bias = torch.stack((weights[4] + weights[6], weights[5] + weights[7])).to(dtype)
            pre = torch.baddbmm(bias[:, None], inputs, w_in.transpose(1, 2)).view(2, tokens, batch, -1)
            states = _forward(pre, w_rec, kept)
            hidden = states[0]
            out = _both_ways(hidden[1:], backwards)
        if kept:
            ctx.save_for_backward(inputs, backwards, w_in, w_rec, *states)
        return out.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inputs, backwards, w_in, w_rec, *states = ctx.saved_tensors
        hidden = states[0]
        (grad,) = grads
        tokens, _, batch, size = hidden[1:].shape
        with torch.autocast("cpu", enabled=False):
            ahead, back = grad.float().chunk(2, dim=-1)
            back = back.reshape(-1, size).index_select(0, backwards).view(tokens, batch, size)
            d_gates = _backward(torch.stack((ahead, back), dim=1), w_rec, *states)  # (tokens, D, batch, gates)
            d_cells = d_gates.transpose(0, 1).reshape(2, tokens * batch, -1)
            found: list[Tensor | None] = [None] * len(ctx.needs_input_grad)
            if ctx.needs_input_grad[1]:
                both = torch.bmm(d_cells, w_in)
                found[1] = (both[0] + both[1].index_select(0, backwards)).view(tokens, batch, -1).to(grad.dtype)
            if any(ctx.needs_input_grad[3:]):
                before = hidden[:-1].transpose(0, 1).reshape(2, tokens * batch, size)
                across = d_cells.transpose(1, 2)
                # a sum over tokens, which as a product is many times faster than as a sum
                biases = torch.bmm(d_cells.new_ones(2, 1, tokens * batch), d_cells)[:, 0]
                for i, made in enumerate((torch.bmm(across, inputs), torch.bmm(across, before), biases, biases)):
                    found[3 + 2 * i : 5 + 2 * i] = made.float()
        return tuple(found)


def _both_ways(hidden: Tensor, backwards: Tensor) -> Tensor:
    """Shape: (tokens, D, batch, hidden) → (tokens, batch, D × hidden), both in the order of the text."""
    tokens, _, batch, size = hidden.shape
    out = hidden.new_empty(tokens, batch, 2 * size)
    out[..., :size] = hidden[:, 0]
    out[..., size:] = hidden[:, 1].reshape(-1, size).index_select(0, backwards).view(tokens, batch, size)
    return out


def _forward(pre: Tensor, w_rec: Tensor, kept: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states and cells, each with a first of zero; gates; tanh of the cells. If not `kept`, of use is the first.

    Shapes: pre (D, tokens, batch, gates), w_rec (D, gates, hidden).
    """
    _, tokens, batch, gates = pre.shape
    size = gates // _GATES
    hidden = pre.new_zeros(tokens + 1, 2, batch, size)
    room = tokens if kept else 1
    cell, squashed = (torch.zeros(n, 2, batch, size) for n in (room + 1, room))
    gate = torch.empty(room, 2, batch, gates)
    across = w_rec.transpose(1, 2)
    for step in range(tokens):
        at, after = (step, step + 1) if kept else (0, 0)
        now = gate[at].copy_(torch.baddbmm(pre[:, step], hidden[step], across))
        now[..., : 2 * size].sigmoid_()
        now[..., 2 * size : 3 * size].tanh_()
        now[..., 3 * size :].sigmoid_()
        i, f, g, o = now.chunk(_GATES, dim=-1)
        torch.mul(f, cell[at], out=cell[after]).addcmul_(i, g)
        torch.tanh(cell[after], out=squashed[at])
        hidden[step + 1].copy_(o * squashed[at])
    return hidden, cell, gate, squashed


def _backward(grad: Tensor, w_rec: Tensor, hidden: Tensor, cell: Tensor, gate: Tensor, squashed: Tensor) -> Tensor:
    """Gradients of what went into the gates, (tokens, D, batch, gates), of those of the hidden states, (…, hidden)."""
    tokens, _, batch, size = grad.shape
    found = hidden.new_empty(gate.shape)
    into, raw = torch.empty(gate.shape[1:]), torch.empty(gate.shape[1:])
    d_cell = torch.zeros(2, batch, size)
    for step in reversed(range(tokens)):
        d_hidden = grad[step]
        i, f, g, o = gate[step].chunk(_GATES, dim=-1)
        d_i, d_f, d_g, d_o = raw.chunk(_GATES, dim=-1)
        d_cell += _aten.tanh_backward(d_hidden * o, squashed[step])
        torch.mul(d_cell, g, out=d_i)
        torch.mul(d_cell, cell[step], out=d_f)
        torch.mul(d_cell, i, out=d_g)
        torch.mul(d_hidden, squashed[step], out=d_o)
        for part, derivative in (
            (slice(0, 2 * size), _aten.sigmoid_backward),
            (slice(2 * size, 3 * size), _aten.tanh_backward),
            (slice(3 * size, None), _aten.sigmoid_backward),
        ):
            derivative(raw[..., part], gate[step][..., part], grad_input=into[..., part])
        found[step].copy_(into)
        d_cell *= f
        if step:
            grad[step - 1] += torch.bmm(found[step], w_rec)
    return found
