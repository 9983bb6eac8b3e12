"""Infer which cells of two modalities correspond that share no name."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from .._compat import copy_of
from .._core._modalities import read_modalities
from .._core._pairing import INFERRED, correspondences, count_pairs, log_pairs, n_alone, rows_to_one
from .._core._slots import result_key
from .._core._write import write_correspondence
from .._logging import logger
from ..models._base import MIN_CELLS
from ._infer import infer
from ._match_latent import match_latent, read_embedding
from ._read import in_order_of_names, stored_reducer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from .._core._modalities import Modality
    from .._core._pairing import Correspondence
    from ..align import Solution

    Found = dict[tuple[int, int], tuple[sp.csr_matrix, dict[str, Any]]]


def match_cells(
    mdata: MuData,
    *,
    modalities: Sequence[str] | None = None,
    method: Literal["gw", "unioncom", "latent"] = "gw",
    layer: str | Mapping[str, str] | None = None,
    use_rep: str | Mapping[str, str] | None = None,
    key: str | None = None,
    n_neighbors: int | None = None,
    n_matches: int = 30,
    rng: int | np.random.Generator | None = 0,
    progress: bool | None = None,
    key_added: str = INFERRED,
    copy: bool = False,
    **kwargs: Any,
) -> MuData | None:
    """Infer the correspondence of cells that share no name (F̃ of section 4.6 of JAMIE, M of section 5.2 of CLUE).

    For each two modalities that both have cells without a partner, these cells are matched: by the geometry of their
    modality, where cells correspond whose distances to the others do; or, after an integration, by the embedding
    (`method="latent"`), where cells correspond that lie near each other. Cells that share a name are known pairs; they stay
    with each other and, if there are ten or more, tell how the geometries of the two modalities go together.

    Parameters
    ----------
    mdata
        Two or more modalities, none or some of whose cells share a name.
    modalities
        Names of the modalities to match; default all, for `"latent"` all that were embedded.
    method
        `"gw"`: Gromov-Wasserstein, fused with what known pairs tell (:func:`jamie_sc.align.gromov_wasserstein`), on
        landmarks beyond 2,000 cells. `"unioncom"`: Equation 8 by UnionCom's primal-dual method
        (:func:`jamie_sc.align.unioncom`), up to 5,000 cells. `"latent"`: Equation 16 of CLUE on the embedding that
        :func:`jamie_sc.tl.integrate` or :func:`jamie_sc.tl.map_query` wrote: the Jaccard index of two cells' nearest
        neighbours in both modalities (see :func:`jamie_sc.metrics.matching_score`). It is the one to take where a model
        was trained on cells measured in both modalities. Any number of cells.
    layer
        Layer that holds the values, for all or for each modality; default `X`. Counts are logged.
    use_rep
        Key of `.obsm` whose distances are compared, for all or for each modality. By default the values where there are
        fewer than 50 features, else principal components.
    key
        Which integration, where `mdata` holds several; for `"latent"` only.
    n_neighbors
        Neighbours in the graph that distances are measured along. By default `"gw"` averages over several sizes and
        `"unioncom"` takes 10. For `"latent"` the size of a neighbourhood, by default 1 as in the paper: see the notes.
    n_matches
        Matches kept for each cell.
    rng
        Seed, or a generator to draw it from. Nothing is drawn for `"latent"`.
    progress
        Show a bar; default only on a terminal or in a notebook.
    key_added
        Name of the slots. :func:`jamie_sc.tl.integrate` finds `"correspondence"` by itself, another name through its
        argument `correspondence`.
    copy
        Return a copy instead of writing into `mdata`.
    **kwargs
        For the method: `epsilon`, `marginals` (`"semi-relaxed"` where the composition of the modalities differs) and
        `n_landmarks` of :func:`jamie_sc.align.gromov_wasserstein`; `distance`, `metric` of
        :func:`jamie_sc.align.distances` and `max_iter`, `tol` of :func:`jamie_sc.align.unioncom`.

    Returns
    -------
    `None`, or the copy. Writes

    `mdata.obsp["correspondence" | key_added]`
        Sparse, (cells, cells), float32: how much cell i of one modality is matched with cell j of another. For each two
        modalities a row sums to 1; known pairs stand on the diagonal.
    `mdata.obs["correspondence_confidence" | key_added + "_confidence"]`
        How concentrated a cell's matches are, not how right: 1 minus the entropy of its row, relative to a match with all
        cells of the other modality. 1 for a known pair or a single match; NaN for cells that were not matched.
    `mdata.uns["correspondence" | key_added]`
        `params`; and for each two modalities `objective` (0: distances agree, 1: chance; for UnionCom, Equation 8),
        `row_residual` and `column_residual` (largest violation of the sums), `n_iter`, `converged`, `rivals`
        (objectives of unlike solutions that are nearly as good, in units of the best one's). For `"latent"` instead
        `n_cells`, how many cells of either modality were matched, and `jaccard`, the mean index of their best matches
        (1: a cell and its best match have the same neighbours).

    Raises
    ------
    KeyError
        If a modality, layer, representation or integration does not exist, or there are several integrations and no
        `key`.
    ValueError
        If no two modalities have cells to match, there are fewer cells than neighbours, or too many for the method; or
        if an option is given that the method does not have, or `key_added` is the name of an integration.

    See Also
    --------
    jamie_sc.tl.integrate : trains with the correspondence; infers it where nobody did.
    jamie_sc.get.correspondence : the matches as a table.

    Notes
    -----
    Geometry cannot tell a shape from its mirror image. A warning says when unlike solutions are nearly as good; a few known
    pairs decide between them.

    By `"latent"` each cell with an embedding has matches: its nearest neighbours in the other modality are always among
    them. Larger neighbourhoods give it more of them, but less to the right one. On held-out CITE-seq cells (120 of
    bmmc_cite, embedded by JAMIE trained on the others) 1 neighbour gave the true partner .26 of the weight on average and
    named it for 37 % of the cells, among 1.6 matches a cell; 5 neighbours gave it .12 and named it for 94 %, among 13
    matches. The best match had the right cell type for 70 % and 66 %.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=120, n_features=(20, 30), paired_fraction=0.25)
    >>> jsc.tl.match_cells(mdata)
    >>> mdata.obsp["correspondence"].shape
    (120, 120)

    Or by what a model learned from the cells that share a name:

    >>> jsc.tl.integrate(mdata, params={"max_steps": 20})
    >>> jsc.tl.match_cells(mdata, method="latent")
    >>> mdata.uns["correspondence"]["modality1-modality2"]["n_cells"]
    array([45, 45])
    """
    started = time.perf_counter()
    _check_options(method, n_matches, key=key, layer=layer, use_rep=use_rep, **kwargs)
    params: dict[str, Any] = {"method": method, "n_matches": n_matches} | kwargs
    if method == "latent":
        n_neighbors = 1 if n_neighbors is None else n_neighbors
        data, params["key"] = read_embedding(mdata, modalities=modalities, key=key)
        match = partial(match_latent, n_neighbors=n_neighbors, n_matches=n_matches)
    else:
        data = read_modalities(mdata, modalities=modalities, layer=layer, use_rep=use_rep, at_least=2)
        options = {"method": method, "n_neighbors": n_neighbors, "n_matches": n_matches, "progress": progress} | kwargs
        reducers = {m.name: r for m in data if (r := stored_reducer(mdata, m)) is not None}
        match = partial(_match_geometry, reducers=reducers, rng=np.random.default_rng(rng), **options)
    key_added = result_key(mdata, key_added)
    names = [m.name for m in data]
    log_pairs(count_pairs({m.name: m.rows for m in data}, mdata.obs_names))
    ordered, order = in_order_of_names(mdata, data)
    found: Found = match(ordered, correspondences(ordered))
    if not found:
        msg = (
            f"There is nothing to match: no two of the modalities {names} both have cells without a partner in the other. See "
            "jamie_sc.pp.pairing(mdata)."
        )
        raise ValueError(msg)
    mdata = copy_of(mdata) if copy else mdata
    links, confidence = _links(ordered, {ab: coupling for ab, (coupling, _) in found.items()}, mdata.n_obs)
    back = np.argsort(order)
    params |= {"modalities": np.array(names)} | ({} if n_neighbors is None else {"n_neighbors": n_neighbors})
    record = {"params": params} | {f"{names[a]}-{names[b]}": how for (a, b), (_, how) in found.items()}
    write_correspondence(mdata, key_added, links=links[back][:, back], confidence=confidence[back], record=record)
    logger.info(
        "finished match_cells (%.1f s): added %r, matches of %d cells (mdata.obsp), and how sure they are (mdata.obs[%r])",
        time.perf_counter() - started,
        key_added,
        np.isfinite(confidence).sum(),
        f"{key_added}_confidence",
    )
    return mdata if copy else None


def _check_options(method: str, n_matches: int, *, key: str | None, **options: Any) -> None:
    """Raise if there is no such method, or it has no such option."""
    if method not in ("gw", "unioncom", "latent"):
        msg = f'There is no method {method!r}. Choose "gw", "unioncom" or "latent".'
        raise ValueError(msg)
    if n_matches < 1:
        msg = f"n_matches must be at least 1, not {n_matches}."
        raise ValueError(msg)
    if method != "latent" and key is not None:
        msg = f'key={key!r} names an integration, which method={method!r} does not read. Take method="latent".'
        raise ValueError(msg)
    given = [name for name, value in options.items() if value is not None]
    if method == "latent" and given:
        msg = f'method="latent" reads the embedding and has no {", ".join(given)}. Leave it out, or take method="gw".'
        raise ValueError(msg)


def _match_geometry(data: Sequence[Modality], F: Correspondence, **options: Any) -> Found:
    """Coupling and record of each two modalities with cells to match."""
    alone = {ab: min(n_alone(known)) for ab, known in F.items()}
    wanted = [ab for ab, n in alone.items() if n >= MIN_CELLS] or [ab for ab, n in alone.items() if n]
    solutions = infer(data, F, wanted, **options)
    return {ab: (sp.csr_matrix(solution.coupling), _record(solution)) for ab, solution in solutions.items()}


def _links(
    data: Sequence[Modality], couplings: Mapping[tuple[int, int], sp.csr_matrix], n_obs: int
) -> tuple[sp.csr_matrix, NDArray[np.float64]]:
    """The couplings as one matrix over MuData rows, rows of sum 1 for each two modalities; and each cell's confidence."""
    links: Any = sp.csr_matrix((n_obs, n_obs), dtype=np.float32)  # type: ignore[arg-type]
    confidence = np.full(n_obs, np.nan)
    for (a, b), coupling in couplings.items():
        for one, other, matches in ((data[a], data[b], coupling), (data[b], data[a], coupling.T)):
            block = rows_to_one(matches)
            entries = block.tocoo()
            placed = sp.csr_matrix((entries.data, (one.rows[entries.row], other.rows[entries.col])), shape=links.shape)
            links = links.maximum(placed)
            confidence[one.rows] = np.fmax(confidence[one.rows], _confidence(block, other.n_obs))
    return links.astype(np.float32), confidence


def _confidence(block: sp.csr_matrix, n_others: int) -> NDArray[np.float64]:
    """1 minus the entropy of each row, relative to a match with all others; NaN for an empty row."""
    n = np.diff(block.indptr)
    row = np.repeat(np.arange(len(n)), n)
    surprise = -block.data * np.log(np.maximum(block.data, np.finfo(np.float32).tiny))
    entropy = np.bincount(row, surprise, len(n)) / np.log(max(n_others, 2))
    return np.where(n > 0, np.clip(1 - entropy, 0, 1), np.nan)


def _record(solution: Solution) -> dict[str, Any]:
    """What an .h5mu can hold of how it went."""
    record = {
        name: getattr(solution, name)
        for name in ("objective", "row_residual", "column_residual", "n_iter", "converged")
    }
    extra = {} if solution.epsilon is None else {"epsilon": solution.epsilon}
    return record | extra | {"rivals": np.array(solution.rivals, dtype=float)}
