"""A stand-in for CuPy on machines without a GPU: with this folder on the path, ``import cupy`` finds it."""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parent / "cupy" / "__init__.py"


@functools.cache
def stand_in() -> ModuleType:
    """The module, one for the process."""
    spec = importlib.util.spec_from_file_location("cupy", FILE, submodule_search_locations=[str(FILE.parent)])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", module)
        spec.loader.exec_module(module)
    return module
