from __future__ import annotations

import pytest

from jamie_sc._core._slots import Slots, find_slots


def test_names_of_slots():
    default, own = Slots.of("jamie"), Slots.of("jamie", "mine")
    assert (default.uns, default.obsm, default.imputed("rna")) == ("jamie", "X_jamie", "jamie_from_rna")
    assert (own.uns, own.obsm, own.imputed("rna")) == ("mine", "mine", "mine_from_rna")


@pytest.mark.parametrize("key", [None, "jamie", "X_jamie"])
def test_found_by_any_of_its_names(trained, key):
    assert find_slots(trained, key) == Slots("jamie", "X_jamie")


def test_key_added_with_prefix_is_found(trained):
    trained.uns["X_own"] = {**trained.uns.pop("jamie"), "params": {"obsm": "X_own"}}
    assert find_slots(trained, "X_own") == find_slots(trained) == Slots("X_own", "X_own")


def test_several_integrations_are_listed(trained):
    trained.uns["second"] = {**trained.uns["jamie"], "params": {"obsm": "second"}}
    with pytest.raises(KeyError, match=r"\['jamie', 'second'\].*key="):
        find_slots(trained)
    assert find_slots(trained, "second").obsm == "second"
    assert find_slots(trained, "jamie").obsm == "X_jamie"


def test_unknown_key_lists_those_there(trained):
    with pytest.raises(KeyError, match=r"'scvi'.*\['jamie'\].*key_added='scvi'"):
        find_slots(trained, "scvi")


def test_nothing_trained(mdata):
    mdata.uns["jamie"] = {"made": "by hand"}
    with pytest.raises(KeyError, match=r"no trained model.*tl\.integrate"):
        find_slots(mdata)
