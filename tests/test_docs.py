"""What the documentation names is there, and what is there is named; Sphinx itself runs in .ci/run."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import jamie_sc as jsc
from jamie_sc._compat import no_pull

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs" / "guide"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(GUIDE.glob("*.md"))]
PARTS = [name for name in jsc.__all__ if inspect.ismodule(getattr(jsc, name))]
CALL = re.compile(rf"\b(?:jsc|jamie_sc)\.({'|'.join(PARTS)})\.([a-zA-Z]\w*)")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def public(part):
    return import_module(f"jamie_sc.{part}").__all__


@pytest.mark.parametrize("part", PARTS)
def test_every_public_name_gets_a_page(part):
    """The API page lists the modules; a template lists the functions and classes of their `__all__`."""
    assert f"\n   jamie_sc.{part}\n" in (ROOT / "docs" / "api.md").read_text()
    template = ROOT / "docs" / "_templates" / "autosummary" / "module.rst"
    assert "for name in functions + classes" in template.read_text()
    objects = [getattr(getattr(jsc, part), name) for name in public(part)]
    assert all(inspect.isfunction(one) or inspect.isclass(one) for one in objects)


@each_page
def test_functions_that_a_page_names_exist(page):
    named = set(CALL.findall(page.read_text()))
    assert {f"{part}.{name}" for part, name in named if name not in public(part)} == set()


@each_page
def test_code_is_python(page):
    for block in BLOCK.findall(page.read_text()):
        compile(block, page.name, "exec")


@pytest.mark.parametrize("name", public("pl"))
def test_every_plot_is_explained(name):
    assert re.search(rf"^### .*\b{name}\b", (GUIDE / "figures.md").read_text(), re.MULTILINE)


def slots_of(held):
    """Holder, kind and key of everything that a MuData and its modalities hold."""
    parts = ((holder, kind, part) for holder, kinds in held.items() for kind, part in kinds.items() if kind != "X")
    return {(holder, kind, key) for holder, kind, part in parts for key in part if key}


def test_every_slot_is_in_the_guide(simulate, quick, contents):
    mdata = simulate()
    before = slots_of(contents(mdata))
    jsc.pp.reduce(mdata, n_components=5)
    jsc.tl.match_cells(mdata, progress=False)
    jsc.tl.integrate(mdata, **quick)
    jsc.tl.impute(mdata, source="rna", target="adt", n_samples=2, interval=0.8, extend=True)
    jsc.tl.explain(mdata, source="rna", target="adt", features="adt3", cells=3, progress=False)
    jsc.tl.feature_impact(mdata, source="rna", labels_key="cell_type", progress=False)
    written = slots_of(contents(mdata)) - before
    assert {("", "obsm", "X_jamie"), ("rna", "varm", "jamie_shap"), ("adt", "layers", "jamie_from_rna_sd")} <= written
    page = (GUIDE / "slots.md").read_text().replace("<source>", "rna")
    places = {"": ["mdata"], "rna": ["mdata.mod[m]", "mdata.mod[source]"], "adt": ["mdata.mod[m]", "mdata.mod[target]"]}
    for holder, kind, key in written:
        assert any(f'`{place}.{kind}["{key}"]`' in page for place in places[holder]), (holder, kind, key)


def test_code_of_the_formats_page_runs(simulate, quick, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mdata = simulate("rna", "ephys")
    jsc.tl.integrate(mdata, **quick)
    names = {
        "jsc": jsc,
        "mdata": mdata,
        "rna": mdata["rna"],
        "ephys": mdata["ephys"],
        "query": simulate("rna", "ephys"),
    }
    with no_pull():
        for block in BLOCK.findall((GUIDE / "formats.md").read_text()):
            exec(compile(block, "formats.md", "exec"), names)
    assert "jamie_from_rna" in names["again"]["ephys"].layers
    assert (names["query"].obsm["X_jamie"] == mdata.obsm["X_jamie"]).all()
