"""Draw cells as they were measured and as they were integrated."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import product
from typing import TYPE_CHECKING

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc

from .._core._modalities import measured_cells, modality_names, read_latent, read_modalities, some
from .._core._obs import colors_of, obs_column
from .._core._slots import find_slots
from .._core._write import read_reduction
from ..models._reducers import Reducer, default_n_components

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Literal

    from matplotlib.axes import Axes
    from mudata import MuData
    from numpy.typing import NDArray

PANEL = np.array([4.0, 3.8])  # inches, without the legend
ROWS = 20  # of a legend, as high as a panel
MANY_POINTS = 10_000  # more are drawn as pixels in a vector graphic
LIMITS = ("vmin", "vmax", "vcenter", "norm")
PER_PANEL = ("title", "marker", *LIMITS)  # lists have one for each panel


def embedding(
    mdata: MuData,
    *,
    color: str | Sequence[str] = "modality",
    spaces: str | Sequence[str] = ("joint",),
    layer: str | None = None,
    basis: Literal["umap", "pca"] = "umap",
    modalities: Sequence[str] | None = None,
    key: str | None = None,
    rng: int | np.random.Generator | None = 0,
    ax: Axes | Sequence[Axes] | None = None,
    show: bool | None = None,
    **kwargs: Any,
) -> Axes | list[Axes] | None:
    """Draw maps of the cells: measured modalities (the paper's Figure 3a) and the latents of all of them (3b).

    In the joint map a cell measured in two modalities is two points: the closer they lie, the better the alignment. Maps are
    computed here, with :func:`scanpy.pp.neighbors` and :func:`scanpy.tl.umap`, and not kept; to keep one, call these on
    ``mdata["rna"]`` with ``use_rep="X_jamie"``.

    Parameters
    ----------
    mdata
        Modalities; for the joint map those that :func:`jamie_sc.tl.integrate` or :func:`jamie_sc.tl.map_query` wrote to.
    color
        obs column of the MuData or of its modalities, `"modality"`, or else a feature: its name, or `"rna:Pvalb"` where
        several modalities have one of that name. Several give a panel each, with several spaces a row each. Colours kept in
        `.uns["<color>_colors"]` are used, and categories stay in their order.
    spaces
        `"joint"`, the latents of all modalities in one map, and names of modalities, each in a map of its own measured
        values: the components of :func:`jamie_sc.pp.reduce` where there are, else those it would make of `X`. Several give a
        column of panels each, drawn in the same colours.
    layer
        Layer that features are read from, such as `"jamie_from_rna"` for imputed values; default `X`.
    basis
        `"umap"`, or `"pca"`: the first two principal components, faster.
    modalities
        Names of the modalities in the joint map; default all that have a latent.
    key
        Which integration, where `mdata` holds several.
    rng
        Seed of the maps and of the order in which cells are drawn.
    ax
        Axes to draw into; for several panels a sequence, row by row; default new ones.
    show
        Show the figure and return nothing; default if no `ax` is given.
    **kwargs
        Passed to :func:`scanpy.pl.embedding`, for every panel; lists as there, one for each panel.

    Returns
    -------
    The axes (a list for several panels, row by row), or `None` when shown. Cells without a value are light grey.

    Raises
    ------
    KeyError
        If there is no such space, obs column, feature or layer, or several modalities have the feature.
    ValueError
        If `ax` has not as many axes as there are panels, no cell has a value of `color`, or a modality holds NaN.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30))
    >>> ax = jsc.pl.embedding(mdata, spaces="modality1", color="modality2:3", basis="pca", show=False)

    >>> jsc.tl.integrate(mdata, params={"max_steps": 20})
    >>> spaces = ["modality1", "modality2", "joint"]
    >>> axes = jsc.pl.embedding(mdata, spaces=spaces, color="cell_type", basis="pca", show=False)
    >>> [ax.get_title() for ax in axes]
    ['modality1, cell_type', 'modality2, cell_type', 'joint, cell_type']
    """
    colors = [color] if isinstance(color, str) else list(color)
    spaces = [spaces] if isinstance(spaces, str) else list(spaces)
    if basis not in ("umap", "pca"):
        msg = f"basis is 'umap' or 'pca', not {basis!r}."
        raise ValueError(msg)
    n_panels = len(colors) * len(spaces)
    given = None if ax is None else _given_axes(ax, n_panels)
    read = {space: _read_space(mdata, space, modalities=modalities, key=key, rng=rng) for space in spaces}
    first, *others = (points for points, _ in read.values())
    every = first.append(others).unique()
    values = pd.DataFrame({name: _values(mdata, name, every, layer) for name in colors})
    maps = {space: _map(*read[space], values, basis=basis, generator=np.random.default_rng(rng)) for space in spaces}

    if given is None:
        grid = _new_axes(n_panels, len(spaces) if len(spaces) > 1 else kwargs.get("ncols", 4))
    axes = given or list(grid.flat[:n_panels])
    for i, (panel, (name, space)) in enumerate(zip(axes, product(colors, spaces), strict=True)):
        options: dict[str, Any] = {"title": name if spaces == ["joint"] else f"{space}, {name}"}
        if len(spaces) > 1:
            options |= _shared(values[name], kwargs, last=space == spaces[-1])
        options |= {k: _of_panel(v, i) if k in PER_PANEL else v for k, v in kwargs.items()}
        if (kept := colors_of(mdata, name, values[name])) is not None:
            maps[space].uns[f"{name}_colors"] = kept
        _draw(panel, maps[space], basis, name, options)
    if given is None:
        _make_room(grid)
    if ax is None if show is None else show:
        plt.show()
        return None
    return axes if len(axes) > 1 else axes[0]


def _given_axes(ax: Axes | Sequence[Axes], n_panels: int) -> list[Axes]:
    axes = list(np.ravel(np.asarray(ax, dtype=object)))
    if len(axes) != n_panels:
        msg = f"ax has {len(axes)} axes, but there are {n_panels} panels (colours x spaces). Give as many, row by row, or none."
        raise ValueError(msg)
    return axes


# What is drawn ------------------------------------------------------------------------------------------------------


def _read_space(
    mdata: MuData,
    space: str,
    *,
    modalities: Sequence[str] | None,
    key: str | None,
    rng: int | np.random.Generator | None,
) -> tuple[pd.MultiIndex, NDArray[np.float32]]:
    """The points of a space, each a modality and a cell, and their coordinates in it."""
    if space == "joint":
        return _read_joint(mdata, modalities, key)
    mod = mdata.mod[modality_names(mdata, [space])[0]]
    reduced_layer = mod.uns.get("pca", {}).get("params", {}).get("layer")
    reduction = read_reduction(mdata, space, reduced_layer)
    if reduction is not None:
        return pd.MultiIndex.from_product([[space], mod.obs_names[measured_cells(mod)]]), reduction["scores"]
    m = read_modalities(mdata, modalities=[space])[0]
    seed, k = int(np.random.default_rng(rng).integers(2**31)), default_n_components(*m.X.shape)
    reducer = Reducer.fit_inputs(m.X, n_components=k, clip=5.0, own_units=True, seed=seed)
    return pd.MultiIndex.from_product([[space], m.obs_names]), reducer.transform(m.X)


def _read_joint(
    mdata: MuData, modalities: Sequence[str] | None, key: str | None
) -> tuple[pd.MultiIndex, NDArray[np.float32]]:
    """The latents of all modalities."""
    slot = find_slots(mdata, key).obsm
    names = modality_names(mdata, modalities)
    held = [name for name in names if slot in mdata.mod[name].obsm] if modalities is None else names
    read = {name: read_latent(mdata, name, slot) for name in held or names}
    points = [pd.MultiIndex.from_product([[name], cells]) for name, (_, cells) in read.items()]
    return points[0].append(points[1:]), np.concatenate([latent for latent, _ in read.values()])


def _values(mdata: MuData, color: str, points: pd.MultiIndex, layer: str | None) -> pd.Series:
    """What a point is coloured by: numbers, or categories in the user's order."""
    names = points.get_level_values(0)
    if color == "modality":
        return pd.Series(pd.Categorical(names, [name for name in mdata.mod if name in names]), points)
    found = {}
    for name in names.unique():
        with suppress(KeyError):
            found[name] = obs_column(mdata, name, color)
    if found:
        values = pd.concat(found).reindex(points)
    else:
        values = _feature(mdata, color, layer).reindex(points.get_level_values(1)).set_axis(points)
    if values.isna().all():
        msg = f"None of the {len(points)} cells has a value of {color!r}."
        raise ValueError(msg)
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return values
    return _categories(mdata, color, values)


