"""The models, one paper each; torch is imported when one is first used.

They work on arrays; `jamie_sc.tl` is the way in for a MuData.
"""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ._base import Model
    from ._clue import CLUE
    from ._jamie import JAMIE

__all__ = ["CLUE", "JAMIE", "from_state", "get_model", "load"]

_MODELS = {"jamie": ("._jamie", "JAMIE"), "clue": ("._clue", "CLUE")}


def get_model(name: str) -> type[Model]:
    """Class of a model by its name, `"jamie"` or `"clue"`.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> jsc.models.get_model("jamie").name
    'jamie'
    """
    if name not in _MODELS:
        msg = f"There is no model {name!r}. Choose one of {list(_MODELS)}."
        raise ValueError(msg)
    module, attribute = _MODELS[name]
    return getattr(import_module(module, __name__), attribute)


def from_state(state: Mapping[str, Any]) -> Model:
    """The model whose state a MuData carries in `mdata.uns["jamie"]["model"]`.

    Parameters
    ----------
    state
        `{"config": JSON, "weights": {name: array}}`.

    Returns
    -------
    The trained model.
    """
    return get_model(json.loads(str(state["config"]))["model"]).from_state(state)


def load(path: str | Path) -> Model:
    """Read a model that `Model.save` wrote: `config.json` and `weights.safetensors`; nothing is unpickled.

    Parameters
    ----------
    path
        The folder.

    Returns
    -------
    The trained model, for `jamie_sc.tl.map_query(query, model)`.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> model = jsc.models.load("reference_model")  # doctest: +SKIP
    """
    from ._base import read_folder

    return from_state(read_folder(path))


def __getattr__(name: str) -> Any:
    for model, (_, attribute) in _MODELS.items():
        if name == attribute:
            return get_model(model)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
