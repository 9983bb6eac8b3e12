"""Predict the modality that a cell lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._compat import copy_of
from .._core._slots import find_slots
from .._core._write import extend_modality, write_layer
from .._logging import logger
from ..models import from_state
from ._read import read_for_model, target_features

if TYPE_CHECKING:
    from mudata import MuData


def impute(
    mdata: MuData,
    *,
    source: str,
    target: str,
    n_samples: int | None = None,
    extend: bool = False,
    key: str | None = None,
    rng: int | np.random.Generator | None = 0,
    copy: bool = False,
) -> MuData | None:
    """Impute one modality from another: the source's encoder, then the target's decoder (section 4.12).

    Parameters
    ----------
    mdata
        A MuData that :func:`jamie_sc.tl.integrate` or :func:`jamie_sc.tl.map_query` wrote to.
    source
        Modality whose values are known.
    target
        Modality to predict. Equal to `source` it gives the reconstruction.
    n_samples
        Draw this many latents from each cell's posterior (Equation 2) and write the mean and the standard deviation of
        what they decode to. Default: decode the posterior mean.
    extend
        Add the cells that have the source and lack the target to the target modality. They get their imputed values in
        the layer, NaN in `X` and in the other layers, the source's latent in `.obsm`, and `True` in
        `.obs["jamie_imputed"]`, by which every function of this package knows that they were not measured.
    key
        Which integration, where `mdata` holds several.
    rng
        Seed of the draws.
    copy
        Return a copy instead of writing into `mdata`.

    Returns
    -------
    `None`, or the copy. Writes

    `mdata.mod[target].layers["jamie_from_<source>"]`
        Imputed values on the scale of the values trained on, (cells of target, features), float32; NaN for cells that
        lack the source.
    `mdata.mod[target].layers["jamie_from_<source>_sd"]`
        With `n_samples`: the standard deviation over the draws.

    Raises
    ------
    KeyError
        If there is no trained model, or it has no such modality.
    ValueError
        If the source's features are not those the model was trained on, `n_samples` is below 2, or no cell of the target
        has the source and `extend` is off.

    See Also
    --------
    jamie_sc.get.imputed : the same values as an AnnData of all cells that have the source.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30))
    >>> jsc.tl.integrate(mdata, params={"max_steps": 20})
    >>> jsc.tl.impute(mdata, source="modality1", target="modality2")
    >>> mdata["modality2"].layers["jamie_from_modality1"].shape
    (100, 30)
    """
    if n_samples is not None and n_samples < 2:
        msg = f"n_samples is {n_samples}: a standard deviation takes at least 2 draws. Leave it out for the mean alone."
        raise ValueError(msg)
    slots = find_slots(mdata, key)
    model = from_state(mdata.uns[slots.uns]["model"])
    features = target_features(mdata, model, target)
    data = read_for_model(mdata, model, source)
    lacks = ~data.obs_names.isin(mdata.mod[target].obs_names if target in mdata.mod else [])
    if lacks.all() and not extend:
        msg = (
            f"None of the {data.n_obs} cells of {source!r} is in {target!r}, so there is no row to write to. Use extend=True "
            f"to add them, or jamie_sc.get.imputed(mdata, source={source!r}, target={target!r}) for an AnnData."
        )
        raise ValueError(msg)

    latent = model.encode(source, data.X, data.rep)
    if n_samples is None:
        layers = {slots.imputed(source): model.decode(target, latent, features)}
    else:
        seed = int(np.random.default_rng(rng).integers(2**31))
        mean, sd = model.sample(source, target, data.X, data.rep, features=features, n_samples=n_samples, seed=seed)
        layers = {slots.imputed(source): mean, slots.imputed_sd(source): sd}

    mdata = copy_of(mdata) if copy else mdata
    if extend and lacks.any():
        cells, var_names = data.obs_names[lacks], model.modality(target).var_names
        extend_modality(mdata, target, cells, var_names=var_names, obsm={slots.obsm: model.embed(latent[lacks])})
        logger.info("added %d cells that lack %r to it, marked in obs['jamie_imputed']", lacks.sum(), target)
    for layer, values in layers.items():
        write_layer(mdata, target, layer, data.obs_names, values)
        logger.info("added %r, imputed values (mdata[%r].layers)", layer, target)
    return mdata if copy else None
