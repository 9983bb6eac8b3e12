"""Layers of an ensemble: the paper's layout, features x cells, with the members in front.

A tensor is (members, features, cells). All members are computed in one batched product, so that several small networks cost
little more than one.
"""

from __future__ import annotations

import math
from copy import deepcopy
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike


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
        self.members, self.norm = members, nn.BatchNorm1d(members * n)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x`."""
        return self.norm(x.reshape(1, -1, x.shape[-1])).view_as(x)

    def member(self, i: int) -> nn.BatchNorm1d:
        """The normalisation of one member."""
        n = self.norm.num_features // self.members
        own = nn.BatchNorm1d(n, eps=self.norm.eps)
        state = {name: v if v.ndim == 0 else v[i * n : (i + 1) * n].cpu() for name, v in self.norm.state_dict().items()}
        own.load_state_dict(state)
        return own.requires_grad_(requires_grad=False)


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


def _hidden(members: int, n_in: int, n_out: int, *, dropout: float) -> list[nn.Module]:
    """Linear, batch normalisation, leaky ReLU and dropout; no bias, as the normalisation subtracts it."""
    layers = [Linear(members, n_in, n_out, bias=False), BatchNorm(members, n_out), nn.LeakyReLU()]
    return [*layers, Dropout(dropout)] if dropout else layers


class MLP(nn.Sequential):
    """Hidden layers of linear, batch normalisation, leaky ReLU and dropout, then a linear layer (section 4.1 of JAMIE)."""

    def __init__(self, members: int, widths: Sequence[int], *, dropout: float) -> None:
        hidden = [layer for a, b in pairwise(widths[:-1]) for layer in _hidden(members, a, b, dropout=dropout)]
        super().__init__(*hidden, Linear(members, widths[-2], widths[-1]))


class ConditionalMLP(nn.Module):
    """An MLP, of one member, each of whose layers also reads what is known of the cell."""

    def __init__(self, widths: Sequence[int], *, n_conditions: int, dropout: float) -> None:
        super().__init__()
        stages = [_hidden(1, a + n_conditions, b, dropout=dropout) for a, b in pairwise(widths[:-1])]
        stages.append([Linear(1, widths[-2] + n_conditions, widths[-1])])
        self.stages = nn.ModuleList(nn.Sequential(*stage) for stage in stages)

    def forward(self, x: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
        """(1, n_in, cells) and (conditions, cells) -> (1, n_out, cells)."""
        for stage in self.stages:
            x = stage(torch.cat([x, conditions[None]], dim=1) if len(conditions) else x)
        return x

    def given(self, conditions: torch.Tensor) -> nn.Sequential:
        """What it is for cells of the same conditions, (conditions,), in evaluation, as torch's own layers, cells in rows."""
        layers: list[nn.Module] = []
        for stage in self.stages:
            first, *others = cast("list[Any]", list(one_member(stage, 0)))
            n = first.in_features - len(conditions)
            constant = first.weight[:, n:] @ conditions
            bias = constant if first.bias is None else first.bias + constant
            layers += [affine(first.weight[:, :n], bias), *others]
        return nn.Sequential(*layers).eval()


def one_member(mlp: nn.Module, i: int, outputs: slice | None = None) -> nn.Sequential:
    """One member of an MLP in evaluation, as torch's own layers, cells in rows; `outputs` for some of its outputs only."""
    layers: list[nn.Module] = []
    for layer in mlp.children():
        if isinstance(layer, Linear):
            layers.append(affine(layer.weight[i], None if layer.bias is None else layer.bias[i, :, 0]))
        elif isinstance(layer, BatchNorm):
            layers.append(layer.member(i))
        elif not isinstance(layer, Dropout):
            layers.append(deepcopy(layer))
    last = layers[-1]
    if outputs is not None and isinstance(last, nn.Linear):
        layers[-1] = affine(last.weight[outputs], last.bias[outputs])
    return nn.Sequential(*layers).eval()


def affine(weight: ArrayLike | torch.Tensor, bias: ArrayLike | torch.Tensor | None) -> nn.Linear:
    """A linear layer of torch with these weights, (out, in), and this bias, on the CPU."""
    W = torch.as_tensor(weight, dtype=torch.float32, device="cpu")
    layer = nn.utils.skip_init(nn.Linear, W.shape[1], W.shape[0], bias=bias is not None)  # no random numbers
    layer.load_state_dict(
        {"weight": W} | ({} if bias is None else {"bias": torch.as_tensor(bias, dtype=torch.float32)})
    )
    return layer.requires_grad_(requires_grad=False)


class Road(nn.Module):
    """What several members make of the same components: latents side by side, or the average of what they decode."""

    def __init__(self, read: nn.Module, members: Sequence[nn.Module], write: nn.Module | None = None) -> None:
        super().__init__()
        self.read, self.members, self.write = read, nn.ModuleList(members), write

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(cells, features) -> (cells, outputs)."""
        components = self.read(features)
        outputs = [member(components) for member in self.members]
        if self.write is None:
            return torch.cat(outputs, dim=1)
        return self.write(sum(outputs[1:], start=outputs[0]) / len(outputs))


def divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of normal distributions from the standard one, each on its own."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp())


class Moments:
    """Mean and standard deviation of what is added, a few at a time (Chan, Golub and LeVeque 1983)."""

    def __init__(self) -> None:
        self.n = 0
        self.mean = torch.zeros(())
        self._squares = torch.zeros(())

    def add(self, values: torch.Tensor) -> None:
        """Add the first dimension's entries."""
        k, mean = len(values), values.mean(0)
        step = mean - self.mean
        self._squares = self._squares + (values - mean).square().sum(0) + step.square() * (self.n * k / (self.n + k))
        self.n += k
        self.mean = self.mean + step * (k / self.n)

    def sd(self) -> torch.Tensor:
        """Of those added, with n - 1 in the denominator."""
        return (self._squares / (self.n - 1)).sqrt()
