"""The language's names as one namespace, for kernels in tests."""

from __future__ import annotations

import importlib
import pkgutil
from types import SimpleNamespace
from typing import Any

import tilus.ir.dtypes
import tilus.lang.builtins

_MODULES = [tilus.ir.dtypes, *(importlib.import_module(f"tilus.lang.builtins.{m.name}")
                               for m in pkgutil.iter_modules(tilus.lang.builtins.__path__))]
tl: Any = SimpleNamespace(**{k: getattr(m, k) for m in _MODULES for k in dir(m) if not k.startswith("_")})
