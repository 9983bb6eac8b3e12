"""How far imputed values lie from measured ones: train once more without some of the pairs, and look there."""

from __future__ import annotations

from dataclasses import asdict
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core._modalities import dense
from .._core._pairing import rows_to_one, some_cells, sure_pairs
from .._logging import logger
from ..models._base import MIN_CELLS
from ..models._calibration import Calibration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from .._core._modalities import Modality
    from .._core._pairing import Correspondence
    from ..models._base import Model

HELD_OUT = 0.2
"""Fraction of the pairs that the second training does without."""
MOST_CELLS = 500
"""More of them tell a quantile no better."""
FEWEST_PAIRS = 4 * MIN_CELLS
"""With fewer, too few are left to train on or to look at."""
FEWEST_STEPS = 250
"""Of the second training, unless the first took fewer; half the steps are too few for a small data set."""
N_DRAWS = 50
"""Draws from each posterior, whose standard deviation is one sign of the error to expect."""


def calibrate(
    model: Model,
    data: Sequence[Modality],
    F: Correspondence,
    inferred: Correspondence,
    *,
    seed: int,
    device: str,
    progress: bool | None,
) -> dict[tuple[str, str], Calibration]:
    """For each source and target with enough pairs, the errors of a model like this one on cells it did not see.

    It has the same principal components, and is trained for half as many steps, 250 at least: on the motor cortex and on bone
    marrow its imputations are off by as much, within two per cent.
    """
    rng = np.random.default_rng([seed, 1])
    pairs = {ab: sure for ab, block in F.items() if len(sure := sure_pairs(block)) >= FEWEST_PAIRS}
    if not pairs:
        logger.info("not calibrated: no two modalities have %d cells in common", FEWEST_PAIRS)
        return {}
    held = _held_out(data, pairs, rng)
    kept = [~h for h in held]
    train, F_kept = some_cells(data, F, kept)
    inferred_kept = {(a, b): rows_to_one(block[kept[a]][:, kept[b]]) for (a, b), block in inferred.items()}
    if (missing := model.what_is_missing(train, F_kept, inferred_kept)) is not None:
        logger.info("not calibrated, as too little would be left to train on. %s", missing)
        return {}
    n_cells = len(np.unique(np.concatenate([m.rows[h] for m, h in zip(data, held, strict=True)])))
    logger.info("calibrating: a second training without %d cells", n_cells)
    steps = min(model.history.step[-1], max(model.history.step[-1] // 2, FEWEST_STEPS))
    second = type(model)(**asdict(model.config) | {"max_steps": steps})
    fit_seed, draw_seed = (int(s) for s in rng.integers(2**31, size=2))
    how: dict[str, Any] = {"prepared": model.modalities, "seed": fit_seed, "device": device, "progress": progress}
    try:
        second.fit(train, F_kept, inferred=inferred_kept, **how)
    except (KeyboardInterrupt, FloatingPointError):
        second.history.interrupted = True
    if second.history.interrupted:
        logger.warning("the training that calibrates came to no end: there will be no intervals")
        return {}
    found = _errors(second, data, pairs, held, draw_seed)
    logger.info("calibrated intervals on these cells")
    return found


def _errors(
    model: Model,
    data: Sequence[Modality],
    pairs: Mapping[tuple[int, int], NDArray[np.intp]],
    held: Sequence[NDArray[np.bool_]],
    seed: int,
) -> dict[tuple[str, str], Calibration]:
    """How far off the model is on the cells held out, for each source and target."""
    floors = [_floor(m) for m in data]
    found: dict[tuple[str, str], Calibration] = {}
    for (a, source), (b, target) in product(enumerate(data), repeat=2):
        i, j = _test_pairs(a, b, pairs, held)
        if len(i) >= MIN_CELLS // 2:
            cells, measured = source.take(i), dense(target.X[j])
            given = model.conditions(target.name, cells.n_obs, cells.batches)
            how: dict[str, Any] = {"conditions": given, "n_samples": N_DRAWS, "seed": seed}
            imputed, sd = model.sample(source.name, target.name, cells.X, cells.rep, **how)
            found[source.name, target.name] = Calibration.fit(measured, imputed, sd, floor=floors[b])
    return found


def _held_out(
    data: Sequence[Modality], pairs: Mapping[tuple[int, int], NDArray[np.intp]], rng: np.random.Generator
) -> list[NDArray[np.bool_]]:
    """For each modality, which of its cells to hold out: a fifth of all, and of each two modalities' pairs."""
    rows = {(a, b): data[a].rows[found[:, 0]] for (a, b), found in pairs.items()}
    every = np.unique(np.concatenate(list(rows.values())))
    chosen = rng.permutation(every)[: min(round(HELD_OUT * len(every)), MOST_CELLS)]
    for there in rows.values():  # more of those that few cells have
        n = min(max(round(HELD_OUT * len(there)), MIN_CELLS), MOST_CELLS)
        left = rng.permutation(there[~np.isin(there, chosen)])
        chosen = np.append(chosen, left[: max(n - np.isin(there, chosen).sum(), 0)])
    held = [np.zeros(m.n_obs, dtype=bool) for m in data]
    for (a, b), found in pairs.items():  # a cell goes in all of its modalities
        out = found[np.isin(rows[a, b], chosen)]
        held[a][out[:, 0]] = held[b][out[:, 1]] = True
    return held


def _test_pairs(
    a: int, b: int, pairs: Mapping[tuple[int, int], NDArray[np.intp]], held: Sequence[NDArray[np.bool_]]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of a and of b that are the same cells, held out in both."""
    if a == b:
        same = np.flatnonzero(held[a])
        return same, same
    found = pairs.get((min(a, b), max(a, b)), np.empty((0, 2), dtype=np.intp))
    found = found if a < b else found[:, ::-1]
    test = found[held[a][found[:, 0]] & held[b][found[:, 1]]]
    return test[:, 0], test[:, 1]


def _floor(m: Modality) -> NDArray[np.float32]:
    """Zero for the features that are never measured below, else minus infinity."""
    lowest = np.ravel(dense(m.X.min(axis=0)))
    return np.where(lowest >= 0, 0, -np.inf).astype(np.float32)
