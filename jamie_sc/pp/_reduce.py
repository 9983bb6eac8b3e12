"""Standardise and rotate to principal components, invertibly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._compat import copy_of
from .._core._modalities import per_modality, read_modalities
from .._core._write import write_reduction
from .._logging import logger
from ..models._reducers import Reducer, default_n_components

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData


def reduce(
    mdata: MuData,
    *,
    modalities: Sequence[str] | None = None,
    n_components: int | Mapping[str, int] | None = None,
    layer: str | Mapping[str, str] | None = None,
    clip: float = 5.0,
    own_units: bool = True,
    rng: int | np.random.Generator | None = 0,
    copy: bool = False,
) -> MuData | None:
    """Standardise each feature and reduce each modality to principal components.

    Optional: :func:`jamie_sc.tl.integrate` reduces a modality itself when nobody did, and uses what it finds here when
    somebody did. A sparse matrix stays sparse.

    Parameters
    ----------
    mdata
        Annotated modalities.
    modalities
        Names of the modalities to reduce; default all.
    n_components
        Number of components, one for all or one for each modality; default what `integrate` would take, by the number
        of cells and features. Never more than the matrix can have.
    layer
        Layer that holds the values, for all or for each modality; default `X`.
    clip
        Values further than this from their feature's mean, in standard deviations, are clipped (never past zero, so that
        a sparse matrix stays sparse).
    own_units
        Leave features that share a unit (non-negative values of which a tenth are zero: expression, peaks) on their own
        scale instead of standardising each, which weighs noise less; and bring counts (non-negative integers that
        reach 16) to an equal total a cell, the median, and log them first. `False` standardises whatever there is.
    rng
        Seed of the randomised solver.
    copy
        Return a copy instead of writing into `mdata`.

    Returns
    -------
    `None`, or the copy. Writes, for each modality `m`,

    `mdata.mod[m].obsm["X_pca"]`
        Components of each cell, (cells, components), float32.
    `mdata.mod[m].varm["PCs"]`
        Loadings, (features, components).
    `mdata.mod[m].uns["pca"]`
        `mean`, `scale` and clipping `bounds` of each feature, `variance` of each component, and `params`. With them
        ``X_pca @ PCs.T * scale + mean`` gives the features back; logged ones if `params` has a `target_sum`.

    Raises
    ------
    KeyError
        If a modality or a layer does not exist.
    ValueError
        If a matrix is empty, constant, or holds NaN or infinite values.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30))
    >>> jsc.pp.reduce(mdata, n_components=5)
    >>> mdata["modality2"].obsm["X_pca"].shape
    (100, 5)
    """
    read = read_modalities(mdata, modalities=modalities, layer=layer)
    wanted = per_modality("n_components", n_components, [m.name for m in read])
    for name, k in wanted.items():
        if k is not None and k < 1:
            msg = f"n_components of modality {name!r} is {k}: at least 1 is needed. Leave it out for the default."
            raise ValueError(msg)
    seed = int(np.random.default_rng(rng).integers(2**31))
    mdata = copy_of(mdata) if copy else mdata
    for m in read:
        k = wanted[m.name] or default_n_components(*m.X.shape)
        reducer = Reducer.fit_inputs(m.X, n_components=k, clip=clip, own_units=own_units, seed=seed)
        params = {"n_components": reducer.n_components, "clip": clip, "layer": m.layer or "X"}
        if reducer.target_sum is not None:
            params["target_sum"] = reducer.target_sum
        write_reduction(
            mdata,
            m,
            scores=reducer.transform(m.X),
            loadings=reducer.components.T,
            record={"params": params}
            | {part: getattr(reducer, part) for part in ("mean", "scale", "variance", "bounds")},
        )
        logger.info("reduced %r to %d components: mdata[%r].obsm['X_pca']", m.name, reducer.n_components, m.name)
    return mdata if copy else None
