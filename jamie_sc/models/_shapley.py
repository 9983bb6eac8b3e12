"""SHAP values of the whole way from features to an output (section 4.12)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.utils import gen_batches
from torch import nn
from tqdm.auto import tqdm

from ._blocks import affine

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 10
"""Cells explained between two moves of the progress bar."""


def shapley_values(
    road: nn.Module,
    cells: NDArray[np.float32],
    background: NDArray[np.float32],
    *,
    head: tuple[NDArray, NDArray] | None = None,
    progress: bool | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """SHAP values, (n, p, outputs), and base values, (outputs,): the mean output over the background.

    `cells`, (n, p), and `background`, (b, p), are what the road reads; `head`, weights (outputs, o) and bias, is a linear
    layer put after its o outputs.

    Deep SHAP (Lundberg and Lee 2017, section 4.2), as :class:`shap.DeepExplainer` has it: for each cell of the background
    the difference in output is led back through the network, layer by layer, and shared out among the features; these
    shares are averaged. They add up exactly.
    """
    import shap

    whole = road if head is None else nn.Sequential(road, affine(*head))
    explainer = shap.DeepExplainer(whole.eval(), torch.from_numpy(background))
    hidden = None if progress is None else not progress
    values = []
    for rows in tqdm(list(gen_batches(len(cells), CHUNK)), desc="SHAP values", disable=hidden):
        found = explainer.shap_values(torch.from_numpy(cells[rows]), check_additivity=False)
        values.append(np.asarray(found, dtype=np.float32))
    base = np.atleast_1d(np.asarray(explainer.expected_value, dtype=np.float32))
    phi = np.concatenate(values)
    with torch.inference_mode():
        outputs = whole(torch.from_numpy(cells)).numpy()
    _check_additive(phi, base, outputs)
    return phi, base


def _check_additive(values: NDArray[np.float32], base: NDArray[np.float32], outputs: NDArray[np.float32]) -> None:
    """Raise if sums of SHAP values and base values are not the outputs, to one per cent of their spread."""
    error = np.abs(values.sum(axis=1) + base - outputs).max(axis=0)
    spread = np.ptp(np.vstack([outputs, base]), axis=0)
    rounding = 1e-5 * (np.abs(values).sum(axis=1).max(axis=0) + np.abs(base))
    wrong = ~(error <= 0.01 * spread + rounding)  # so that NaN is wrong
    if wrong.any():
        worst = int(np.argmax(wrong))
        msg = (
            f"The SHAP values of output {worst} do not add up: they are off by {error[worst]:.3g} where outputs spread over "
            f"{spread[worst]:.3g}. Please report this, with the data if you can."
        )
        raise FloatingPointError(msg)