def _categories(mdata: MuData, column: str, values: pd.Series) -> pd.Series:
    """Values as categories, in the order of the first categorical column of this name, then of the next."""
    text = values.astype(str).where(values.notna())
    columns = [holder.obs[column] for holder in (mdata, *mdata.mod.values()) if column in holder.obs]
    ordered = [str(c) for kept in columns if isinstance(kept.dtype, pd.CategoricalDtype) for c in kept.cat.categories]
    present = set(text.dropna())
    return text.astype(pd.CategoricalDtype([c for c in dict.fromkeys(ordered + sorted(present)) if c in present]))


def _feature(mdata: MuData, color: str, layer: str | None) -> pd.Series:
    """Values of a feature in the cells of its modality."""
    found = {}
    for name, mod in mdata.mod.items():
        for feature in (color.removeprefix(f"{name}:"), color):
            if feature in mod.var_names:
                found[name] = feature
    if len(found) > 1:
        choices = " or ".join(repr(f"{name}:{feature}") for name, feature in found.items())
        msg = f"{color!r} is a feature of several modalities. Write {choices}."
        raise KeyError(msg)
    if not found:
        columns = sorted({*mdata.obs, *(column for mod in mdata.mod.values() for column in mod.obs)})
        features = "; ".join(f"{name!r} has {some(mod.var_names)}" for name, mod in mdata.mod.items())
        msg = f"{color!r} is no obs column (there are {columns}) and no feature ({features})."
        raise KeyError(msg)
    ((name, feature),) = found.items()
    mod = mdata.mod[name]
    if layer is not None and layer not in mod.layers:
        msg = f"There is no mdata[{name!r}].layers[{layer!r}] to read {color!r} from. It has {list(mod.layers)}."
        raise KeyError(msg)
    return pd.Series(mod.obs_vector(feature, layer=layer), mod.obs_names)


