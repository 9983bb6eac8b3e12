"""Draw the joint embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc

from .._core._modalities import modality_names, read_latent
from .._core._obs import colors_of, obs_column
from .._core._slots import find_slots

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData

    from .._core._slots import Slots


def embedding(
    mdata: MuData,
    *,
    color: str | Sequence[str] = "modality",
    basis: Literal["umap", "pca"] = "umap",
    modalities: Sequence[str] | None = None,
    key: str | None = None,
    rng: int | np.random.Generator | None = 0,
    ax: Axes | None = None,
    show: bool | None = None,
    **kwargs: Any,
) -> Axes | list[Axes] | None:
    """Draw the latents of all modalities in one map (the paper's Figure 3b).

    A cell measured in two modalities is two points: the closer they lie, the better the alignment. The map is computed
    here, with :func:`scanpy.pp.neighbors` and :func:`scanpy.tl.umap`, and not kept; to keep one, call these on
    ``mdata["rna"]`` with ``use_rep="X_jamie"``.

    Parameters
    ----------
    mdata
        A MuData that :func:`jamie_sc.tl.integrate` or :func:`jamie_sc.tl.map_query` wrote to.
    color
        obs column of the MuData or of its modalities, or `"modality"`; a list gives a panel each. Colours kept in
        `.uns["<color>_colors"]` are used.
    basis
        `"umap"`, or `"pca"`: the first two principal components of the latents, faster.
    modalities
        Names of the modalities to draw; default all that have a latent.
    key
        Which integration, where `mdata` holds several.
    rng
        Seed of the map and of the order in which cells are drawn.
    ax
        Axes to draw into, for one colour; default new ones.
    show
        Show the figure and return nothing; default if no `ax` is given.
    **kwargs
        Passed to :func:`scanpy.pl.embedding`.

    Returns
    -------
    The axes (a list for several colours), or `None` when shown.

    Raises
    ------
    KeyError
        If there is no embedding or no such obs column.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30))
    >>> jsc.tl.integrate(mdata, params={"max_steps": 20})
    >>> ax = jsc.pl.embedding(mdata, color="cell_type", basis="pca", show=False)
    """
    slots = find_slots(mdata, key)
    colors = [color] if isinstance(color, str) else list(color)
    if basis not in ("umap", "pca"):
        msg = f"basis is 'umap' or 'pca', not {basis!r}."
        raise ValueError(msg)
    generator = np.random.default_rng(rng)
    cells = _stack_latents(mdata, slots, modalities, [c for c in colors if c != "modality"])
    cells = cells[generator.permutation(cells.n_obs)].copy()  # no modality lies on top of another
    _add_map(cells, basis, seed=int(generator.integers(2**31)))
    show = ax is None if show is None else show
    axes = sc.pl.embedding(cells, basis, color=colors, ax=ax, show=False, **kwargs)
    if show:
        plt.show()
        return None
    return axes


def _stack_latents(mdata: MuData, slots: Slots, modalities: Sequence[str] | None, columns: Sequence[str]) -> AnnData:
    """Every cell of every modality as a row: its latent, its modality and the obs columns wanted."""
    parts = []
    for name in modality_names(mdata, modalities):
        if slots.obsm not in mdata.mod[name].obsm and modalities is None:
            continue
        latent, cells = read_latent(mdata, name, slots.obsm)
        shown = {column: obs_column(mdata, name, column).loc[cells].to_numpy() for column in columns}
        parts.append(ad.AnnData(latent, pd.DataFrame(shown | {"modality": name}, index=name + ":" + cells)))
    stacked = ad.concat(parts)
    for column in (*columns, "modality"):
        values = stacked.obs[column]
        if not pd.api.types.is_numeric_dtype(values):
            stacked.obs[column] = values.astype(str).where(values.notna()).astype("category")
        if (kept := colors_of(mdata, column, stacked.obs[column])) is not None:
            stacked.uns[f"{column}_colors"] = kept
    return stacked


def _add_map(cells: AnnData, basis: str, *, seed: int) -> None:
    if basis == "pca":
        sc.pp.pca(cells, n_comps=2, random_state=seed)
    else:
        sc.pp.neighbors(cells, n_neighbors=min(15, cells.n_obs - 1), use_rep="X", random_state=seed)
        sc.tl.umap(cells, random_state=seed)
