"""Alignment of paired cells by this package and by the methods of the JAMIE paper's Figure 3c, every cell seen.

    python benchmarks/alignment.py [--data scgem simulated patchseq_motor] [--methods ...] [--figure FOLDER]

The others see standardised features, reduced to 512 principal components where there are more (section 4.11). CCA and the
manifold alignments are told all pairs, as this package is; MMD-MA, UnionCom and Gromov-Wasserstein are told none. That is why FOSCTTM here says
little of the former: they were shown what it asks. MMD-MA and UnionCom take minutes each at 1,208 cells.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from _scores import Scores, alignment, dense, in_sample, show, standardized
from sklearn.decomposition import PCA

import jamie_sc as jsc

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

    Latents = tuple[np.ndarray, np.ndarray]

DATA: dict[str, Callable[[], MuData]] = {
    "scgem": jsc.datasets.scgem,
    "simulated": jsc.datasets.simulated,
    "patchseq_motor": jsc.datasets.patchseq_motor,
}


def unioncom(X: np.ndarray, Y: np.ndarray) -> Latents:
    """Each cell of X where its matches in Y are, on average: the coupling's barycentric projection."""
    from scipy.sparse.csgraph import shortest_path
    from sklearn.neighbors import kneighbors_graph

    def geodesic(values: np.ndarray) -> np.ndarray:
        """UnionCom's distances: along a graph of neighbours, as few of them as connect it."""
        for k in range(10, len(values), 5):
            hops = shortest_path(kneighbors_graph(values, k, mode="distance"), directed=False)
            if np.isfinite(hops).all():
                break
        return 10 * hops / hops.max()

    coupling = jsc.align.unioncom(geodesic(X), geodesic(Y), progress=False).coupling
    return coupling / coupling.sum(axis=1, keepdims=True) @ Y, Y


def gromov_wasserstein(X: np.ndarray, Y: np.ndarray) -> Latents:
    """The barycentric projection again; rows of Y shuffled, so that no tie is broken by the true order."""
    order = np.random.default_rng(0).permutation(len(Y))
    coupling = jsc.align.gromov_wasserstein(X, Y[order], progress=False).coupling
    return np.asarray((coupling @ Y[order]) / coupling.sum(axis=1)), Y


# A method: two matrices, row i of both the same cell, to two latents of one width. Add a line for another one.
METHODS: dict[str, Callable[[np.ndarray, np.ndarray], Latents]] = {
    "CCA": jsc.align.cca,
    "LMA": jsc.align.linear_manifold_alignment,
    "NLMA": jsc.align.nonlinear_manifold_alignment,
    "MMD-MA, no pairs": jsc.align.mmd_ma,
    "UnionCom, no pairs": unioncom,
    "Gromov-Wasserstein, no pairs": gromov_wasserstein,
}


def inputs(mdata: MuData) -> list[np.ndarray]:
    """Standardised features of each modality, or 512 components of them."""
    matrices = []
    for adata in mdata.mod.values():
        X, _ = standardized(dense(adata.X), dense(adata.X))
        matrices.append(PCA(min(512, len(X)), random_state=0).fit_transform(X) if X.shape[1] > 512 else X)
    return matrices


def score(method: Callable[[np.ndarray, np.ndarray], Latents], mdata: MuData) -> Scores:
    X, Y = inputs(mdata)
    started = time.perf_counter()
    latents = method(X, Y)
    seconds = time.perf_counter() - started
    return alignment(latents, mdata.obs["cell_type"].astype(str).to_numpy()) | {"seconds": seconds}


def draw(rows: dict[str, Scores], path: Path) -> None:
    """Figure 3c."""
    scores = pd.DataFrame.from_dict(rows, orient="index").rename_axis("method").reset_index()
    ax = jsc.pl.alignment_scores(scores.rename(columns=str.lower), show=False)
    ax.figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--methods", nargs="+", choices=["jamie_sc", *METHODS], default=["jamie_sc", *METHODS])
    parser.add_argument("--figure", type=Path, help="folder to draw a figure for each data set into")
    args = parser.parse_args()
    for name in args.data:
        mdata = DATA[name]()
        rows = {}
        for method in args.methods:
            rows[method] = in_sample(mdata, 0) if method == "jamie_sc" else score(METHODS[method], mdata)
        show(f"{name}, all {mdata.n_obs:,} cells paired and seen", rows)
        if args.figure is not None:
            args.figure.mkdir(parents=True, exist_ok=True)
            draw(rows, args.figure / f"{name}.png")


if __name__ == "__main__":
    main()