def _map(
    points: pd.MultiIndex,
    coordinates: NDArray[np.float32],
    values: pd.DataFrame,
    *,
    basis: str,
    generator: np.random.Generator,
) -> ad.AnnData:
    """A space in two dimensions, and what its points are coloured by."""
    order = generator.permutation(len(points))  # no modality lies on top of another
    seed = int(generator.integers(2**31))
    # numba sets the number of OpenMP threads, torch's too, of the thread that it starts in
    with ThreadPoolExecutor(1) as thread:
        reduced = thread.submit(_in_two_dimensions, coordinates[order], basis, seed).result()
    obs = values.reindex(points[order]).set_axis(points[order].map(":".join))
    return ad.AnnData(obs=obs, obsm={f"X_{basis}": reduced})


def _in_two_dimensions(coordinates: NDArray[np.float32], basis: str, seed: int) -> NDArray[np.float32]:
    cells = ad.AnnData(coordinates)
    if basis == "pca":
        sc.pp.pca(cells, n_comps=2, svd_solver="covariance_eigh")
    else:
        sc.pp.neighbors(cells, n_neighbors=min(15, cells.n_obs - 1), use_rep="X", random_state=seed)
        sc.tl.umap(cells, random_state=seed)
    return cells.obsm[f"X_{basis}"]


# How it is drawn ----------------------------------------------------------------------------------------------------


def _shared(values: pd.Series, kwargs: Mapping[str, Any], *, last: bool) -> dict[str, Any]:
    """Options with which the panels of a row have one legend, or one scale and its colour bar, at the last of them."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return {} if last else {"legend_loc": None}
    if any(limit in kwargs for limit in LIMITS):
        return {}
    return {"vmin": values.min(), "vmax": values.max()} | ({} if last else {"colorbar_loc": None})


def _of_panel(option: Any, panel: int) -> Any:
    return option[panel % len(option)] if isinstance(option, list | tuple) else option


def _draw(ax: Axes, cells: ad.AnnData, basis: str, color: str, options: Mapping[str, Any]) -> None:
    sc.pl.embedding(cells, basis, color=color, ax=ax, show=False, **options)
    if cells.n_obs > MANY_POINTS:
        for points in ax.collections:
            points.set_rasterized(True)
    if options.get("legend_loc", "right margin") == "right margin":
        _shorten_legend(ax, fontsize=options.get("legend_fontsize", "small"))


def _shorten_legend(ax: Axes, *, fontsize: str | float) -> None:
    """Many categories in columns as high as the panel."""
    handles, labels = ax.get_legend_handles_labels()
    if len(labels) > ROWS:
        columns = -(-len(labels) // ROWS)
        ax.legend(
            handles,
            labels,
            loc="center left",
            bbox_to_anchor=(1, 0.5),
            ncols=columns,
            frameon=False,
            fontsize=fontsize,
            labelspacing=0.3,
        )


def _new_axes(n_panels: int, n_columns: int) -> NDArray[np.object_]:
    n_columns = min(n_columns, n_panels)
    n_rows = -(-n_panels // n_columns)
    _, grid = plt.subplots(n_rows, n_columns, figsize=PANEL * (n_columns, n_rows), layout="constrained", squeeze=False)
    for spare in grid.flat[n_panels:]:
        spare.remove()
    return grid


def _make_room(grid: NDArray[np.object_]) -> None:
    """Widen the figure by its legends: those of the last column beside the layout, so that colour bars stay at their panels."""
    fig = grid[0, 0].figure
    legends = [[ax.get_legend() for ax in column] for column in grid.T]
    widths = [
        max(legend.get_window_extent().width / fig.dpi if legend else 0 for legend in column) for column in legends
    ]
    for legend in filter(None, legends[-1]):
        legend.set_in_layout(False)
    fig.set_figwidth(fig.get_figwidth() + sum(widths))
    fig.get_layout_engine().set(rect=(0, 0, 1 - widths[-1] / fig.get_figwidth(), 1))
    fig.draw_without_rendering()
    fig.set_layout_engine("none")  # panels stay where they are now, and a tight bounding box may count the legends
    for legend in filter(None, legends[-1]):
        legend.set_in_layout(True)
