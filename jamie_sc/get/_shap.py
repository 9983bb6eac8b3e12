"""SHAP values as the shap package wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .._core._modalities import dense, read_modalities, some
from .._core._slots import find_result
from .._logging import logger

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import shap as shap_package
    from mudata import MuData
    from numpy.typing import NDArray


def shap(mdata: MuData, *, output: str | None = None, key: str | None = None) -> shap_package.Explanation:
    """What :func:`jamie_sc.tl.explain` found, for the plots of the shap package.

    Parameters
    ----------
    mdata
        A MuData that :func:`jamie_sc.tl.explain` wrote to.
    output
        The imputed feature, latent dimension ("latent 3") or label wanted; default all.
    key
        Name of the result (`key_added`), where `mdata` holds several.

    Returns
    -------
    A :class:`shap.Explanation`: `values`, (cells, features), or (cells, features, outputs) where there are several outputs;
    `base_values`, (cells,) or (cells, outputs); `data`, the cells' values on the scale trained on; `feature_names` and
    `output_names`. Cells that have gone from `mdata` since are left out.

    Raises
    ------
    KeyError
        If there is no such result or output, or its features are gone from `mdata`.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30))
    >>> jsc.tl.integrate(mdata, params={"max_steps": 20})
    >>> jsc.tl.explain(mdata, source="modality1", latent=[0, 1], cells=10)
    >>> jsc.get.shap(mdata, output="latent 1").shape
    (10, 20)
    """
    import shap as package

    _, record = find_result(mdata, holding="base_values", made_by="jamie_sc.tl.explain", key=key)
    outputs = [str(name) for name in record["outputs"]]
    if output is not None and output not in outputs:
        msg = f"{output!r} was not explained. There are {outputs}."
        raise KeyError(msg)
    kept, data = _values_of(mdata, record)
    values, base = np.asarray(record["values"])[kept], np.asarray(record["base_values"])
    names = outputs if output is None else [output]
    at: int | slice = slice(None) if len(names) > 1 else outputs.index(names[0])
    return package.Explanation(
        values=values[..., at],
        base_values=np.repeat(base[None], len(values), axis=0)[:, at],
        data=data,
        feature_names=[str(name) for name in record["features"]],
        output_names=names if len(names) > 1 else names[0],
    )


def _values_of(mdata: MuData, record: Mapping[str, Any]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Which of the cells explained are still there, and the values of those."""
    source, layer = str(record["params"]["source"]), record["params"].get("layer")
    data = read_modalities(mdata, modalities=[source], layer=layer)[0]
    rows = data.obs_names.get_indexer(pd.Index(record["cells"]))
    columns = data.var_names.get_indexer(pd.Index(record["features"]))
    if (columns < 0).any():
        gone = pd.Index(record["features"])[columns < 0]
        msg = (
            f"{len(gone)} features of {source!r} that were explained are no longer there: {some(gone)}. Explain again."
        )
        raise KeyError(msg)
    kept = rows >= 0
    if not kept.all():
        logger.info("%d of %d cells explained are no longer there", (~kept).sum(), len(kept))
    return kept, dense(data.X[rows[kept]])[:, columns]
