"""The same from a shell: `jamie-sc demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import typer

from . import datasets, pl, settings, tl
from ._compat import no_pull

if TYPE_CHECKING:
    from mudata import MuData

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Joint embedding and imputation of multimodal single cells."
)


@app.callback()
def _root() -> None:
    """Keep `demo` a subcommand; others join it."""


@app.command()
def demo(
    dataset: Annotated[str, typer.Option(help="'simulated' (offline), 'patchseq_motor' or 'bmmc_cite'.")] = "simulated",
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("jamie_sc_demo"),
    seed: Annotated[int, typer.Option(help="Seed of data and training.")] = 0,
) -> None:
    """Integrate and impute a data set, print how well it went, and write an .h5mu and pictures."""
    loaders = {"simulated": lambda: datasets.simulated(rng=seed)}
    loaders |= {"patchseq_motor": datasets.patchseq_motor, "bmmc_cite": datasets.bmmc_cite}
    if dataset not in loaders:
        msg = f"There is no demo of {dataset!r}. Choose one of {list(loaders)}."
        raise typer.BadParameter(msg, param_hint="--dataset")
    settings.verbosity = "info"
    try:
        mdata = loaders[dataset]()
    except (ImportError, OSError, ValueError) as error:
        typer.secho(str(error), err=True)
        raise typer.Exit(1) from error
    scores = _integrate_and_score(mdata, seed)
    files = _write(mdata, out)
    typer.echo(f"\n{dataset}: {mdata.n_obs} cells; scores on the fifth of them that training did not see\n")
    typer.echo(_table(scores).to_string())
    typer.echo("\nWritten:\n" + "\n".join(f"  {path}  {what}" for path, what in files.items()))
    file, modality = str(next(iter(files))), next(iter(mdata.mod))
    typer.echo(
        "\nNext: look at the pictures, or go on in Python:\n"
        f"  import mudata; mdata = mudata.read_h5mu({file!r})\n"
        f"  import scanpy as sc; sc.pp.neighbors(mdata[{modality!r}], use_rep='X_jamie')\n"
        "and read tutorials/quickstart.ipynb."
    )


def _integrate_and_score(mdata: MuData, seed: int) -> pd.DataFrame:
    """Score on held-out cells, then train on all of them and impute both ways."""
    scores = tl.evaluate(mdata, labels_key="cell_type", rng=seed)
    tl.integrate(mdata, rng=seed)
    a, b = list(mdata.mod)
    tl.impute(mdata, source=a, target=b)
    tl.impute(mdata, source=b, target=a)
    return scores


def _table(scores: pd.DataFrame) -> pd.DataFrame:
    """One column a direction, with readable rows."""
    columns = {}
    for row in scores.itertuples():
        columns[f"{row.source} -> {row.target}"] = {
            "pairs trained on": row.n_train,
            "held-out cells": row.n_test,
            "label transfer accuracy": f"{row.lta:.3f}",
            "FOSCTTM": f"{row.foscttm:.4f}",
            "Pearson, imputed": f"{row.pearson:.3f}",
            "Pearson, 5 nearest neighbours": f"{row.pearson_knn:.3f}",
            "features better than neighbours": f"{row.pearson_better} of {row.n_features}",
            "training": f"{row.seconds:.1f} s",
        }
    return pd.DataFrame(columns)


def _write(mdata: MuData, out: Path) -> dict[Path, str]:
    """The MuData and the pictures; existing files of these names are replaced."""
    out.mkdir(parents=True, exist_ok=True)
    files = {
        out / "integrated.h5mu": "everything: embedding, imputed layers, the trained model",
        out / "embedding.png": "cells of both modalities in the joint embedding, by cell type and by modality",
        out / "history.png": "loss terms in training",
    }
    with no_pull():
        mdata.write(out / "integrated.h5mu")
    with mpl.rc_context({"backend": "agg", "savefig.dpi": 150, "savefig.bbox": "tight"}):
        pl.embedding(mdata, color=["cell_type", "modality"], wspace=0.4, show=False)
        plt.savefig(out / "embedding.png")
        pl.history(mdata, show=False)
        plt.savefig(out / "history.png")
        plt.close("all")
    return files


def main() -> None:
    """Entry point of `jamie-sc`."""
    app()
