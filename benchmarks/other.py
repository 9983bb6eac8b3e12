"""CITE-seq of bone marrow (a random split, and one batch from the other) and the simulation.

python benchmarks/other.py [--seeds 0 1 2] [--no-peers]
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec

import numpy as np
from _scores import Scores, alignment, held_out, in_sample, medians, scglue, show

import jamie_sc as jsc


def cite_seq(seeds: list[int], *, peers: bool) -> None:
    mdata = jsc.datasets.bmmc_cite()
    splits = {
        "a random split": np.random.default_rng(0).permutation(mdata.n_obs)[:120],
        "trained on batch s1d1, tested on s1d2": np.flatnonzero(mdata.obs["batch"] == "s1d2"),
    }
    for title, test in splits.items():
        rows = {"jamie_sc": medians(lambda seed, test=test: held_out(mdata, test, seed), seeds)}
        if peers and find_spec("scglue"):
            rows["scglue SCCLUEModel"] = medians(lambda seed, test=test: scglue(mdata, test, seed), seeds[:1])
        show(f"CITE-seq, {title}, held-out cells", rows)


def simulated(seeds: list[int]) -> None:
    def seen(seed: int) -> Scores:
        mdata = jsc.datasets.simulated(rng=seed)
        labels, latent = mdata.obs["cell_type"].astype(str).to_numpy(), mdata.obsm["latent"]
        return in_sample(mdata, seed) | {"LTA, true latent": alignment([latent, latent], labels)["LTA"]}

    def unseen(seed: int) -> Scores:
        test = np.random.default_rng(seed).permutation(300)[:60]
        return held_out(jsc.datasets.simulated(rng=seed), test, seed)

    show("Simulated, all 300 cells seen", {"jamie_sc": medians(seen, seeds)})
    show("Simulated, 60 held-out cells", {"jamie_sc": medians(unseen, seeds)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--no-peers", action="store_true")
    args = parser.parse_args()
    cite_seq(args.seeds, peers=not args.no_peers)
    simulated(args.seeds)


if __name__ == "__main__":
    main()
