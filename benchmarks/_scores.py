"""What the benchmark scripts share: scores of a trained model, peers' predictions, and tables of medians over seeds."""

from __future__ import annotations

import logging
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsRegressor

import jamie_sc as jsc
from jamie_sc import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import anndata as ad
    from mudata import MuData

Scores = dict[str, float]


def dense(X: Any) -> np.ndarray:
    return X.toarray() if sp.issparse(X) else np.asarray(X)


def split(mdata: MuData, test: np.ndarray) -> tuple[MuData, MuData]:
    """Training and test cells: views, the way a user would take them."""
    return mdata[np.setdiff1d(np.arange(mdata.n_obs), test)], mdata[np.sort(test)]


def standardized(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sd = train.std(axis=0)
    return (train - train.mean(axis=0)) / np.where(sd > 0, sd, 1), (test - train.mean(axis=0)) / np.where(sd > 0, sd, 1)


def nearest(train: MuData, test: MuData, a: str, b: str) -> np.ndarray:
    """The paper's baseline: b as the average over the 5 nearest training cells by a."""
    X, X_test = standardized(dense(train[a].X), dense(test[a].X))
    return KNeighborsRegressor(5).fit(X, dense(train[b].X)).predict(X_test)


def baselines(train: MuData, test: MuData, a: str, b: str) -> dict[str, np.ndarray]:
    """Predictions of b from a: the paper's 5 nearest neighbours, a better neighbour method, ridge."""
    X, X_test = standardized(dense(train[a].X), dense(test[a].X))
    Y = dense(train[b].X)
    pca = PCA(min(50, X.shape[1]), random_state=0).fit(X)
    knn = KNeighborsRegressor(20).fit(pca.transform(X), Y)
    mean, sd = Y.mean(axis=0), np.where(Y.std(axis=0) > 0, Y.std(axis=0), 1)
    ridge = RidgeCV(np.logspace(1, 6, 11)).fit(X, (Y - mean) / sd)
    return {
        "KNN, k = 5": nearest(train, test, a, b),
        "KNN, k = 20, 50 PCs": knn.predict(pca.transform(X_test)),
        "ridge": ridge.predict(X_test) * sd + mean,
    }


def alignment(latents: Sequence[np.ndarray], labels: np.ndarray) -> Scores:
    """Label transfer accuracy (trained on the second modality, scored on the first) and FOSCTTM."""
    return {
        "LTA": metrics.label_transfer_accuracy(*latents, labels, labels),
        "FOSCTTM": metrics.foscttm(*latents),
    }


def unit(Z: np.ndarray) -> np.ndarray:
    """Rows brought to length 1."""
    return Z / np.linalg.norm(Z, axis=1, keepdims=True)


def matching(latents: Sequence[np.ndarray], names: Sequence[str]) -> Scores:
    """Matching score both ways, of latents brought to one length and with one neighbour, as CLUE won with."""
    (x, y), (a, b) = map(unit, latents), names
    return {
        f"matching {a} -> {b}": metrics.matching_score(x, y, n_neighbors=1),
        f"matching {b} -> {a}": metrics.matching_score(y, x, n_neighbors=1),
    }


def imputation(measured: np.ndarray, imputed: np.ndarray, knn: np.ndarray, name: str) -> Scores:
    """Mean Pearson over features, and how many are better than by 5 nearest neighbours."""
    ours, theirs = metrics.pearson(measured, imputed), metrics.pearson(measured, knn)
    auroc, auroc_knn = metrics.auroc(measured, imputed), metrics.auroc(measured, knn)
    return {
        name: ours.mean(),
        f"{name} > KNN": (ours > theirs).sum(),
        f"{name} > KNN, AUROC": (auroc > auroc_knn).sum(),
        "features": len(ours),
    }


def in_sample(mdata: MuData, seed: int, **options: Any) -> Scores:
    """Train on every cell and score the same cells."""
    mdata = mdata[:]  # a view: the caller's object stays as it is
    started = time.perf_counter()
    jsc.tl.integrate(mdata, rng=seed, progress=False, **options)
    seconds = time.perf_counter() - started
    latents = [mdata[m].obsm["X_jamie"] for m in mdata.mod]
    return alignment(latents, mdata.obs["cell_type"].astype(str).to_numpy()) | {"seconds": seconds}


def held_out(
    mdata: MuData,
    test: np.ndarray,
    seed: int,
    *,
    prepare: Callable[[MuData], MuData] = lambda train: train,
    **options: Any,
) -> Scores:
    """Train on the other cells, which `prepare` may change, map the test cells with `map_query`, impute both ways."""
    train, query = split(mdata, test)
    known = prepare(train)
    started = time.perf_counter()
    jsc.tl.integrate(known, rng=seed, progress=False, **options)
    seconds = time.perf_counter() - started
    jsc.tl.map_query(query, known)
    a, b = mdata.mod
    latents = [query[m].obsm[f"X_{options.get('model', 'jamie')}"] for m in (a, b)]
    scores = alignment(latents, query.obs["cell_type"].astype(str).to_numpy()) | matching(latents, (a, b))
    for source, target in ((a, b), (b, a)):
        imputed = jsc.get.imputed(query, source=source, target=target)[query[target].obs_names].X
        knn = nearest(train, query, source, target)
        scores |= imputation(dense(query[target].X), imputed, knn, f"{source} -> {target}")
    return scores | {"seconds": seconds}


@contextmanager
def quiet() -> Iterator[None]:
    """Without what scglue logs and torch warns of in every epoch."""
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)


