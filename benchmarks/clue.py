"""CLUE as this package has it, and as scglue has it where that is installed, on cells that training did not see, in one run.

    OMP_NUM_THREADS=1 python benchmarks/clue.py [--seeds 0 1 2] [--blocks held_out counts subsets] [--no-peers] > tables.md

Tables of medians over seeds go to stdout. The scores of each run go to stderr as soon as they are there, one line of JSON each,
and to the end of the file `--save`. All rows of a seed run one after the other, so that their times can be compared.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import time
from functools import partial
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import mudata as md
import numpy as np
import pandas as pd
from _scores import Scores, baselines, dense, held_out, imputation, scglue, show, split, train_scglue

import jamie_sc as jsc
from jamie_sc import metrics
from jamie_sc.models._likelihoods import likelihood_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mudata import MuData

# Data, how many test cells, and what was to be reached.
DATA: dict[str, tuple[Callable[[], MuData], int, Scores]] = {
    "bmmc_cite": (
        jsc.datasets.bmmc_cite,
        120,
        {"LTA": 0.60, "FOSCTTM": 0.05, "rna -> adt": 0.75, "adt -> rna": 0.34},
    ),
    "patchseq_motor": (
        jsc.datasets.patchseq_motor,
        241,
        {"LTA": 0.84, "FOSCTTM": 0.12, "rna -> ephys": 0.55, "ephys -> rna": 0.22},
    ),
}


def test_cells(mdata: MuData, n_test: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(mdata.n_obs)[:n_test]


def measure(
    title: str, runs: dict[str, Callable[[int], Scores]], seeds: Sequence[int], save: Path | None
) -> dict[str, Scores]:
    """Each run's medians over seeds."""
    found: dict[str, list[Scores]] = {name: [] for name in runs}
    for seed in seeds:
        for name, run in runs.items():
            scores = {column: round(float(score), 5) for column, score in run(seed).items()}
            line = json.dumps({"table": title, "row": name, "seed": seed} | scores)
            print(line, file=sys.stderr, flush=True)
            if save is not None:
                with save.open("a") as file:
                    file.write(line + "\n")
            found[name].append(scores)
    return {name: pd.DataFrame(scores).median().to_dict() for name, scores in found.items()}


def aligned_and_imputed(args: argparse.Namespace) -> None:
    """Alignment and imputation of normalised values; scglue reads them as Normal, or counts as NB where there are any."""
    for data, (load, n_test, asked) in DATA.items():
        mdata = load()
        test = test_cells(mdata, n_test)
        runs = {"jamie_sc": partial(held_out, mdata, test, model=args.model)}
        if args.model == "clue" and likelihood_of(mdata["rna"].X) != "gaussian":  # the motor cortex has counts
            runs["jamie_sc, Gaussian"] = partial(held_out, mdata, test, model=args.model, likelihood="gaussian")
        if args.peers:
            runs["scglue"] = partial(scglue, mdata, test)
            if all("counts" in mod.layers for mod in mdata.mod.values()):
                runs["scglue, NB"] = partial(scglue, mdata, test, likelihood="NB")
        title = f"{data}, {n_test} held-out cells, trained on the other {mdata.n_obs - n_test}"
        rows = measure(title, runs, args.seeds, args.save)
        train, query = split(mdata, test)
        a, b = mdata.mod
        for source, target in ((a, b), (b, a)):
            predictions = baselines(train, query, source, target)
            for name, imputed in predictions.items():
                scores = imputation(dense(query[target].X), imputed, predictions["KNN, k = 5"], f"{source} -> {target}")
                rows.setdefault(name, {}).update(scores)
        show(title, rows | {"to reach": asked})
        for name in list(runs)[1:]:
            ratio = rows[name]["seconds"] / rows["jamie_sc"]["seconds"]
            print(f"\n{name} takes {ratio:.1f} times as long as jamie_sc")


def logged(mdata: MuData) -> MuData:
    """log1p of the counts in the place of X."""
    mods = {name: mod.copy() for name, mod in mdata.mod.items()}
    for mod in mods.values():
        mod.X = np.log1p(dense(mod.layers["counts"]))
    return md.MuData(mods)


def correlation(measured: np.ndarray, imputed: np.ndarray) -> float:
    return float(metrics.pearson(measured, imputed).mean())


