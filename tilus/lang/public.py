"""The names of the language that ``import tilus as tl`` gives: they are said once, where they are defined."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tilus.diagnostics.entry import public_function
from tilus.ir.dtypes import NAMED
from tilus.lang.builtins import (
    control,
    convolutions,
    creation,
    elementwise,
    functional,
    functions,
    layouts,
    memory,
    ordering,
    reduction,
    scaled,
    shape,
    sparse,
    statistics,
    sync,
)

MODULES = (control, creation, functions, elementwise, functional, layouts, memory, ordering, reduction, statistics,
           shape, sparse, scaled, sync, convolutions)


def public_names() -> Iterator[tuple[str, Any]]:
    """The element types, and what the modules of builtins define without an underscore."""
    for dtype in NAMED:
        yield dtype.name, dtype
    for module in MODULES:
        for name, value in vars(module).items():
            if getattr(value, "__module__", None) == module.__name__ and name[0] != "_":
                # Outside of a kernel errors of functions are the user's.
                yield name, value if isinstance(value, type) else public_function(value)
