"""Cells without a partner: correspondence inferred from nothing, and trained with whatever pairing there is.

    python benchmarks/partial.py [--parts scgem motor simulated speed scale] [--seeds 0 1 2]

In every part the cells are the same in both modalities, names are hidden, and rows are shuffled in each modality: some data
sets are sorted by cell type, and a method that breaks ties by row would profit from that.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import time
from typing import TYPE_CHECKING, Any

import mudata as md
import numpy as np
import pandas as pd
from _scores import Scores, alignment, dense, held_out, medians, show

import jamie_sc as jsc
from jamie_sc import metrics
from jamie_sc._core._hide import hide_pairs

if TYPE_CHECKING:
    import scipy.sparse as sp
    from mudata import MuData


def hidden(mdata: MuData, fraction: float, seed: int) -> MuData:
    """The same cells, all but a fraction of them with another name in each modality, rows shuffled."""
    n_left = round(fraction * mdata.n_obs)
    generator = np.random.default_rng(seed)
    # The place of each cell is kept in obs, to score by; nothing of the package reads obs.
    mdata = mdata[:].copy()
    for mod in mdata.mod.values():
        mod.obs["place"] = mdata.obs_names.get_indexer(mod.obs_names)
    return hide_pairs(mdata, list(mdata.mod), cells=mdata.obs_names, n_left=n_left, rng=generator)


def in_place(mdata: MuData, name: str, values: Any) -> Any:
    """Rows of a modality in the order they had before names were hidden."""
    return values[np.argsort(mdata[name].obs["place"].to_numpy())]


def cell_types(mdata: MuData) -> np.ndarray:
    """Labels of the cells in the order before hiding."""
    a = next(iter(mdata.mod))
    return in_place(mdata, a, mdata[a].obs["cell_type"].astype(str).to_numpy())


def coupling(mdata: MuData) -> tuple[sp.csr_matrix, np.ndarray]:
    """The correspondence of the two modalities, cells in the order before hiding; and their labels."""
    a, b = mdata.mod
    rows = [in_place(mdata, name, mdata.obs_names.get_indexer(mdata[name].obs_names)) for name in (a, b)]
    return mdata.obsp["correspondence"][rows[0]][:, rows[1]].tocsr(), cell_types(mdata)


def matched(mdata: MuData, seed: int = 0, *, project: bool = True, **options: Any) -> Scores:
    """Label of each cell's best match, and FOSCTTM of the barycentric projection onto the second modality's values."""
    started = time.perf_counter()
    jsc.tl.match_cells(mdata, rng=seed, progress=False, **options)
    seconds = time.perf_counter() - started
    F, labels = coupling(mdata)
    best = np.asarray(F.argmax(axis=1)).ravel()
    record = next(value for key, value in mdata.uns["correspondence"].items() if key != "params")
    scores = {"label of best match": float((labels[best] == labels).mean())}
    if project:
        b = list(mdata.mod)[1]
        Y = dense(in_place(mdata, b, mdata[b].X))
        scores["FOSCTTM"] = metrics.foscttm((F @ Y).astype(np.float32), Y.astype(np.float32))
    rivals = float(len(record.get("rivals", [])))
    return scores | {"objective": float(record["objective"]), "rivals": rivals, "seconds": seconds}


def latents(mdata: MuData, seed: int, **options: Any) -> Scores:
    """LTA (k = 5) and FOSCTTM after `tl.integrate`."""
    started = time.perf_counter()
    jsc.tl.integrate(mdata, rng=seed, progress=False, **options)
    seconds = time.perf_counter() - started
    z = [in_place(mdata, name, mdata[name].obsm["X_jamie"]) for name in mdata.mod]
    return alignment(z, cell_types(mdata)) | {"seconds": seconds}


def scgem(seeds: list[int]) -> None:
    mdata = jsc.datasets.scgem()
    runs = {
        "match_cells": lambda seed: matched(hidden(mdata, 0, seed), seed),
        'match_cells, method="unioncom"': lambda seed: matched(hidden(mdata, 0, seed), seed, method="unioncom"),
    }
    show("scGEM, no pairs, coupling", {name: medians(run, seeds) for name, run in runs.items()})
    each = {f"seed {seed}": latents(hidden(mdata, 0, seed), seed) for seed in seeds}
    show("scGEM, no pairs, tl.integrate", each | {"median": pd.DataFrame(each.values()).median().to_dict()})


def motor(seeds: list[int]) -> None:
    mdata = jsc.datasets.patchseq_motor()
    test = np.random.default_rng(0).permutation(mdata.n_obs)[:241]

    def run(fraction: float, seed: int, **options: Any) -> Scores:
        return held_out(mdata, test, seed, prepare=lambda train: hidden(train, fraction, seed), **options)

    rows = {}
    for fraction in (1, 0.75, 0.5, 0.25, 0.1):
        rows[f"{fraction:.0%} of the pairs"] = medians(lambda seed, f=fraction: run(f, seed), seeds)
        if fraction < 1:
            rows[f"{fraction:.0%}, nothing inferred"] = medians(
                lambda seed, f=fraction: run(f, seed, params={"rho": 1.0}), seeds
            )
    show("Motor cortex, 241 held-out cells (KNN has all pairs)", rows)


def simulated(seeds: list[int]) -> None:
    rows = {
        f"{fraction:.0%} paired": medians(
            lambda seed, f=fraction: latents(hidden(jsc.datasets.simulated(rng=seed), f, seed), seed), seeds
        )
        for fraction in (1, 0.75, 0.5, 0.25, 0)
    }
    show("Simulated, 300 cells", rows)


def speed() -> None:
    """The default against UnionCom at 1,000 cells."""
    for method in ("gw", "unioncom"):  # libraries are imported on first use
        matched(hidden(jsc.datasets.simulated(50), 0, 0), method=method)
    mdata = jsc.datasets.simulated(1000)
    rows = {method: matched(hidden(mdata, 0, 0), method=method) for method in ("gw", "unioncom")}
    show("Simulated, 1,000 x 1,000 cells, no pairs", rows)
    print(f"\nunioncom takes {rows['unioncom']['seconds'] / rows['gw']['seconds']:.0f} times as long")


def scale(seeds: list[int]) -> None:
    """Large data; the simulation's branches are alike, so labels are also counted up to an exchange of branches."""
    rows = {}
    for n in (2_000, 20_000):
        for seed in seeds:
            mdata = hidden(jsc.datasets.simulated(n, rng=seed), 0, seed)
            scores = matched(mdata, seed, project=False)  # n x n distances would take longer than the matching
            F, labels = coupling(mdata)
            best = labels[np.asarray(F.argmax(axis=1)).ravel()]
            table = (
                pd.crosstab(labels, best, normalize="all").reindex(columns=np.unique(labels), fill_value=0).to_numpy()
            )
            turns = itertools.permutations(range(len(table)))
            exchanged = max(sum(table[i, j] for i, j in enumerate(turn)) for turn in turns)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            rows[f"{n:,} cells, seed {seed}"] = scores | {"label, branches exchanged": exchanged, "peak GB": peak}
    show("Simulated, no pairs", rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ["scgem", "motor", "simulated", "speed", "scale"]
    parser.add_argument("--parts", nargs="+", default=parts, choices=parts)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    md.set_options(pull_on_update=False)  # as mudata 0.4 does, and without its warning
    for part in args.parts:
        if part == "speed":
            speed()
        else:
            globals()[part](args.seeds)


if __name__ == "__main__":
    main()
