"""Layers import downwards only, and ``import tilus`` stays light."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tilus"

# From the lowest up. Packages of one layer do not import each other.
LAYERS = (
    {"_version", "records"},
    {"diagnostics"},
    {"layouts"},
    {"ir"},
    {"targets"},
    {"lang", "interp", "lowering"},
    {"codegen"},
    {"backends"},
    {"runtime"},
    {"quantization", "model"},
    {"tuning", "torch"},
    {"cli"},
)
# The simulators must share no code with what they check; only what runs kernels or counts what they do may call them.
ALLOWED: dict[str, set[str]] = {"simulator": {"diagnostics"}, "twin": {"diagnostics"}}
for _index, _layer in enumerate(LAYERS):
    for _name in _layer:
        ALLOWED[_name] = set().union(*LAYERS[:_index])
for _name in ("runtime", "model", "cli"):
    ALLOWED[_name] |= {"simulator", "twin"}

# Imported in functions, where they are needed.
HEAVY = ("sympy", "loky", "distributed", "optuna", "lark", "llvmlite", "click", "rich", "cupy", "torch",
         "importlib.metadata")


def imports(source: str, module: str) -> Iterator[tuple[str, int]]:
    """Absolute names of the modules that a module's source imports anywhere, with their lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[:-node.level], *filter(None, [node.module])])
            for alias in node.names:
                # "from tilus import ir" names a package as much as "import tilus.ir" does.
                yield f"{base}.{alias.name}" if base == "tilus" else base, node.lineno


def violations(source: str, module: str) -> list[str]:
    """What a module of tilus imports against the order of the layers."""
    own = module.split(".")[1]
    found = []
    for name, line in imports(source, module):
        parts = name.split(".")
        if parts[0] != "tilus":
            continue
        layer = parts[1] if len(parts) > 1 else "tilus itself"
        if layer != own and layer not in ALLOWED[own] and not (own == "cli" and layer == "tilus itself"):
            found.append(f"{module}:{line} imports {name}")
    return found


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path.parent != PACKAGE or path.name == "_version.py":
            found.append((name, path))
    return found


def test_every_package_has_a_place():
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages <= set(ALLOWED)


def test_layers_import_downwards():
    found = []
    for name, path in modules():
        found += violations(path.read_text(), name)
    assert found == []


@pytest.mark.sweep(keep=11)
@pytest.mark.parametrize("package", [
    "backends", "cli", "diagnostics", "interp", "ir", "lang", "layouts", "lowering", "model", "quantization", "runtime",
    "simulator", "targets", "torch", "tuning", "twin",
])
def test_modules_of_a_package_form_no_cycle(package: str):
    """Imports within functions count, those for type checkers do not."""
    known = dict(modules())
    graph = {name: {m for m in run_time_imports(path.read_text(), name, set(known)) if m != name}
             for name, path in known.items() if name.split(".")[1] == package and path.name != "__init__.py"}
    graphlib.TopologicalSorter(graph).prepare()


def run_time_imports(source: str, module: str, known: set[str]) -> Iterator[str]:
    """The modules among ``known`` that a module imports when it is run."""
    tree = ast.parse(source)
    for branch in [node for node in ast.walk(tree) if isinstance(node, ast.If)]:
        if "TYPE_CHECKING" in ast.dump(branch.test):
            branch.body = [ast.Pass()]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                yield from {f"{node.module}.{alias.name}", node.module} & known
        elif isinstance(node, ast.Import):
            yield from {alias.name for alias in node.names} & known


def test_a_cycle_is_found():
    graph = {"a": set(run_time_imports("def f():\n    from b import x", "a", {"a", "b"})), "b": {"a"}}
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(("module", "source"), [
    ("tilus.ir.core", "from tilus.lang import jit"),
    ("tilus.ir.core", "import tilus"),
    ("tilus.ir.core", "from tilus import lang"),
    ("tilus.ir.ops.memory", "from ...runtime import cache"),
    ("tilus.interp.run", "from tilus.lowering.passes import x"),
    ("tilus.simulator.parser", "def f():\n    import tilus.ir"),
    ("tilus.codegen.llvm", "import tilus.simulator"),
    ("tilus.lang.jit", "if TYPE_CHECKING:\n    from tilus.runtime.cache import Cache"),
])
def test_a_wrong_import_is_found(module: str, source: str):
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(("module", "source"), [
    ("tilus.ir.core", "from tilus.layouts import x\nfrom . import types\nimport tilus.ir.types, numpy"),
    ("tilus.runtime.engine", "from tilus.simulator import run"),
    ("tilus.cli.run", "import tilus\nfrom tilus import _version"),
])
def test_a_right_import_is_not(module: str, source: str):
    assert violations(source, module) == []


def test_import_tilus_is_light():
    code = f"import sys, tilus; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stdout == "[]\n"
