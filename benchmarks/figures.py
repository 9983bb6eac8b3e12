"""Every figure of the JAMIE paper that its users publish, for the motor cortex and the simulation, with the paper's numbers.

    python benchmarks/figures.py [--out benchmarks/results/figures] [--data patchseq_motor simulated] [--format pdf]

Figures 3, S6 (the same panels for the motor cortex), 6, S2 and S12. Imputation is judged as in section 4.10: a fifth of the cells is
held out at random, the model trained on the others. Panels d and e show all cells of that model, as the paper's do (their n is that of
all cells); panel f the cells held out. Panels b and c are of a model that saw every cell.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _scores import alignment, dense, split
from alignment import METHODS, score
from scipy.spatial.distance import jensenshannon
from scipy.stats import rv_histogram

import jamie_sc as jsc
from jamie_sc import metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

MARKERS = [
    "Pvalb", "Sst", "Vip", "Lamp5", "Sncg", "Gad1", "Gad2", "Slc17a7", "Tac1", "Calb1",
    "Calb2", "Npy", "Cck", "Reln", "Kcnc1", "Kcnc2", "Kcnn2", "Scn1b", "Erbb4", "Nxph1",
]  # fmt: skip
QUICK = ("CCA", "LMA", "NLMA", "Gromov-Wasserstein, no pairs")


@dataclass(frozen=True)
class Study:
    """A data set, what is imputed in it, and what the paper says of it."""

    load: Callable[[], MuData]
    source: str
    target: str
    paper: dict[str, str]


STUDIES = {
    "patchseq_motor": Study(
        jsc.datasets.patchseq_motor,
        "rna",
        "ephys",
        {
            "LTA": "0.899",
            "FOSCTTM": "0.002",
            "LTA, FOSCTTM of LMA": "0.897, 0.044",
            "LTA, FOSCTTM of CCA": "0.273, 0.366",
            "JS distance": "0.497 ± 0.244",
            "JS distance of the two features shown": "0.380, 0.405",
            "features better than KNN, Pearson": "22 of 29 (p < 9e-3)",
        },
    ),
    "simulated": Study(
        jsc.datasets.simulated,
        "modality2",
        "modality1",
        {
            "LTA": "0.976",
            "FOSCTTM": "0.001",
            "LTA, FOSCTTM of NLMA": "0.970, 0.001",
            "JS distance": "0.428 ± 0.097",
            "JS distance of the two features shown": "0.278, 0.281",
            "features better than KNN, Pearson": "1,147 of 2,000 (p < 6e-11)",
            "features better than KNN, AUROC": "1,490 of 1,956 (p < 1e-100)",
        },
    ),
}


class Report:
    """Figures and numbers of one study."""

    def __init__(self, name: str, study: Study, out: Path, suffix: str) -> None:
        self.study, self.out, self.suffix = study, out / name, suffix
        self.out.mkdir(parents=True, exist_ok=True)
        self.numbers: dict[str, str] = {}

    def save(self, name: str, axes: Any) -> None:
        """Write the figure of these axes."""
        figure = np.atleast_1d(axes).flat[0].figure
        figure.savefig(self.out / f"{name}.{self.suffix}", dpi=150, bbox_inches="tight")
        plt.close(figure)

    def embedding(self, mdata: MuData) -> None:
        """Panels a, b, c and S12: a model that saw every cell."""
        self.save(
            "a_raw",
            jsc.pl.embedding(mdata, spaces=[self.study.source, self.study.target], color="cell_type", show=False),
        )
        jsc.tl.integrate(mdata, progress=False)
        self.save("b_joint", jsc.pl.embedding(mdata, color=["cell_type", "modality"], show=False))
        self.save("S12_history", jsc.pl.history(mdata, show=False))
        labels = mdata.obs["cell_type"].astype(str).to_numpy()
        rows = {"jamie_sc": alignment([m.obsm["X_jamie"] for m in mdata.mod.values()], labels)}
        rows |= {method: score(METHODS[method], mdata) for method in QUICK}
        table = (
            pd.DataFrame.from_dict(rows, orient="index").rename_axis("method").reset_index().rename(columns=str.lower)
        )
        self.save("c_alignment", jsc.pl.alignment_scores(table, show=False))
        self.numbers |= {name: f"{rows['jamie_sc'][name]:.3f}" for name in ("LTA", "FOSCTTM")}
        for method in QUICK:
            self.numbers[f"LTA, FOSCTTM of {method}"] = f"{rows[method]['LTA']:.3f}, {rows[method]['FOSCTTM']:.3f}"

    def imputation(self, mdata: MuData, test: np.ndarray) -> None:
        """Panels d, e, f and S2: a model that saw four fifths of the cells."""
        source, target = self.study.source, self.study.target
        given = {"source": source, "target": target}
        train, query = split(mdata, test)
        jsc.tl.integrate(train, progress=False)
        everything = mdata.copy()
        jsc.tl.map_query(everything, train)
        jsc.tl.impute(everything, **given)
        jsc.tl.map_query(query, train)
        jsc.tl.impute(query, **given)
        self.save("d_js_distance", jsc.pl.js_distance(everything, **given, labels_key="cell_type", show=False))
        axes = jsc.pl.measured_vs_imputed(everything, **given, labels_key="cell_type", show=False)
        self.save("e_measured_vs_imputed", axes)
        self.save("S2_cell", jsc.pl.cell(query, **given, show=False))
        self.js_distances(everything, query)
        shown = [ax.get_title().split("JS distance ")[1] for ax in axes if "JS distance " in ax.get_title()]
        self.numbers["JS distance of the two features shown"] = ", ".join(shown)
        scores = jsc.tl.evaluate(
            mdata, **given, by="feature", test_cells=list(query.obs_names), calibrate=False, progress=False
        )
        for metric, name in (("pearson", "Pearson"), ("auroc", "AUROC")):
            self.save(f"f_{metric}", jsc.pl.feature_scores(scores, metric=metric, show=False))
            ours, knn = (scores[scores["method"] == m][metric].to_numpy() for m in ("jamie", "knn"))
            won = metrics.sign_test(ours, knn)
            told = f"{won.n_better:,} of {won.n_better + won.n_worse:,} (p = {won.pvalue:.0e})"
            self.numbers[f"features better than KNN, {name}"] = told
        self.coverage(query)

    def js_distances(self, everything: MuData, query: MuData) -> None:
        """The paper's definition, on all cells and on those held out; and the way its code counts."""
        for name, mdata in (("JS distance", everything), ("JS distance, held-out cells only", query)):
            target = mdata[self.study.target]
            measured, imputed = dense(target.X), target.layers[f"jamie_from_{self.study.source}"]
            labels = mdata.obs["cell_type"].loc[target.obs_names].astype(str).to_numpy()
            found = metrics.js_distance(measured, imputed, labels=labels).to_numpy()
            self.numbers[name] = f"{np.nanmean(found):.3f} ± {np.nanstd(found):.3f}"
            if mdata is everything:
                found = published_js_distance(measured[:, :100], imputed[:, :100], labels)
                self.numbers["JS distance as the published code counts"] = f"{found.mean():.3f} ± {found.std():.3f}"

    def coverage(self, query: MuData) -> None:
        """How often the 50, 80 and 95 % intervals hold the values of held-out cells."""
        pair = (self.study.source, self.study.target)
        for source, target in (pair, pair[::-1]):
            held = []
            for level in (0.5, 0.8, 0.95):
                jsc.tl.impute(query, source=source, target=target, n_samples=50, interval=level)
                measured, name = dense(query[target].X), f"jamie_from_{source}"
                low, high = (query[target].layers[f"{name}_{bound}"] for bound in ("lower", "upper"))
                held.append(((low <= measured) & (measured <= high)).mean())
            self.numbers[f"50, 80, 95 % intervals hold, {source} -> {target}"] = ", ".join(f"{h:.3f}" for h in held)

    def explanation(self, mdata: MuData) -> None:
        """Figure 6: `mdata` has been integrated."""
        source, target = self.study.source, self.study.target
        feature = str(mdata[target].var_names[np.argmax(metrics_of(mdata, source, target))])
        started = time.perf_counter()
        jsc.tl.explain(mdata, source=source, target=target, features=feature, background=100, progress=False)
        self.numbers["seconds for SHAP values, one feature, 100 cells, background of 100"] = (
            f"{time.perf_counter() - started:.1f}"
        )
        found = jsc.get.shap(mdata)
        predicted = jsc.get.imputed(mdata, source=source, target=target, var_names=feature)[
            mdata.uns["jamie_shap"]["cells"]
        ].X.ravel()
        error = np.abs(found.values.sum(axis=1) + found.base_values - predicted).max() / np.ptp(predicted)
        self.numbers["largest |sum of SHAP + base - prediction| over its spread"] = f"{error:.1e}"
        self.save("6b_waterfall", jsc.pl.shap_waterfall(mdata, show=False))
        self.save("6b_beeswarm", jsc.pl.shap_beeswarm(mdata, show=False))
        jsc.tl.explain(
            mdata, source=source, target=target, features=some_features(mdata, target), key_added="all", progress=False
        )
        values = np.abs(mdata.uns["all"]["values"]).mean(axis=0)
        spread = dense(mdata[target][:, some_features(mdata, target)].X).std(axis=0)
        shap = pd.Series((values / np.where(spread > 0, spread, np.inf)).mean(axis=1), index=mdata[source].var_names)
        self.tell_markers("mean |SHAP|", shap)
        started = time.perf_counter()
        jsc.tl.feature_impact(mdata, source=source, target=target, labels_key="cell_type", progress=False)
        self.numbers["seconds for the impact of every feature on LTA"] = f"{time.perf_counter() - started:.1f}"
        self.tell_markers("impact on LTA", mdata[source].var["jamie_impact"])
        self.save("6a_impact", jsc.pl.feature_impact(mdata, show=False))

    def tell_markers(self, what: str, importance: pd.Series) -> None:
        """The features that lead, and which of them are known markers."""
        top = importance.nlargest(20)
        if set(MARKERS) & set(importance.index):
            known = [gene for gene in top.index if gene in MARKERS]
            self.numbers[f"marker genes among the 20 of highest {what}"] = f"{len(known)}: {' '.join(known)}"
        self.numbers[f"20 features of highest {what}"] = " ".join(top.index)

    def tell(self, name: str, seconds: float) -> None:
        """Print a table in Markdown."""
        print(f"\n{name}, {seconds:.0f} s\n\n| | jamie_sc | paper |\n| --- | --- | --- |")
        for what, value in self.numbers.items():
            print(f"| {what} | {value} | {self.study.paper.get(what, '')} |", flush=True)


