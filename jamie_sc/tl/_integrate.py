"""Train a joint model on a MuData and write its latents."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from .._compat import copy_of
from .._core._modalities import per_modality, read_modalities
from .._core._obs import obs_column
from .._core._pairing import (
    INFERRED,
    check_linked,
    correspondences,
    count_pairs,
    inferred_correspondences,
    is_inferred,
    log_pairs,
    n_alone,
    read_correspondence,
    read_inferred,
    rows_to_one,
    tied_by_others,
)
from .._core._slots import Slots
from .._core._write import write_integration
from .._logging import logger
from ..models import get_model
from ..models._base import MIN_CELLS
from ._calibrate import calibrate as held_out_errors
from ._infer import infer
from ._read import as_keys, batches_of, in_order_of_names, stored_reducer, strings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mudata import MuData

    from .._core._modalities import Modality
    from .._core._pairing import Correspondence
    from ..align import Solution
    from ..models._base import Model


def integrate(
    mdata: MuData,
    *,
    model: Literal["jamie", "clue"] = "jamie",
    modalities: Sequence[str] | None = None,
    layer: str | Mapping[str, str] | None = None,
    use_rep: str | Mapping[str, str] | None = None,
    correspondence: str | sp.spmatrix | sp.sparray | None = None,
    likelihood: str | Mapping[str, str] | None = None,
    batch_key: str | Sequence[str] | None = None,
    labels_key: str | None = None,
    recipe: Literal["default", "paper"] = "default",
    params: Mapping[str, Any] | None = None,
    calibrate: bool | None = None,
    device: str = "auto",
    rng: int | np.random.Generator | None = 0,
    progress: bool | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> MuData | None:
    """Learn one joint embedding of all modalities (JAMIE, Equations 1 to 9; CLUE, Equations 1 to 15).

    Cells that share a name in `obs_names` are the same cell, measured in several modalities: they tie the modalities
    together. Cells that only one modality has are trained on and embedded too; where two modalities both have such cells,
    their correspondence is inferred (:func:`jamie_sc.tl.match_cells`) or may be given (`correspondence`).

    Parameters
    ----------
    mdata
        Two or more modalities, all, some or none of whose cells share a name.
    model
        The method. `"jamie"`: joint variational autoencoders (Cohen Kalafut et al. 2023). `"clue"`: cross-linked unified
        embedding (Tu et al. 2022), which has a likelihood for each modality, batches and labels.
    modalities
        Names of the modalities to integrate; default all.
    layer
        Layer that holds the values, for all or for each modality; default `X`. Normalised values or counts: counts are
        recognised and logged for the encoder, and what is imputed comes back on the scale given here.
    use_rep
        Key of `.obsm` that the encoder reads instead of the reduced values (for example another model's latent), for all
        or for each modality. Imputation still returns features.
    correspondence
        Key of `mdata.obsp`, or a scipy sparse matrix, (cells, cells) in the order of `mdata.obs_names`: how surely a cell of
        one modality is, or is like, a cell of another, greater than 0 and at most 1. A cell may correspond to several. An
        entry (i, j) and an entry (j, i) are the same link. Shared names are links of 1 in any case.
    likelihood
        For `"clue"`: distribution of the values given the latent, for all or for each modality. `"gaussian"`, `"nb"` (negative
        binomial), `"zinb"` (with more zeros), `"poisson"` or `"bernoulli"`. Default: what suits the values, `"bernoulli"` for
        zeros and ones, `"nb"` for other counts, else `"gaussian"`, of standardised features reduced to components.
    batch_key
        For `"clue"`: obs column, or several, of the batch, for example donor and site. Every cell has one. Decoders read it, so
        that the latent need not say it; encoders do not, so that new batches can be mapped.
    labels_key
        For `"clue"`: obs column with labels that the latent should tell apart, such as cell types. Cells may be without.
    recipe
        `"default"`: chosen on held-out cells. `"paper"`: the paper's equations and weights to the letter, for comparisons; it
        takes tens of times longer. JAMIE's wants ``params={"dropout": 0.6}`` where it is to impute (section 4.10).
    params
        Hyperparameters that differ from the recipe; see :class:`jamie_sc.models.JAMIE` and :class:`jamie_sc.models.CLUE`.
    calibrate
        Also learn how sure imputed values are, which ``tl.impute(n_samples=...)`` needs: a second model is trained for
        half as many steps, 250 at least, without a fifth of the cells measured in two modalities (at most 500), and its
        errors there are kept with the first one, which stays as it is. Training takes half as long again, or, below 700
        cells, up to twice as long; features are not reduced again. Default: yes, but not with the paper's recipe; two
        modalities with fewer than 40 such cells are left out.
    device
        `"auto"` takes CUDA or MPS where there is one, else the CPU; or a name that torch knows, such as `"cuda:1"`.
    rng
        Seed, or a generator to draw it from. The same seed gives the same numbers again; no global random state is touched.
    progress
        Show a bar; default only on a terminal or in a notebook.
    key_added
        Name of every slot instead of the model's, `jamie` and `X_jamie`, or `clue` and `X_clue`.
    copy
        Return a copy instead of writing into `mdata`.

    Returns
    -------
    `None`, or the copy. Writes

    `mdata.obsm["X_jamie" | key_added]`
        The joint latent, (cells, latent dimensions), float32: each cell's modalities aggregated (JAMIE, Equation 3; CLUE,
        Equation 11). CLUE's has a sub-space for each modality, side by side.
    `mdata.mod[m].obsm["X_jamie" | key_added]`
        The latent of modality `m` alone, (cells of m, latent dimensions), float32 (posterior mean).
    `mdata.uns["jamie" | key_added]`
        `params`, `history` (loss terms), `pairing` (counts) and `model`: the trained model as arrays and JSON, so that
        an `.h5mu` carries it.

    Raises
    ------
    KeyError
        If a modality, layer, representation, correspondence or obs column does not exist.
    TypeError
        If `mdata` is no MuData, or the correspondence is not sparse.
    ValueError
        If there is one modality only, cell or feature names are not unique, nothing ties a modality to the others and
        it has too few cells to be matched, a matrix is empty, constant or holds NaN or infinite values, or the MuData
        has `axis != 0`; if the correspondence has another shape than (cells, cells), values outside 0 to 1, rows that
        are all zero, or links within one modality.
    FloatingPointError
        If the loss becomes NaN in training; the message names the term. `mdata` stays as it was.

    See Also
    --------
    jamie_sc.tl.impute : values of a modality that a cell lacks.
    jamie_sc.tl.map_query : new cells, without training again.
    jamie_sc.tl.match_cells : infer which cells correspond.

    Notes
    -----
    The default recipe differs from the paper in what the encoder reads (features that share a unit, such as expression,
    are not scaled to the same spread), in two terms of the loss for paired cells (reconstruction of the other modality,
    and contrast with the other cells of the batch), and in its schedule. The latents written are brought to one length.

    Where two modalities both have cells without a partner, ten or more, and no third one ties them that shares cells with both
    while they share none, these cells' correspondence F̃ is what
    :func:`jamie_sc.tl.match_cells` left in `mdata.obsp`, or else is inferred in the same way, without being written. It says
    nothing new about cells that have a partner, so these keep theirs; the others get the row of F̃, in the mix
    ρF + (1−ρ)F̃ (``params={"rho": ...}``, 0 by default, 1 in the paper) that the aggregation and both terms for paired cells
    read. So F̃ weighs as much as there are cells without a partner: nothing where all are paired, everything where none is.
    A cell in a batch brings one of its partners along, drawn by weight, and a match that is spread over many cells of the
    batch counts less in the contrast. Equation 9, which pulls a cell's aggregate to the mean of its matches, has the weight
    ``params={"alignment": ...}``: 31.25 in the paper, 0 by default, as it added nothing to these terms on validation cells.

    Cells without any partner, known or inferred, fill a tenth of a batch at most and do not lengthen training: more of them
    made the model learn its pairs by heart.

    Ctrl-C ends training and keeps the best model so far, without calibrated intervals.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30))
    >>> jsc.tl.integrate(mdata, params={"max_steps": 20})
    >>> mdata.obsm["X_jamie"].shape
    (100, 32)
    """
    started = time.perf_counter()
    data = read_modalities(mdata, modalities=modalities, layer=layer, use_rep=use_rep, at_least=2)
    names = [m.name for m in data]
    fitted = get_model(model)(recipe=recipe, **(params or {}))
    options: dict[str, Any] = {"likelihood": likelihood, "batch_key": batch_key, "labels_key": labels_key}
    _check_options(fitted, options)
    data = _annotated(mdata, data, **options)
    counts = count_pairs({m.name: m.rows for m in data}, mdata.obs_names)
    log_pairs(counts)
    seed = int(np.random.default_rng(rng).integers(2**31))
    reducers = {m.name: r for m in data if (r := stored_reducer(mdata, m)) is not None}
    infer_missing = partial(infer, reducers=reducers, rng=np.random.default_rng(seed), progress=progress)
    ordered, F, inferred = _correspondence(mdata, data, correspondence, infer_missing)
    how: dict[str, Any] = {"seed": seed, "device": device, "progress": progress}
    fitted.fit(ordered, F, inferred=inferred, reducers=reducers, **how)
    calibrate = recipe != "paper" if calibrate is None else calibrate
    if calibrate and not fitted.history.interrupted:
        fitted.calibrations = held_out_errors(fitted, ordered, F, inferred, **how)

    mdata = copy_of(mdata) if copy else mdata
    slots = Slots.of(model, key_added)
    record = {
        "params": {"model": model, "recipe": recipe, "obsm": slots.obsm, "seed": seed, "modalities": np.array(names)}
        | fitted.hyperparameters(),
        "history": fitted.history.arrays(),
        "pairing": {column: counts[column].to_numpy() for column in counts},
        "model": fitted.state(),
    }
    write_latents(mdata, slots, fitted, data, record)
    logger.info(
        "finished integrate (%.1f s): added %r, joint latent (mdata.obsm) and one for each modality (mdata[m].obsm); "
        "%r, the model and its history (mdata.uns)",
        time.perf_counter() - started,
        slots.obsm,
        slots.uns,
    )
    return mdata if copy else None


def _check_options(model: Model, options: Mapping[str, Any]) -> None:
    """Raise where an option is given that the model does not read."""
    given = [name for name, value in options.items() if value is not None]
    if unknown := [name for name in given if name not in model.options]:
        msg = f'The model {model.name!r} takes no {" and no ".join(unknown)}. Leave it out, or take model="clue".'
        raise ValueError(msg)


def _annotated(
    mdata: MuData,
    data: Sequence[Modality],
    *,
    likelihood: str | Mapping[str, str] | None,
    batch_key: str | Sequence[str] | None,
    labels_key: str | None,
) -> list[Modality]:
    """The modalities, with what the user says of their values, and batches and labels of their cells."""
    likelihoods = per_modality("likelihood", likelihood, [m.name for m in data])
    keys = as_keys(batch_key)
    return [
        replace(
            m,
            likelihood=likelihoods[m.name],
            batches=batches_of(mdata, m.name, m.obs_names, keys, known=True),
            labels=None if labels_key is None else strings(obs_column(mdata, m.name, labels_key).loc[m.obs_names]),
        )
        for m in data
    ]


def _correspondence(
    mdata: MuData,
    data: Sequence[Modality],
    given: str | sp.spmatrix | sp.sparray | None,
    infer_missing: Callable[
        [Sequence[Modality], Correspondence, list[tuple[int, int]]], dict[tuple[int, int], Solution]
    ],
) -> tuple[list[Modality], Correspondence, Correspondence]:
    """The modalities with their cells in the order of their names, F, and what is inferred of it."""
    key = given if isinstance(given, str) and is_inferred(mdata, given) else None  # F̃ by its name is F̃
    index = {m.name: m.rows for m in data}
    known = None if given is None or key is not None else read_correspondence(mdata, given, index)
    links = read_inferred(mdata, key or INFERRED)
    ordered, order = in_order_of_names(mdata, data)
    F = correspondences(ordered, None if known is None else known[order][:, order])
    wanted = [ab for ab, part in F.items() if min(n_alone(part)) >= MIN_CELLS]
    if links is None:
        tied = tied_by_others(F, len(ordered), at_least=MIN_CELLS)
        wanted = [ab for ab in wanted if ab not in tied]
    inferred: Correspondence = {}
    if wanted and links is not None:
        found = inferred_correspondences(ordered, links[order][:, order])
        inferred = {(a, b): block for (a, b), block in found.items() if (min(a, b), max(a, b)) in wanted}
    elif wanted:
        found = {ab: sp.csr_matrix(solution.coupling) for ab, solution in infer_missing(ordered, F, wanted).items()}
        inferred = {ab: rows_to_one(block) for ab, block in found.items()}
        inferred |= {(b, a): rows_to_one(block.T) for (a, b), block in found.items()}
    for (a, b), block in inferred.items():
        n = int((block.getnnz(axis=1) > 0).sum())
        logger.info("correspondence inferred: %d cells of %r have matches in %r", n, data[a].name, data[b].name)
    check_linked(ordered, F, inferred)
    return ordered, F, inferred


def write_latents(mdata: MuData, slots: Slots, model: Model, data: Sequence[Modality], record: dict[str, Any]) -> None:
    """Encode every cell of every modality given and write the embedding."""
    latents = {m.name: model.encode(m.name, m.X, m.rep) for m in data}
    joint = model.joint({m.name: (m.rows, latents[m.name]) for m in data}, mdata.n_obs)
    by_cell = {m.name: (m.obs_names, model.embed(latents[m.name])) for m in data}
    write_integration(mdata, slots, joint=model.embed(joint), latents=by_cell, record=record)
