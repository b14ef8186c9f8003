"""The layers: who may import whom, and that loading the plugin brings no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "pytest_memreq"
MODULES = sorted(PACKAGE.rglob("*.py"))
VALUES = {
    "choices",
    "errors",
    "units",
    "requirement",
    "bisection",
    "holdings",
    "garbage",
    "replacing",
    "resolving",
    "strict_json",
    "timeline",
}
FINDERS = {"estimate", "simulate", "measure"}
MAY_IMPORT = {
    "errors": set(),
    "units": VALUES,
    "requirement": VALUES,
    **dict.fromkeys(
        (
            "bisection",
            "choices",
            "holdings",
            "garbage",
            "replacing",
            "resolving",
            "strict_json",
            "timeline",
        ),
        VALUES,
    ),
    **{finder: VALUES | {finder} for finder in FINDERS},
    "layouts": VALUES | {"estimate", "simulate", "layouts"},
    "gate": VALUES | {"gate"},
    "packing": VALUES | {"packing"},
    "results": VALUES | {"gate", "packing"},
    "reports": VALUES | FINDERS | {"gate", "packing", "results", "reports"},
    "plugin": VALUES | FINDERS | {"gate", "packing", "results", "reports", "plugin"},
    "cli": VALUES | FINDERS | {"layouts", "gate", "results", "reports", "cli"},
    "__main__": {"cli"},
    "__init__": VALUES | FINDERS | {"gate"},
}
# Loaded with the plugin, so they import torch only within functions, if at all.
TORCH_AT_THE_TOP = (
    *("estimate/layers.py", "estimate/layer_rules.py", "estimate/tracing.py", "estimate/twins.py"),
    *("simulate/", "measure/", "layouts/decoder.py", "layouts/training.py"),
)
LOADED_WITH_THE_PLUGIN = {
    "simulate/__init__.py",
    "simulate/calibration.py",
    "simulate/cards.py",
    "simulate/imports.py",
    "simulate/ranks.py",
    "simulate/search.py",
    "measure/__init__.py",
    "measure/meter.py",
    "measure/backends/__init__.py",
}
TORCH_WITHIN = ("estimate/", "simulate/", "measure/", "layouts/", "plugin/store.py")
# `simulate/groups.py` is the launcher of the ranks that it simulates: code asks the environment.
TALKS_TO_THE_WORLD = ("plugin/", "cli/", "reports/files.py", "simulate/groups.py")


def path_of(module):
    return module.relative_to(PACKAGE).as_posix()


def layer_of(module):
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(node, *, everywhere):
    """Names of imported modules: at the top only, or in functions too, never for types alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "relative import"
            yield child.module
            if child.module == "pytest_memreq":
                yield from (f"pytest_memreq.{alias.name}" for alias in child.names)
        elif everywhere or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from imports_of(child, everywhere=everywhere)


@pytest.mark.parametrize("module", MODULES, ids=path_of)
def test_a_module_imports_its_own_layer_and_those_below(module):
    tree = ast.parse(module.read_text(encoding="utf-8"))
    ours = [name for name in imports_of(tree, everywhere=True) if name.startswith("pytest_memreq.")]
    layers = {name.split(".")[1] for name in ours}
    assert layers <= MAY_IMPORT[layer_of(module)], layers


@pytest.mark.parametrize("module", MODULES, ids=path_of)
def test_torch_and_pytest_stay_where_they_belong(module):
    tree = ast.parse(module.read_text(encoding="utf-8"))
    at_the_top = {name.split(".")[0] for name in imports_of(tree, everywhere=False)}
    anywhere = {name.split(".")[0] for name in imports_of(tree, everywhere=True)}
    path = path_of(module)
    if not path.startswith(TORCH_AT_THE_TOP) or path in LOADED_WITH_THE_PLUGIN:
        assert "torch" not in at_the_top
    if not path.startswith(TORCH_WITHIN):
        assert "torch" not in anywhere
    if not path.startswith("plugin/"):
        assert "pytest" not in anywhere


@pytest.mark.parametrize("module", MODULES, ids=path_of)
def test_only_the_edges_talk_to_the_world(module):
    names = {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Name, ast.Attribute))
    }
    if not path_of(module).startswith(TALKS_TO_THE_WORLD):
        assert not names & {"open", "environ", "print", "write_text", "write_bytes"}


RUNS_FOREIGN = {
    *("pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "yaml"),
    *("telnetlib", "ftplib", "smtplib", "xmlrpc", "http", "socket", "requests"),
}
FOREIGN_ALLOWED = {"plugin/on_ranks.py": {"socket"}}  # a free port of this machine, for its ranks
CALLS_FOREIGN = {"eval", "exec", "os.system", "os.popen", "torch.load", "pty.spawn", "__import__"}


@pytest.mark.parametrize("module", MODULES, ids=path_of)
def test_nothing_foreign_is_run_or_unpickled(module):
    tree = ast.parse(module.read_text(encoding="utf-8"))
    imported = {name.split(".")[0] for name in imports_of(tree, everywhere=True)}
    assert not (imported & RUNS_FOREIGN) - FOREIGN_ALLOWED.get(path_of(module), set())
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        assert ast.unparse(call.func) not in CALLS_FOREIGN, call.lineno
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given.get("shell", "False") == "False", call.lineno
        if ast.unparse(call.func).startswith("subprocess."):  # a list of words, never one text
            assert not isinstance(call.args[0], (ast.Constant, ast.JoinedStr)), call.lineno


@pytest.mark.parametrize("name", ["pytest_memreq", "pytest_memreq.plugin", "pytest_memreq.cli"])
def test_loading_brings_no_torch(name):
    code = f"import sys, {name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    "first", ["pytest_memreq.estimate.layers", "pytest_memreq.simulate.device", "pytest_memreq"]
)
def test_the_functions_are_what_the_package_has_whatever_is_imported_first(first):
    code = (
        f"import sys, {first}, pytest_memreq as m;"
        "names = [getattr(m, name) for name in m.__all__];"
        "sys.exit(not (all(map(callable, names)) and not hasattr(m, 'nothing')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_loading_the_plugin_brings_no_formulas():
    code = (
        "import sys, pytest_memreq.plugin;"
        "sys.exit(any(name.startswith('pytest_memreq.estimate.') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
