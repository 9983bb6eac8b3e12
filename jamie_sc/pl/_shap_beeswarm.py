"""Draw which features matter over many cells, and which way."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from sklearn.utils import check_random_state

from ._explained import read_explained
from ._size import fit_figure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from mudata import MuData


def shap_beeswarm(
    mdata: MuData,
    *,
    output: str | None = None,
    max_display: int = 20,
    key: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | None:
    """Draw the SHAP values of all cells explained, a row of points for each of the leading features.

    A point is a cell: how much the feature adds to its output, or takes away, coloured by the feature's own value in it,
    from the 5th to the 95th percentile. Red points on the right: the higher the feature, the higher the output. Drawn by
    :func:`shap.plots.beeswarm`.

    Parameters
    ----------
    mdata
        A MuData that :func:`jamie_sc.tl.explain` wrote to.
    output
        The imputed feature, latent dimension ("latent 3") or label; needed where several were explained.
    max_display
        Features to draw, those of largest mean absolute SHAP value, the largest at the top.
    key
        Name of the result (`key_added`), where `mdata` holds several.
    ax
        Axes to draw into; default new ones.
    show
        Show the figure and return nothing; default if no `ax` is given.

    Returns
    -------
    The axes, or `None` when shown. The x axis is in the unit of the output.

    Raises
    ------
    KeyError
        If there is no such result or output, or several outputs and none is chosen.
    ValueError
        If `max_display` is below 1.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30))
    >>> jsc.tl.integrate(mdata, params={"max_steps": 20})
    >>> jsc.tl.explain(mdata, source="modality1", latent=0, cells=50)
    >>> ax = jsc.pl.shap_beeswarm(mdata, show=False)
    """
    import shap

    if max_display < 1:
        msg = f"max_display={max_display}: at least one feature is needed."
        raise ValueError(msg)
    found = read_explained(mdata, output=output, key=key)
    names, values = np.asarray(found.values.feature_names), found.values.values
    leading = np.argsort(-np.abs(values).mean(axis=0), kind="stable")[:max_display]
    chosen = shap.Explanation(
        values=values[:, leading], data=found.values.data[:, leading], feature_names=list(names[leading])
    )
    show = ax is None if show is None else show
    new = ax is None
    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    with _own_randomness():
        shap.plots.beeswarm(chosen, max_display=len(leading), ax=ax, plot_size=None, show=False)
    n, cells = len(names), len(found.cells)
    ax.set_title(f"{found.unit} from {found.source}\n{len(leading):,} of {n:,} features, {cells:,} cells")
    ax.set_xlabel(f"SHAP value\n(added to {found.unit})")
    if new:
        fit_figure(ax, 5.5, 0.33 * (len(leading) + 1))
    if show:
        plt.show()
        return None
    return ax


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Numbers of our own for shap, which shuffles with NumPy's global random state; that is put back as it was."""
    shared = check_random_state(None)
    state = shared.get_state(legacy=False)
    shared.seed(0)
    try:
        yield
    finally:
        shared.set_state(state)