def counts_of(mdata: MuData, test: np.ndarray, seed: int, *, model: str) -> Scores:
    """Trained on counts; held-out cells' counts imputed at the target's median library, and at the cell's own."""
    train, query = split(mdata, test)
    started = time.perf_counter()
    jsc.tl.integrate(train, model=model, layer="counts", rng=seed, progress=False)
    seconds = time.perf_counter() - started
    jsc.tl.map_query(query, train)
    scores: Scores = {}
    libraries = {"": {}}
    if "library" in inspect.signature(jsc.get.imputed).parameters:
        libraries[", own library"] = {"library": "observed"}
    a, b = mdata.mod
    for suffix, library in libraries.items():
        for source, target in ((a, b), (b, a)):
            imputed = jsc.get.imputed(query, source=source, target=target, **library)[query[target].obs_names].X
            measured = np.log1p(dense(query[target].layers["counts"]))
            scores[f"{source} -> {target}{suffix}"] = correlation(measured, np.log1p(np.maximum(imputed, 0)))
    return scores | {"seconds": seconds}


def mean_profile(train: MuData, query: MuData, target: str) -> np.ndarray:
    """What the own library alone says: it times each feature's share of all counts trained on."""
    profile = dense(train[target].layers["counts"]).sum(axis=0)
    library = dense(query[target].layers["counts"]).sum(axis=1, keepdims=True)
    return np.log1p(library * profile / profile.sum())


def imputed_counts(args: argparse.Namespace) -> None:
    """Counts imputed both ways, compared as log1p; the baselines learn log1p of counts from log1p of counts."""
    mdata = jsc.datasets.bmmc_cite()
    test = test_cells(mdata, DATA["bmmc_cite"][1])
    title = "bmmc_cite, counts of held-out cells: mean Pearson correlation of log1p over features"
    rows = measure(title, {"jamie_sc": partial(counts_of, mdata, test, model=args.model)}, args.seeds, args.save)
    train, query = split(mdata, test)
    log_train, log_query = split(logged(mdata), test)
    a, b = mdata.mod
    for source, target in ((a, b), (b, a)):
        measured = log_query[target].X
        for name, imputed in baselines(log_train, log_query, source, target).items():
            rows.setdefault(name, {})[f"{source} -> {target}"] = correlation(measured, imputed)
        rows.setdefault("mean profile", {})[f"{source} -> {target}, own library"] = correlation(
            measured, mean_profile(train, query, target)
        )
    show(title, rows)
    if args.peers:
        model, new, _ = train_scglue(train, query, 0, likelihood="NB", max_epochs=1)
        try:
            model.cross_predict((a, b), new[a])
        except RuntimeError as error:
            print(f"\nscglue, NB: refused ({error})")


def subsets(seed: int, *, model: str) -> Scores:
    """FOSCTTM of each pair of three modalities; a cell trained on has any of the seven subsets of them."""
    mdata = jsc.datasets.simulated(1000, n_features=(100, 150, 200), rng=seed)
    rng = np.random.default_rng(seed)
    known, query = split(mdata, rng.permutation(mdata.n_obs)[:200])
    subset = rng.integers(1, 8, known.n_obs)
    train = md.MuData({name: known[name][subset & 1 << i > 0].copy() for i, name in enumerate(known.mod)})
    started = time.perf_counter()
    jsc.tl.integrate(train, model=model, rng=seed, progress=False)
    seconds = time.perf_counter() - started
    jsc.tl.map_query(query, train)
    latents = {name: mod.obsm[f"X_{model}"] for name, mod in query.mod.items()}
    scores = {f"{a}, {b}": metrics.foscttm(latents[a], latents[b]) for a, b in combinations(latents, 2)}
    return scores | {"seconds": seconds}


def three_modalities(args: argparse.Namespace) -> None:
    title = "Simulated, three modalities, 800 cells with any subset of them: FOSCTTM of 200 held-out cells"
    rows = measure(title, {"jamie_sc": partial(subsets, model=args.model)}, args.seeds, args.save)
    show(title, rows | {"to reach": {c: 0.05 for c in rows["jamie_sc"] if c != "seconds"}})


BLOCKS = {"held_out": aligned_and_imputed, "counts": imputed_counts, "subsets": three_modalities}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--blocks", nargs="+", choices=BLOCKS, default=list(BLOCKS))
    parser.add_argument("--model", default="clue")
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    parser.add_argument("--save", type=Path, help="file to add each run's scores to, one line of JSON each")
    args = parser.parse_args()
    args.peers = args.peers and find_spec("scglue") is not None
    md.set_options(pull_on_update=False)  # as mudata 0.4 does, and without its warning
    for block in args.blocks:
        BLOCKS[block](args)


if __name__ == "__main__":
    main()
