"""The inferred correspondence of each two modalities that both have cells without a partner."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import align
from .._core._pairing import sure_pairs
from ..align._best_matches import best_matches
from ..models._reducers import Reducer, default_n_components

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from .._core._modalities import Modality
    from .._core._pairing import Correspondence
    from ..align import Solution

FEW_FEATURES = 50
"""Cells of fewer features are compared in these, others in principal components; as scanpy.pp.neighbors does."""
UNIONCOM_CELLS = 5_000
"""More are not for a method that takes their number to the third power, thousands of times."""
UNIONCOM_REACH = 10.0
"""Largest distance given to UnionCom, whose penalty has a scale of its own."""


def infer(
    data: Sequence[Modality],
    F: Correspondence,
    wanted: Sequence[tuple[int, int]],
    *,
    method: str = "gw",
    n_neighbors: int | None = None,
    reducers: Mapping[str, Reducer],
    rng: np.random.Generator,
    progress: bool | None,
    **options: Any,
) -> dict[tuple[int, int], Solution]:
    """Match the cells of each two modalities wanted, given F of what is known."""
    spaces = {k: _space(data[k], reducers.get(data[k].name)) for k in sorted({k for ab in wanted for k in ab})}
    solve = {"gw": _gromov_wasserstein, "unioncom": _unioncom}[method]
    found = {}
    for a, b in wanted:
        names = data[a].name, data[b].name
        pairs = sure_pairs(F[a, b])
        found[a, b] = solve(
            spaces[a], spaces[b], pairs, names=names, n_neighbors=n_neighbors, rng=rng, progress=progress, **options
        )
    return found


def _space(m: Modality, reducer: Reducer | None) -> NDArray[np.float32]:
    """What a modality's cells are compared in, (cells, dimensions)."""
    if m.rep is not None:
        return m.rep
    n_components = default_n_components(*m.X.shape)
    reducer = reducer or Reducer.fit_inputs(m.X, n_components=n_components, clip=5.0, own_units=True)
    return reducer.transform(m.X) if m.X.shape[1] >= FEW_FEATURES else reducer.features(m.X)


def _gromov_wasserstein(
    X: NDArray[np.float32], Y: NDArray[np.float32], pairs: NDArray[np.intp], **options: Any
) -> Solution:
    return align.gromov_wasserstein(X, Y, pairs=pairs, **options)


def _unioncom(
    X: NDArray[np.float32],
    Y: NDArray[np.float32],
    pairs: NDArray[np.intp],
    *,
    names: tuple[str, str],
    n_neighbors: int | None,
    rng: np.random.Generator,
    progress: bool | None,
    n_matches: int = 30,
    distance: str = "geodesic",
    metric: str = "euclidean",
    **options: Any,
) -> Solution:
    """Equation 8; a distance of 10 is the largest."""
    for values, name in zip((X, Y), names, strict=True):
        if len(values) > UNIONCOM_CELLS:
            msg = (
                f'{name!r} has {len(values)} cells; method="unioncom" takes up to {UNIONCOM_CELLS}, as its cost grows with '
                'their third power. Take method="gw".'
            )
            raise ValueError(msg)
    graph: dict[str, Any] = {"distance": distance, "metric": metric, "n_neighbors": n_neighbors or 10}
    K_x, K_y = (align.distances(values, name=name, **graph) for values, name in zip((X, Y), names, strict=True))
    scale = {"K_x": UNIONCOM_REACH * K_x / K_x.max(), "K_y": UNIONCOM_REACH * K_y / K_y.max()}
    solution = align.unioncom(**scale, known=pairs if len(pairs) else None, progress=progress, **options)
    return replace(solution, coupling=best_matches(np.asarray(solution.coupling), n_matches))