def train_scglue(
    train: MuData, query: MuData, seed: int, *, likelihood: str = "Normal", latent_dim: int = 20, max_epochs: int = 400
) -> tuple[Any, dict[str, ad.AnnData], float]:
    """CLUE as scglue 0.4.1 has it: the trained model, the query as it reads it, and the seconds that training took.

    Pairing by obs_names. With "Normal" it reads standardised features, their components where there are many; with "NB"
    counts, which it normalises itself. Its own defaults but for `latent_dim` (50) and `max_epochs` (-1: stopped early, within
    36,000 steps), which would take it several times as long.
    """
    import anndata as ad
    import scglue.models as peer

    known: dict[str, ad.AnnData] = {}
    new: dict[str, ad.AnnData] = {}
    for name in train.mod:
        parts = train[name], query[name]
        if likelihood == "NB":
            known[name], new[name] = (ad.AnnData(p.layers["counts"].copy(), obs=p.obs[[]]) for p in parts)
        else:
            X = standardized(*(dense(p.X) for p in parts))
            known[name], new[name] = (
                ad.AnnData(x.astype(np.float32), obs=p.obs[[]]) for x, p in zip(X, parts, strict=True)
            )
            if X[0].shape[1] > 100:
                pca = PCA(100, random_state=0).fit(X[0])
                known[name].obsm["X_pca"], new[name].obsm["X_pca"] = map(pca.transform, X)
        for adata in (known[name], new[name]):
            rep = {"use_rep": "X_pca"} if "X_pca" in adata.obsm else {}
            peer.configure_dataset(adata, likelihood, use_highly_variable=False, use_obs_names=True, **rep)
    with quiet():
        started = time.perf_counter()
        model = peer.SCCLUEModel(known, latent_dim=latent_dim, random_seed=seed)
        model.compile()
        model.fit(known, max_epochs=max_epochs)
        return model, new, time.perf_counter() - started


def scglue(mdata: MuData, test: np.ndarray, seed: int, **options: Any) -> Scores:
    """The scores of `held_out` for `train_scglue`, whose latents are brought to one length; NB imputes nothing."""
    train, query = split(mdata, test)
    model, new, seconds = train_scglue(train, query, seed, **options)
    a, b = mdata.mod
    latents = [unit(model.encode_data(name, new[name])) for name in (a, b)]
    scores = alignment(latents, query.obs["cell_type"].astype(str).to_numpy()) | matching(latents, (a, b))
    for source, target in ((a, b), (b, a)) if options.get("likelihood") != "NB" else ():
        imputed = dense(model.cross_predict((source, target), new[source]).X)
        sd, mean = dense(train[target].X).std(axis=0), dense(train[target].X).mean(axis=0)
        knn = nearest(train, query, source, target)
        scores |= imputation(dense(query[target].X), imputed * sd + mean, knn, f"{source} -> {target}")
    return scores | {"seconds": seconds}


def medians(run: Callable[[int], Scores], seeds: Sequence[int]) -> Scores:
    """The median of every score over seeds."""
    return pd.DataFrame([run(seed) for seed in seeds]).median().to_dict()


def show(title: str, rows: dict[str, Scores]) -> None:
    """Print a table in Markdown."""
    frame = pd.DataFrame.from_dict(rows, orient="index")
    whole = [c for c in frame if "> KNN" in c or c == "features"]
    text = frame.map(lambda v: "" if pd.isna(v) else f"{v:.4f}").astype(object)
    for column in whole:
        text[column] = [("" if pd.isna(v) else f"{v:.0f}") for v in frame[column]]
    if "seconds" in frame:
        text["seconds"] = [("" if pd.isna(v) else f"{v:.1f}") for v in frame["seconds"]]
    lines = ["| " + " | ".join(["", *map(str, text.columns)]) + " |", "|" + " --- |" * (text.shape[1] + 1)]
    lines += [
        "| " + " | ".join([str(name), *row]) + " |" for name, row in zip(text.index, text.to_numpy(), strict=True)
    ]
    print(f"\n{title}\n\n" + "\n".join(lines), flush=True)
