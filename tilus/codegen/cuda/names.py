"""Names of variables in CUDA C: those of the source, where they are no other's."""

from __future__ import annotations

import functools
from collections import Counter

from tilus.codegen.cuda.prelude import FUNCTIONS
from tilus.codegen.cuda.source_lines import SourceLines
from tilus.diagnostics import Span
from tilus.ir.core import Value
from tilus.ir.names import DEVICE_NAMES, c_name

_RESERVED = DEVICE_NAMES | FUNCTIONS.keys()
"""Names that variables must not have."""


@functools.lru_cache(maxsize=1024)
def _spelled(name: str) -> str:
    """A name in C; those that begin with two underscores are the compiler's own."""
    spelled = c_name(name)
    return f"v{spelled}" if spelled.startswith("__") else spelled


class Names:
    """Gives each variable of a kernel a name."""

    def __init__(self, source: SourceLines) -> None:
        self.source = source
        self.roots: dict[str, str] = {}  # of a pointer's variable: the array that it points into
        self._taken: set[str] = set()
        self._numbers: Counter[str] = Counter()  # of variables of one stem

    def fresh(self, stem: str, span: Span) -> str:
        """A name that no variable has: from a name of the source, or else the one that the line assigns, numbered."""
        known = stem.isidentifier()
        stem = _spelled(stem if known else self.source.target(span) or "v")
        name = stem if known else f"{stem}_1"
        while name in self._taken or name in _RESERVED:
            self._numbers[stem] += 1
            name = f"{stem}_{self._numbers[stem]}"
        self._taken.add(name)
        return name

    def pointer(self, base: str, shared: bool, span: Span) -> str:
        """A name for a pointer into what ``base`` points into."""
        root = self.roots.get(base, "p")
        name = self.fresh(f"{root}_{'at' if shared else 'ptr'}", span)
        self.roots[name] = root
        return name

    def stem(self, value: Value, span: Span) -> str:
        """The name of a value, or, of a scalar that has none, one that tells it from the variable of its line."""
        dtype = value.tile.dtype
        if value.name or value.tile.shape or dtype.is_float:
            return value.name
        target = self.source.target(span)
        return f"{target}{'_' if target else ''}{'ok' if dtype.is_bool else 'index'}"
