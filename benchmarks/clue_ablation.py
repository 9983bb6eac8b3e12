"""Which terms of CLUE's loss matter: matching score of held-out cells without each of them, in the layout of the paper's Table 5.

    python benchmarks/clue_ablation.py [--splits 5] [--seeds 0 1 2] [--recipe default] > table.md

120 of the 600 CITE-seq cells are held out; split i is drawn by `default_rng(i)`, the first one is that of `clue.py`. Rows are means
over splits and seeds. The difference to the full model is paired, same split and same seed, with its standard error over
splits, each split's seeds averaged: test cells of one split are the same for all seeds. Each run's scores go to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from _scores import Scores, matching, split

import jamie_sc as jsc

if TYPE_CHECKING:
    from mudata import MuData

# The paper's columns, and the weight in `params` that 0 takes away: cross-encoders, Equation 9, Equation 12.
TERMS = {"L_cross": "cross", "L_MSE": "alignment", "L_D": "adversary"}
COLUMNS = {"matching rna -> adt": "GEX2ADT", "matching adt -> rna": "ADT2GEX"}


def score(mdata: MuData, i: int, seed: int, **options: Any) -> Scores:
    """Matching scores of the i-th split's held-out cells, both ways and their mean."""
    train, query = split(mdata, np.random.default_rng(i).permutation(mdata.n_obs)[:120])
    jsc.tl.integrate(train, rng=seed, progress=False, calibrate=False, **options)
    jsc.tl.map_query(query, train)
    latents = [query[m].obsm[f"X_{options['model']}"] for m in mdata.mod]
    scores = {COLUMNS[name]: value for name, value in matching(latents, list(mdata.mod)).items()}
    return scores | {"Overall": float(np.mean(list(scores.values())))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--model", default="clue")
    parser.add_argument("--recipe", default="default")
    args = parser.parse_args()
    mdata = jsc.datasets.bmmc_cite()
    runs = []
    for i, seed, kept in product(range(args.splits), args.seeds, product((True, False), repeat=len(TERMS))):
        params = {weight: 0.0 for weight, keep in zip(TERMS.values(), kept, strict=True) if not keep}
        scores = score(mdata, i, seed, model=args.model, recipe=args.recipe, params=params)
        runs.append(dict(zip(TERMS, kept, strict=True)) | {"split": i, "seed": seed} | scores)
        print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    show(pd.DataFrame(runs))


def show(runs: pd.DataFrame) -> None:
    """Table 5 in Markdown, best first."""
    by_split = runs.groupby([*TERMS, "split"])[[*COLUMNS.values(), "Overall"]].mean()
    means = by_split.groupby(list(TERMS)).mean().sort_values("Overall", ascending=False)
    overall = by_split["Overall"].unstack("split")
    difference = overall - overall.loc[(True,) * len(TERMS)]
    print("| " + " | ".join([*TERMS, *means.columns, "against all three"]) + " |")
    print("|" + " --- |" * (len(TERMS) + means.shape[1] + 1))
    for kept, row in means.iterrows():
        mean, error = difference.loc[kept].mean(), difference.loc[kept].sem()
        against = "" if all(kept) else f"{mean:+.4f} ± {error:.4f}"
        cells = ["✓" if keep else "" for keep in kept] + [f"{value:.4f}" for value in row] + [against]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
