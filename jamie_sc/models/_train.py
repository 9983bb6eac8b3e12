"""The one training loop: counted in optimiser steps, best weights kept, stopped by NaN, patience or Ctrl-C."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from tqdm.auto import tqdm

from .._logging import logger
from ._base import History

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import nn
    from torch.optim.lr_scheduler import LRScheduler

Terms = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Patience:
    """Early stopping (Algorithm 1, lines 23 to 30)."""

    min_steps: int
    """No weights are kept as the best, and no lapse is counted, before this step."""
    max_lapses: int | None = None
    """Stop after so many epochs without a new best; None never stops."""
    min_change: float = 0.0
    """A new best is lower by more than this."""


def train(
    network: nn.Module,
    losses: Callable[[int], Terms],
    *,
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler | None,
    n_steps: int,
    steps_per_epoch: int,
    patience: Patience,
    validate: Sequence[Callable[[], Terms]] | None = None,
    progress: bool | None = None,
) -> History:
    """Minimise `losses(step)["total"]`; the network ends with the weights of its best epoch.

    `losses` draws a batch and returns its loss terms, `total` among them. The history has their means, one row an epoch. A
    term `adversary` that is no part of the total is minimised as well, but does not say which epoch is best. With `validate`
    the mean total of these batches says so, which becomes the term `validation`.
    """
    history, best, lapses = History(), _Best(network), 0
    network.train()
    try:
        with _bar(n_steps, steps_per_epoch, progress) as bar:
            for first in range(0, n_steps, steps_per_epoch):
                steps = range(first, min(first + steps_per_epoch, n_steps))
                means = _epoch(losses, steps, optimizer, scheduler)
                if validate is not None:
                    means["validation"] = _validation(network, validate, steps.stop)
                history.append(steps.stop, means)
                bar.set_postfix({name: f"{value:.3g}" for name, value in means.items()}, refresh=False)
                bar.update()
                if steps.stop < min(patience.min_steps, n_steps):
                    continue
                lapses = 0 if best.offer(means.get("validation", means["total"]), patience.min_change) else lapses + 1
                if patience.max_lapses is not None and lapses >= patience.max_lapses:
                    logger.info("stopped after step %d: no better loss in %d epochs", steps.stop, lapses)
                    break
    except KeyboardInterrupt:
        if not history.step:  # there is no model yet to keep
            raise
        history.interrupted, step = True, history.step[-1]
        logger.warning("training was interrupted after step %d of %d: the best model so far is kept", step, n_steps)
    best.restore()
    network.eval()
    return history


def _epoch(
    losses: Callable[[int], Terms], steps: range, optimizer: torch.optim.Optimizer, scheduler: LRScheduler | None
) -> dict[str, float]:
    sums: dict[str, torch.Tensor] = {}
    for step in steps:
        optimizer.zero_grad(set_to_none=True)
        terms = losses(step)
        _check_finite(terms, step)
        (terms["total"] + terms.get("adversary", 0.0)).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + term.detach()
    return {name: float(total) / len(steps) for name, total in sums.items()}


@torch.no_grad()
def _validation(network: nn.Module, batches: Sequence[Callable[[], Terms]], step: int) -> float:
    network.eval()
    terms = [losses() for losses in batches]
    network.train()
    for found in terms:
        _check_finite(found, step)
    totals = [float(found["total"]) for found in terms]
    return sum(totals) / len(totals)


def _check_finite(terms: Terms, step: int) -> None:
    if torch.isfinite(terms["total"] + terms.get("adversary", 0.0)):
        return
    bad = [name for name, term in terms.items() if name != "total" and not torch.isfinite(term)] or ["total"]
    msg = (
        f"Training stopped at step {step}: the loss term {' and '.join(map(repr, bad))} is {terms[bad[0]].item()}. "
        "Nothing was written. Look for extreme values in the data (log-transform counts first), or lower the learning rate: "
        "params={'learning_rate': ...}."
    )
    raise FloatingPointError(msg)


class _Best:
    """Weights of the lowest loss offered so far."""

    def __init__(self, network: nn.Module) -> None:
        self._network, self._loss = network, float("inf")
        self._weights: dict[str, torch.Tensor] | None = None

    def offer(self, loss: float, min_change: float) -> bool:
        """Keep the present weights if they are better."""
        if loss >= self._loss - min_change:
            return False
        self._loss = loss
        self._weights = {name: value.detach().clone() for name, value in self._network.state_dict().items()}
        return True

    def restore(self) -> None:
        """Put the best weights back; those at hand stay where none were offered."""
        if self._weights is not None:
            self._network.load_state_dict(self._weights)


def _bar(n_steps: int, steps_per_epoch: int, progress: bool | None) -> tqdm:  # noqa: FBT001
    return tqdm(
        total=-(-n_steps // steps_per_epoch),
        desc="training",
        unit="epoch",
        disable=None if progress is None else not progress,
    )


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's generators start from a seed inside, and are back where they were afterwards."""
    mps = torch.mps.get_rng_state() if device.type == "mps" else None
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield
    finally:
        if mps is not None:
            torch.mps.set_rng_state(mps)


def resolve_device(device: str) -> torch.device:
    """`"auto"`: CUDA, else MPS, else the CPU."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
