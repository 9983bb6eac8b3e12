from __future__ import annotations

import logging

import pytest

import jamie_sc as jsc
from jamie_sc._compat import make_mudata


def counted(frame):
    return {(row.modality_a, row.modality_b): tuple(row)[3:] for row in frame.itertuples()}


def test_counts(mdata, unchanged):
    with unchanged(mdata):
        counts = jsc.pp.pairing(mdata)
    assert list(counts.columns) == ["modality_a", "modality_b", "paired", "only_a", "only_b", "ambiguous"]
    assert counted(counts) == {("rna", "adt"): (48, 16, 16, 0)}


def test_every_two_of_three(simulate):
    mdata = simulate("rna", "adt", "atac", n_cells=(50, 40, 30), paired_fraction=0.5)
    assert counted(jsc.pp.pairing(mdata)) == {
        ("rna", "adt"): (15, 35, 25, 0),
        ("rna", "atac"): (15, 35, 15, 0),
        ("adt", "atac"): (15, 25, 15, 0),
    }
    assert counted(jsc.pp.pairing(mdata, modalities=["atac", "rna"])) == {("atac", "rna"): (15, 15, 35, 0)}


def test_default_names_are_ambiguous_and_warned_about(simulate, caplog):
    first, second = simulate(n_cells=10, paired_fraction=1.0), simulate(n_cells=8, paired_fraction=1.0, rng=1)
    rna, adt = first["rna"].copy(), second["adt"].copy()
    rna.obs_names, adt.obs_names = [str(i) for i in range(10)], [str(i) for i in range(8)]
    with caplog.at_level(logging.INFO, logger="jamie_sc"):
        counts = jsc.pp.pairing(make_mudata({"rna": rna, "adt": adt}))
    assert counted(counts) == {("rna", "adt"): (8, 2, 0, 8)}
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "8 of the 8 cells" in warning.getMessage()


def test_real_names_give_no_warning(mdata, caplog):
    with caplog.at_level(logging.INFO, logger="jamie_sc"):
        jsc.pp.pairing(mdata)
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "48 paired" in caplog.text


def test_no_pair_is_counted_not_refused(simulate):
    mdata = simulate(n_cells=(10, 12), paired_fraction=0.0)
    assert counted(jsc.pp.pairing(mdata)) == {("rna", "adt"): (0, 10, 12, 0)}


def test_unknown_modality(mdata):
    with pytest.raises(KeyError, match="atac"):
        jsc.pp.pairing(mdata, modalities=["rna", "atac"])
