"""Simulated cells whose shared latent is known."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.sparse import csr_matrix

from .._compat import make_mudata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

N_WAVES = 24  # random Fourier features behind one modality
FREQUENCY = 0.75  # their standard deviation in radians per branch length: low, so that the map is smooth
SCATTER = 0.06  # of the cells around their branch, in branch lengths
STATE = 0.2  # spread of the cells in the dimensions besides the tree's plane, in branch lengths


def simulated(
    n_cells: int | Sequence[int] = 300,
    *,
    n_features: Sequence[int] = (1000, 2000),
    n_branches: int = 3,
    n_latent: int = 6,
    noise: float | Sequence[float] = (0.1, 0.2),
    paired_fraction: float = 1.0,
    shuffle: bool = False,
    count_noise: bool = False,
    rng: int | np.random.Generator | None = 0,
) -> MuData:
    """Simulate cells on a branching manifold, measured in two or more modalities.

    Straight branches leave the centre of a plane and cells scatter around them, as in the simulation of the MMD-MA
    paper; in the further dimensions cells of all branches vary alike, as cells of one type do by their state. This
    position is the cell's true latent. Each modality sees it through a smooth nonlinear map of its own (a mix of random low-frequency waves), which gives features of unit variance, plus Gaussian noise.

    Parameters
    ----------
    n_cells
        Number of distinct cells, or one number per modality: the cells measured in it.
    n_features
        Width of each modality; its length is the number of modalities.
    n_branches
        Number of branches, which are the cell types.
    n_latent
        Dimensions of the true latent, the plane's two included.
    noise
        Standard deviation of the noise, where the signal has 1. One number for all modalities, or a sequence, which
        starts over when there are more modalities.
    paired_fraction
        Fraction of the cells (of the smallest modality's cells, where `n_cells` is a sequence) that are measured in
        every modality. Each other cell is measured in one modality only, spread evenly.
    shuffle
        Put the rows of each modality in an order of its own. Cells are then paired by name and not by position.
    count_noise
        Return counts: Poisson draws whose log rate is the noisy feature.
    rng
        Seed or generator. The global random state is neither read nor changed.

    Returns
    -------
    A MuData of the modalities `modality1`, `modality2`, ... It and each of its modalities carry `obs["cell_type"]` and
    the true position `obsm["latent"]`. With `count_noise`, `X` and `layers["counts"]` are sparse.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(60, n_features=(20, 30), paired_fraction=0.5)
    >>> mdata.n_obs, mdata["modality1"].shape, mdata["modality2"].shape
    (60, (45, 20), (45, 30))
    >>> mdata.obs["cell_type"].cat.categories.tolist()
    ['branch 1', 'branch 2', 'branch 3']
    """
    _check(n_features, n_branches, n_latent, noise, paired_fraction)
    rng = np.random.default_rng(rng)
    measured = _measured(n_cells, len(n_features), paired_fraction, rng)
    names = np.array([f"cell{i}" for i in range(measured.shape[1])])
    latent, cell_type = _tree(len(names), n_branches, n_latent, rng)

    mods = {}
    sizes = zip(n_features, cycle(np.ravel(noise).tolist()), measured, strict=False)
    for number, (width, sd, rows) in enumerate(sizes, start=1):
        x = _lift(latent, width, rng) + sd * rng.standard_normal((len(names), width))
        cells = rng.permutation(np.flatnonzero(rows)) if shuffle else np.flatnonzero(rows)
        mods[f"modality{number}"] = AnnData(
            csr_matrix(rng.poisson(np.exp(x[cells])), dtype=np.float32) if count_noise else x[cells].astype(np.float32),
            obs=pd.DataFrame({"cell_type": cell_type[cells]}, index=names[cells]),
            var=pd.DataFrame(index=[f"modality{number}:{i}" for i in range(width)]),
            obsm={"latent": latent[cells]},
        )
        if count_noise:
            mods[f"modality{number}"].layers["counts"] = mods[f"modality{number}"].X.copy()

    mdata = make_mudata(mods)
    cells = pd.Index(names).get_indexer(mdata.obs_names)
    mdata.obs["cell_type"] = cell_type[cells]
    mdata.obsm["latent"] = latent[cells]
    return mdata


def _check(
    n_features: Sequence[int], n_branches: int, n_latent: int, noise: float | Sequence[float], paired_fraction: float
) -> None:
    if isinstance(n_features, int) or len(n_features) < 2 or min(n_features) < 1:
        msg = f"n_features is one positive width per modality, for two or more modalities, not {n_features!r}."
        raise ValueError(msg)
    if n_branches < 1:
        msg = f"n_branches must be at least 1, not {n_branches}."
        raise ValueError(msg)
    if n_latent < 2:
        msg = f"n_latent must be at least 2, the plane of the branches, not {n_latent}."
        raise ValueError(msg)
    if np.size(noise) == 0 or np.min(noise) < 0:
        msg = f"noise is a standard deviation or several, none of them negative, not {noise!r}."
        raise ValueError(msg)
    if not 0 <= paired_fraction <= 1:
        msg = f"paired_fraction lies between 0 and 1, not {paired_fraction}."
        raise ValueError(msg)


def _measured(
    n_cells: int | Sequence[int], n_modalities: int, paired_fraction: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which modality (rows) measures which cell (columns)."""
    if isinstance(n_cells, int | np.integer):
        n_paired = round(paired_fraction * n_cells)
        alone = np.arange(n_cells - n_paired) % n_modalities
    elif len(n_cells) == n_modalities:
        n_paired = round(paired_fraction * min(n_cells))
        alone = np.repeat(np.arange(n_modalities), np.asarray(n_cells) - n_paired)
    else:
        msg = f"n_cells has {len(n_cells)} numbers and n_features {n_modalities}: give one per modality to both."
        raise ValueError(msg)
    measured = np.ones((n_modalities, n_paired + len(alone)), dtype=bool)
    measured[:, n_paired:] = alone == np.arange(n_modalities)[:, None]
    if not measured.any(axis=1).all():
        msg = (
            f"n_cells={n_cells} with paired_fraction={paired_fraction} leaves a modality without cells: raise n_cells."
        )
        raise ValueError(msg)
    return measured[:, rng.permutation(measured.shape[1])]


def _tree(
    n_cells: int, n_branches: int, n_latent: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], pd.Categorical]:
    """Positions around branches that leave the centre and end at distance 1, and the branch of each cell."""
    branch = rng.permutation(np.arange(n_cells) % n_branches)
    angle = 2 * np.pi * branch / n_branches
    along = rng.uniform(0.05, 1, (n_cells, 1)) * np.column_stack([np.cos(angle), np.sin(angle)])
    around = SCATTER * rng.standard_normal((n_cells, 2))
    latent = np.hstack([along + around, STATE * rng.standard_normal((n_cells, n_latent - 2))])
    names = np.array([f"branch {i + 1}" for i in range(n_branches)])
    return latent.astype(np.float32), pd.Categorical(names[branch], categories=names)


def _lift(latent: NDArray[np.float32], n_features: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Features of mean 0 and variance 1: random mixes of random waves over the latent."""
    frequency = FREQUENCY * rng.standard_normal((latent.shape[1], N_WAVES))
    waves = np.cos(latent @ frequency + rng.uniform(0, 2 * np.pi, N_WAVES))
    features = waves @ rng.standard_normal((N_WAVES, n_features))
    return (features - features.mean(axis=0)) / features.std(axis=0)
