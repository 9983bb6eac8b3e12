"""The rules of CONTRIBUTING.md, read off the source and the signatures."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import jamie_sc

ROOT = Path(jamie_sc.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
PARTS = ("pp", "tl", "get", "pl", "datasets", "metrics", "align")
PUBLIC = [
    pytest.param(part, name, id=f"{part}.{name}")
    for part in PARTS
    for name in import_module(f"jamie_sc.{part}").__all__
    if inspect.isfunction(getattr(import_module(f"jamie_sc.{part}"), name))
]

LEVEL = {"_compat": 0, "_logging": 0, "_settings": 0, "_core": 1, "models": 2, "align": 2, "metrics": 2}
LEVEL |= dict.fromkeys(("tl", "pp", "pl", "get", "datasets"), 3) | {"_cli": 4}
ARRAYS_ONLY = {"models", "align", "metrics"}
NO_TORCH = {"_core", "tl", "get", "pp", "pl"}


def function_of(part, name):
    return getattr(import_module(f"jamie_sc.{part}"), name)


def part_of(path):
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imports(path):
    """Absolute names of the modules that a file imports, wherever in it."""
    package = ("jamie_sc", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def calls(path, *, module_level=False):
    """Dotted names of everything that a file calls; `module_level` for what importing it would call."""
    stack = [ast.parse(path.read_text())]
    while stack:
        node = stack.pop()
        if module_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)
        stack.extend(ast.iter_child_nodes(node))


each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
each_public = pytest.mark.parametrize(("part", "name"), PUBLIC)


def test_the_walk_sees_the_package():
    assert {"_core", "tl", "pp", "get", "pl", "models", "metrics", "datasets", "_cli"} <= set(map(part_of, SOURCES))
    assert len(PUBLIC) > 15
    assert "jamie_sc._core._slots.find_slots" in set(imports(ROOT / "tl" / "_impute.py"))
    assert "find_slots" in set(calls(ROOT / "tl" / "_impute.py"))
    assert "find_slots" not in set(calls(ROOT / "tl" / "_impute.py", module_level=True))


# Public functions ---------------------------------------------------------------------------------------------------


@each_public
def test_docstring(part, name):
    function = function_of(part, name)
    doc = inspect.getdoc(function) or ""
    for section in ("Returns", "Examples"):
        assert f"\n{section}\n{'-' * len(section)}\n" in doc, f"no {section}"
    assert ">>> " in doc
    assert not re.search(r"(?<![\w^_}])\{\w*\}|%\(", doc), "a placeholder was left over"  # M_{ij} is mathematics
    for parameter in inspect.signature(function).parameters:
        assert re.search(rf"^(\S+, )*\**{parameter}(, \S+)*$", doc, re.M), f"{parameter} is not documented"


@each_public
def test_file(part, name):
    assert function_of(part, name).__module__ == f"jamie_sc.{part}._{name}"


@each_public
def test_signature(part, name):
    parameters = list(inspect.signature(function_of(part, name)).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    most = {"metrics": 4, "align": 2, "datasets": 1}.get(part, 2 if name == "map_query" else 1)
    assert len(positional) <= most
    assert not any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if part in ("pp", "tl", "get", "pl"):
        first = parameters[0]
        table = name in ("alignment_scores", "feature_scores")  # of runs, which no single MuData has
        assert first.name == ("query" if name == "map_query" else "scores" if table else "mdata")
        assert first.annotation == ("pd.DataFrame" if table else "MuData")
        assert first.default is first.empty


@each_public
def test_copy(part, name):
    signature = inspect.signature(function_of(part, name))
    writes = part in ("pp", "tl") and signature.return_annotation not in ("pd.DataFrame",)
    assert ("copy" in signature.parameters) == writes
    if writes:
        copy = signature.parameters["copy"]
        assert copy.kind is copy.KEYWORD_ONLY
        assert copy.default is False
        assert signature.return_annotation == "MuData | None"


@pytest.mark.parametrize("name", [p.values[1] for p in PUBLIC if p.values[0] == "pl"])
def test_plots_take_ax_and_show_and_never_save(name):
    parameters = inspect.signature(function_of("pl", name)).parameters
    assert parameters["ax"].default is None
    assert parameters["show"].default is None
    assert "save" not in parameters


def test_random_functions_are_repeatable_by_default():
    defaults = {p.values: inspect.signature(function_of(*p.values)).parameters.get("rng") for p in PUBLIC}
    assert {name: p.default for name, p in defaults.items() if p is not None and p.default != 0} == {}
    assert not any({"seed", "random_state"} & set(inspect.signature(function_of(*p.values)).parameters) for p in PUBLIC)


# Who imports whom ---------------------------------------------------------------------------------------------------


@each_source
def test_nobody_imports_upwards(path):
    part = part_of(path)
    if part == "__init__":
        return
    for name in imports(path):
        if name.startswith("jamie_sc."):
            other = name.split(".")[1]
            if other == "settings":
                other = "_settings"
            allowed = LEVEL[other] <= LEVEL[part] if part != "_core" else other in ("_core", "_compat", "_logging")
            assert allowed, f"{part} imports {name}"


@each_source
def test_third_party_imports(path):
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"pickle", "dill", "cloudpickle", "joblib"}
    if part_of(path) in ARRAYS_ONLY:
        assert not roots & {"anndata", "mudata", "scanpy"}
    if part_of(path) in NO_TORCH:
        assert "torch" not in roots


def test_import_is_light_and_leaves_no_trace():
    code = (
        "import logging, sys, warnings; level, filters = logging.root.level, list(warnings.filters)\n"
        "import scanpy, mudata, matplotlib.pyplot, sklearn.decomposition, tqdm.auto, pooch, yaml\n"
        "filters = list(warnings.filters); handlers = list(logging.root.handlers)\n"
        "import jamie_sc\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
        "assert warnings.filters == filters, 'warnings'\n"
        "assert logging.root.handlers == handlers and logging.root.level == level, 'logging'\n"
        "assert all(isinstance(h, logging.NullHandler) for h in logging.getLogger('jamie_sc').handlers)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


# What nobody does ---------------------------------------------------------------------------------------------------

NEW_GENERATORS = {"default_rng", "Generator", "SeedSequence", "PCG64"}


@each_source
def test_no_global_effects(path):
    used = set(calls(path))
    assert "print" not in used
    assert not {name for name in used if name.endswith("basicConfig")}
    drawn = {match[1] for name in used if (match := re.match(r"(?:np|numpy)\.random\.(\w+)", name))}
    assert drawn <= NEW_GENERATORS
    at_import = set(calls(path, module_level=True))
    assert not {name for name in at_import if re.search(r"simplefilter|filterwarnings|set_options|manual_seed", name)}


@each_source
def test_no_assert_for_input_and_no_bare_except(path):
    tree = ast.parse(path.read_text())
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert not [n.lineno for n in ast.walk(tree) if isinstance(n, ast.ExceptHandler) and n.type is None]
