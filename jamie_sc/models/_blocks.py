"""Layers of an ensemble: the paper's layout, features x cells, with the members in front.

A tensor is (members, features, cells). All members are computed in one batched product, so that several small networks cost
little more than one.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence


class Linear(nn.Module):
    """Fully connected layer, one weight matrix a member."""

    def __init__(self, members: int, n_in: int, n_out: int, *, bias: bool = True) -> None:
        super().__init__()
        bound = 1 / math.sqrt(n_in)
        self.weight = nn.Parameter(torch.empty(members, n_out, n_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, n_out, 1).uniform_(-bound, bound)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(members, n_in, cells) -> (members, n_out, cells)."""
        return self.weight @ x if self.bias is None else torch.baddbmm(self.bias, self.weight, x)


class BatchNorm(nn.Module):
    """Batch normalisation of each feature of each member."""

    def __init__(self, members: int, n: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(members * n)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x`."""
        return self.norm(x.reshape(1, -1, x.shape[-1])).view_as(x)


class Dropout(nn.Module):
    """Dropout; on the CPU by a random byte a value, eight to a draw, which takes a third of the time of a draw each.

    The probability is rounded to 1/256 there.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p, self.threshold = p, round(256 * p)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x`; `x` itself in evaluation."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return functional.dropout(x, self.p)
        draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        keep = draws.view(torch.uint8)[: x.numel()].view(x.shape) >= self.threshold
        return x * keep.to(x.dtype).mul_(256 / (256 - self.threshold))


class MLP(nn.Sequential):
    """Hidden layers of linear, batch normalisation, leaky ReLU and dropout, then a linear layer (section 4.1)."""

    def __init__(self, members: int, widths: Sequence[int], *, dropout: float) -> None:
        hidden: list[nn.Module] = []
        for n_in, n_out in pairwise(widths[:-1]):
            # no bias: the normalisation that follows subtracts it
            hidden += [Linear(members, n_in, n_out, bias=False), BatchNorm(members, n_out), nn.LeakyReLU()]
            hidden += [Dropout(dropout)] if dropout else []
        super().__init__(*hidden, Linear(members, widths[-2], widths[-1]))
