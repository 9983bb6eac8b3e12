"""Predict the modality that a cell lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._compat import copy_of
from .._core._slots import find_slots
from .._core._write import drop_layers, extend_modality, write_layer
from .._logging import logger
from ..models import from_state
from ._conditions import conditions_of
from ._read import read_for_model, target_features

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData

    from ..models._base import Model
    from ..models._calibration import Calibration


def impute(
    mdata: MuData,
    *,
    source: str,
    target: str,
    n_samples: int | None = None,
    interval: float | None = None,
    library: float | Literal["observed"] | None = None,
    batch: str | Mapping[str, str] | None = None,
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
        Also say how sure the values are: draw this many latents from each cell's posterior (Equation 2), write the mean
        of what they decode to, and how far from it the measured value is to be expected. Default: decode the posterior mean.
    interval
        With `n_samples`: also write the bounds between which the measured value lies with this probability, such as 0.8.
    library
        Where the target was trained as counts: total counts that each cell is imputed for. Default: the median of the cells
        trained on, so that nothing of the target is read. A number: that many. `"observed"`: a cell's own total where it was
        measured in the target, else the median.
    batch
        Where the target was trained with a `batch_key`: the batch that each cell is imputed for; with several keys, a mapping.
        Default: the cell's own; cells whose batch the model does not know, or does not know of the target, are decoded as an
        average over those it knows, and a warning says so.
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
        With `n_samples`: the standard deviation of the measured value about the imputed one. Errors are seldom normal; it is
        that of the normal distribution with the same 80 % interval, so the imputed value ± 1.28 of it holds 80 %.
    `mdata.mod[target].layers["jamie_from_<source>_lower"]`, `["jamie_from_<source>_upper"]`
        With `interval`: its bounds, not below 0 for a feature that was never measured below.

    These three are removed where an earlier call left them and this one does not write them.

    Raises
    ------
    KeyError
        If there is no trained model, or it has no such modality.
    ValueError
        If the source's features are not those the model was trained on, `n_samples` is below 2 or the model was not
        calibrated for this source and target, `interval` is not between 0 and 0.99 or given without `n_samples`, or no cell
        of the target has the source and `extend` is off; if `library` is no positive number, the target has no counts, or both
        it and `n_samples` are given, for which intervals were not calibrated; if the model knows no such `batch`.

    Notes
    -----
    How far off imputed values are was measured at the end of :func:`jamie_sc.tl.integrate`, on cells that a second model did
    not see. The error expected of a cell grows or falls with its imputed value and with the standard deviation of its draws,
    feature by feature; intervals are quantiles of the errors so scaled (split conformal prediction). They hold on average
    over cells like those trained on: not for each cell type, and not for a query from another tissue.

    See Also
    --------
    jamie_sc.tl.evaluate : how often the intervals hold, on cells held out.
    jamie_sc.get.imputed : the same values as an AnnData of all cells that have the source.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30))
    >>> jsc.tl.integrate(mdata, params={"max_steps": 20})
    >>> jsc.tl.impute(mdata, source="modality1", target="modality2")
    >>> mdata["modality2"].layers["jamie_from_modality1"].shape
    (100, 30)

    With intervals that hold the measured value in 8 of 10 cells:

    >>> jsc.tl.impute(mdata, source="modality1", target="modality2", n_samples=20, interval=0.8)
    >>> sorted(mdata["modality2"].layers)[-2:]
    ['jamie_from_modality1_sd', 'jamie_from_modality1_upper']
    """
    _check_options(n_samples, interval, library)
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
    given = conditions_of(mdata, model, data, target, batch=batch, library=library)
    name = slots.imputed(source)
    if n_samples is None:
        layers = {name: model.decode(target, latent, features, given)}
    else:
        calibration = _calibration(model, source, target)
        seed = int(np.random.default_rng(rng).integers(2**31))
        how: dict[str, Any] = {"features": features, "conditions": given, "n_samples": n_samples, "seed": seed}
        mean, sd = model.sample(source, target, data.X, data.rep, **how)
        layers = {name: mean, f"{name}_sd": calibration.predicted_sd(mean, sd, features)}
        if interval is not None:
            bounds = calibration.interval(mean, sd, level=interval, features=features)
            layers |= dict(zip((f"{name}_lower", f"{name}_upper"), bounds, strict=True))

    mdata = copy_of(mdata) if copy else mdata
    if extend and lacks.any():
        cells, var_names = data.obs_names[lacks], model.modality(target).var_names
        extend_modality(mdata, target, cells, var_names=var_names, obsm={slots.obsm: model.embed(latent[lacks])})
        logger.info("added %d cells that lack %r to it, marked in obs['jamie_imputed']", lacks.sum(), target)
    drop_layers(mdata, target, [f"{name}_{part}" for part in ("sd", "lower", "upper")])  # of an earlier call
    for layer, values in layers.items():
        write_layer(mdata, target, layer, data.obs_names, values)
        logger.info("added %r, imputed values (mdata[%r].layers)", layer, target)
    return mdata if copy else None


def _check_options(n_samples: int | None, interval: float | None, library: object) -> None:
    if n_samples is not None and library is not None:
        msg = f"library={library!r} and n_samples={n_samples}: intervals were calibrated for the median library size. Leave one out."
        raise ValueError(msg)
    if n_samples is not None and n_samples < 2:
        msg = f"n_samples is {n_samples}: a standard deviation takes at least 2 draws. Leave it out for the mean alone."
        raise ValueError(msg)
    if interval is not None and n_samples is None:
        msg = f"interval={interval} takes draws: give n_samples too, such as n_samples=50."
        raise ValueError(msg)


def _calibration(model: Model, source: str, target: str) -> Calibration:
    if (source, target) not in model.calibrations:
        msg = (
            f"The model was not calibrated for imputing {target!r} from {source!r}, so it cannot say how sure it is: train with "
            "jamie_sc.tl.integrate(mdata, calibrate=True); it takes 40 cells measured in both modalities. Leave n_samples out "
            "for the values alone."
        )
        raise ValueError(msg)
    return model.calibrations[source, target]
