"""Names of the slots: the one place that maps a key to what is written where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mudata import MuData


@dataclass(frozen=True)
class Slots:
    """Slots of one integration: the model's name (`jamie`), or `key_added` verbatim in every slot."""

    uns: str
    obsm: str

    @classmethod
    def of(cls, model: str, key_added: str | None = None) -> Slots:
        """Slots that `integrate` writes."""
        return cls(model, f"X_{model}") if key_added is None else cls(key_added, key_added)

    def imputed(self, source: str) -> str:
        """Layer of the target that holds the values imputed from a source."""
        return f"{self.uns}_from_{source}"


def find_result(mdata: MuData, *, holding: str, made_by: str, key: str | None) -> tuple[str, Mapping[str, Any]]:
    """Key and record of what a function left in uns, told by an entry that only it has; `key` chooses among several."""
    found = [name for name, value in mdata.uns.items() if isinstance(value, Mapping) and holding in value]
    if key is None and len(found) > 1:
        msg = f"The MuData holds several results of {made_by}: {found}. Choose one with key=..."
        raise KeyError(msg)
    name = key or next(iter(found), "result")
    if name not in found:
        msg = f"mdata.uns holds no {name!r} of {made_by}; it has {found}. Run {made_by}(mdata, ...) first."
        raise KeyError(msg)
    return name, mdata.uns[name]


def result_key(mdata: MuData, key: str) -> str:
    """The key, unless an integration has it."""
    if _is_integration(mdata.uns.get(key)):
        msg = f"mdata.uns[{key!r}] holds a trained model, which would be lost. Give another key_added."
        raise ValueError(msg)
    return key


def find_slots(mdata: MuData, key: str | None = None) -> Slots:
    """Slots of the integration that a MuData holds; `key` chooses where it holds several."""
    found = [name for name, value in mdata.uns.items() if _is_integration(value)]
    if key is None:
        if len(found) == 1:
            return _slots_of(mdata, found[0])
        if not found:
            msg = "The MuData holds no trained model. Run jamie_sc.tl.integrate(mdata) first, or jamie_sc.tl.map_query."
            raise KeyError(msg)
        msg = f"The MuData holds several integrations: {found}. Choose one with key=..."
        raise KeyError(msg)
    for name in (key, key.removeprefix("X_")):
        if name in found:
            return _slots_of(mdata, name)
    msg = f"There is no integration {key!r} in mdata.uns. It has {found}. Run jamie_sc.tl.integrate(mdata, key_added={key!r})."
    raise KeyError(msg)


def _is_integration(value: object) -> bool:
    return isinstance(value, dict) and "model" in value and "obsm" in value.get("params", {})


def _slots_of(mdata: MuData, name: str) -> Slots:
    params: Mapping[str, str] = mdata.uns[name]["params"]
    return Slots(name, str(params["obsm"]))
