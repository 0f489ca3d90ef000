"""The language's names as one namespace, for kernels in tests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import tilus.ir.dtypes
import tilus.lang.builtins.control
import tilus.lang.builtins.creation
import tilus.lang.builtins.elementwise
import tilus.lang.builtins.memory
import tilus.lang.builtins.reduction

_MODULES = (tilus.ir.dtypes, tilus.lang.builtins.control, tilus.lang.builtins.memory,
            tilus.lang.builtins.elementwise, tilus.lang.builtins.creation, tilus.lang.builtins.reduction)
tl: Any = SimpleNamespace(**{k: getattr(m, k) for m in _MODULES for k in dir(m) if not k.startswith("_")})