def published_js_distance(measured: np.ndarray, imputed: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The paper's code: natural logarithms, numpy's automatic bins for each distribution, densities at 1,000 points."""

    def density(values: np.ndarray, at: np.ndarray) -> np.ndarray:
        return rv_histogram(np.histogram(values, bins="auto"), density=True).pdf(at)

    found = []
    for label in np.unique(labels):
        for a, b in zip(measured[labels == label].T, imputed[labels == label].T, strict=True):
            at = np.linspace(min(a.min(), b.min()), max(a.max(), b.max()), 1000)
            distance = jensenshannon(density(a, at), density(b, at)) if len(a) > 1 else 1.0
            found.append(1.0 if np.isnan(distance) else distance)
    return np.array(found)


def metrics_of(mdata: MuData, source: str, target: str) -> np.ndarray:
    """Pearson's correlation of each feature, to choose one worth explaining."""
    imputed = jsc.get.imputed(mdata, source=source, target=target)[mdata[target].obs_names]
    return np.nan_to_num(metrics.pearson(mdata[target].X, imputed.X), nan=-1)


def some_features(mdata: MuData, target: str) -> list[str]:
    """The first thirty: SHAP values of two thousand say no more."""
    return list(mdata[target].var_names[:30])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "figures")
    parser.add_argument("--data", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--format", choices=["png", "pdf", "svg"], default="png")
    args = parser.parse_args()
    mpl.use("agg")
    for name in args.data:
        started = time.perf_counter()
        mdata = STUDIES[name].load()
        test = np.random.default_rng(0).permutation(mdata.n_obs)[: mdata.n_obs // 5]
        report = Report(name, STUDIES[name], args.out, args.format)
        report.imputation(mdata.copy(), test)
        report.embedding(mdata)
        report.explanation(mdata)
        report.tell(name, time.perf_counter() - started)
    print(f"\nFigures are in {args.out}.")


if __name__ == "__main__":
    main()
