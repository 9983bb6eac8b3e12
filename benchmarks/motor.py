"""Patch-seq of the mouse motor cortex: this package's two recipes, and its peers where they are installed, in one run.

    python benchmarks/motor.py [--seeds 0 1 2] [--paper-seeds 0] [--no-peers]

The paper's recipe is trained with dropout 0 for the cells it saw and 0.6 for held-out ones, as in its section 4.10.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec

import numpy as np
from _scores import baselines, dense, held_out, imputation, in_sample, medians, scglue, show, split

import jamie_sc as jsc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--paper-seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--no-peers", action="store_true")
    args = parser.parse_args()
    mdata = jsc.datasets.patchseq_motor()
    test = np.random.default_rng(0).permutation(mdata.n_obs)[:241]

    seen = {"jamie_sc": medians(lambda seed: in_sample(mdata, seed), args.seeds)}
    paper = {"recipe": "paper"}
    if args.paper_seeds:
        seen["jamie_sc, paper recipe"] = medians(lambda seed: in_sample(mdata, seed, **paper), args.paper_seeds)
    show("All 1,208 cells paired and seen", seen)
    unseen = {"jamie_sc": medians(lambda seed: held_out(mdata, test, seed), args.seeds)}
    if args.paper_seeds:
        dropout = {"params": {"dropout": 0.6}}
        unseen["jamie_sc, paper recipe"] = medians(
            lambda seed: held_out(mdata, test, seed, **paper, **dropout), args.paper_seeds
        )
    if not args.no_peers and find_spec("scglue"):
        unseen["scglue SCCLUEModel"] = medians(lambda seed: scglue(mdata, test, seed), args.paper_seeds or [0])
    train, query = split(mdata, test)
    for source, target in (("rna", "ephys"), ("ephys", "rna")):
        predictions = baselines(train, query, source, target)
        for name, imputed in predictions.items():
            scores = imputation(dense(query[target].X), imputed, predictions["KNN, k = 5"], f"{source} -> {target}")
            unseen.setdefault(name, {}).update(scores)

    show("241 held-out cells, trained on the other 967", unseen)
    for title, rows in (("seen", seen), ("held out", unseen)):
        if "jamie_sc, paper recipe" in rows:
            ratio = rows["jamie_sc, paper recipe"]["seconds"] / rows["jamie_sc"]["seconds"]
            print(f"\nTraining time, paper recipe over default, {title}: {ratio:.0f}")


if __name__ == "__main__":
    main()
