"""A bidirectional LSTM layer over texts of several lengths, in which padding is never read.

`nn.LSTM` keeps the weights and says what is computed. On a CPU packed texts are slow: there each direction is a pass of
its own over padded texts, in bf16 under autocast. Texts are reversed within their own lengths for the second, so that
padding comes last in both.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def run(layer: nn.LSTM, x: Tensor, lengths: Tensor) -> Tensor:
    """The outputs of both directions side by side; what stands behind a text's end has no meaning.

    layer: of one layer, bidirectional. Shapes: x (tokens, batch, size), lengths (batch,) → (tokens, batch, 2 × hidden).
    """
    if x.device.type != "cpu":
        packed = pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
        return pad_packed_sequence(layer(packed)[0], total_length=len(x))[0]
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    order = reversal(len(x), lengths)
    with torch.autocast("cpu", enabled=False):
        cells = x.to(dtype)
        ahead = _one_way(layer, cells, "")
        back = _turned(_one_way(layer, _turned(cells, order), "_reverse"), order)
        return torch.cat((ahead, back), dim=-1).to(x.dtype)


def reversal(tokens: int, lengths: Tensor) -> Tensor:
    """Where each cell of a batch, laid out by tokens, comes from when texts are read from their ends; padding stays.

    Its own inverse. Shapes: (batch,) → (tokens × batch,).
    """
    places = torch.arange(tokens, device=lengths.device)[:, None]
    source = torch.where(places < lengths, lengths - 1 - places, places)
    return (source * len(lengths) + torch.arange(len(lengths), device=lengths.device)).reshape(-1)


class _Turn(torch.autograd.Function):
    """Cells in another order that is its own inverse: so the gradient needs no scattered sum."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return cells.flatten(0, 1).index_select(0, order).view(cells.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,), (order,) = grads, ctx.saved_tensors
        return grad.flatten(0, 1).index_select(0, order).view(grad.shape), None


def _turned(cells: Tensor, order: Tensor) -> Tensor:
    turned: Tensor = _Turn.apply(cells, order)  # type: ignore[no-untyped-call]
    return turned


def _one_way(layer: nn.LSTM, cells: Tensor, direction: str) -> Tensor:
    """One direction in the type of the cells, from the first to the last. Shape: (tokens, batch, hidden)."""
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    weights = [getattr(layer, name + direction).to(cells.dtype) for name in names]
    start = cells.new_zeros(1, cells.shape[1], layer.hidden_size)
    states: Tensor = torch.lstm(
        cells,
        (start, start),
        weights,
        has_biases=True,
        num_layers=1,
        dropout=0.0,
        train=torch.is_grad_enabled(),
        bidirectional=False,
        batch_first=False,
    )[0]
    return states
