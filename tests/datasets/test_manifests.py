from __future__ import annotations

import re

import pytest

from jamie_sc import datasets
from jamie_sc.datasets._manifest import manifest_names, read_manifest

EXPECTED = {
    "bmmc_cite",
    "colo320dm",
    "developing_brain",
    "mmdma_simulation",
    "patchseq_motor",
    "patchseq_visual",
    "scgem",
    "snare_seq",
}


def test_every_data_set_of_the_papers_has_a_manifest():
    assert set(manifest_names()) == EXPECTED


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_manifest_is_complete(name):
    manifest = read_manifest(name)
    assert manifest.name == name
    for field in ("description", "source", "citation", "licence", "role_in_paper"):
        assert getattr(manifest, field).strip()
    assert "doi" in manifest.citation
    assert manifest.source.startswith("https://")
    assert set(manifest.shape) == set(manifest.modalities)
    assert len({file.name for file in manifest.files}) == len(manifest.files)
    for file in manifest.files:
        assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
        if "githubusercontent" in file.url:
            assert re.search("/[0-9a-f]{40}/", file.url), "pin the file to a commit"


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_unknown_checksum_is_said(name):
    manifest = read_manifest(name)
    assert manifest.has_checksum or "checksum" in manifest.notes


def test_available_is_a_table_of_all():
    table = datasets.available()
    assert set(table.index) == EXPECTED
    assert table.loc["bmmc_cite", "modalities"] == "rna, adt"
    assert table.loc["scgem", "cells"] == 177
    assert not table.loc["snare_seq", "has_checksum"]


def test_unknown_data_set_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'motor'.*available\(\).*patchseq_motor"):
        read_manifest("motor")
