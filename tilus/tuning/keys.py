"""Keys: which calls share a tuned variant.

Extents and integers are rounded, so that similar sizes share one: up to 16 they count as they are, beyond they count as
the next power of two (17 to 32 as 32, 33 to 64 as 64).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from tilus.diagnostics import Span, UserError
from tilus.ir.annotations import ArrayAnnotation
from tilus.ir.dtypes import DType, f32
from tilus.lang.signature import MISSING, ParameterSpec, Signature, parameter_type_of
from tilus.records import record
from tilus.runtime.arguments import take_array
from tilus.runtime.arrays import ArrayArgument
from tilus.runtime.scalars import is_integer
from tilus.targets import Target

EXACT = 16
"""Extents up to here count as they are."""

MOST_AXES = 8


def size_class(n: int) -> int:
    """What an extent counts as."""
    return n if n <= EXACT else 1 << (n - 1).bit_length()


@record(frozen=True)
class TuningKey:
    """What a choice depends on.

    Attributes:
        kernel: module and qualified name.
        target: the name of the target.
        dtypes: element types of the arrays, by parameter.
        sizes: rounded extents and other numbers, by name.
        constants: the other compile-time values that the call gives.
    """

    kernel: str
    target: str
    dtypes: tuple[tuple[str, str], ...]
    sizes: tuple[tuple[str, Any], ...]
    constants: tuple[tuple[str, Any], ...]


class Arguments:
    """What a kernel's parameters say of its arguments: which names stand for which numbers.

    Attributes:
        kinds: for each parameter ``"array"``, ``"scalar"``, ``"constant"`` or ``"any"`` (no annotation).
        integers: the parameters that are integers, or may be.
        dims: for array parameters, the names of their dimensions; other dimensions are called as in ``x_0``.
    """

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.kinds: dict[str, str] = {}
        self.integers: list[str] = []
        self.dims: dict[str, tuple[str | int, ...]] = {}
        known: dict[str, Any] = {}
        for spec in signature.specs:
            annotation = self.annotation(spec, known)
            inner = parameter_type_of(annotation)
            if isinstance(inner, ArrayAnnotation):
                self.kinds[spec.name], self.dims[spec.name] = "array", inner.dims
            elif isinstance(inner, DType):
                self.kinds[spec.name] = "scalar"
                self.integers += [spec.name] if inner.is_int else []
            elif annotation is None:
                self.kinds[spec.name] = "any"
                self.integers.append(spec.name)
            else:
                self.kinds[spec.name] = "constant"
                self.integers += [spec.name] if annotation in (int, bool) else []
                known[spec.name] = _stand_in(annotation) if spec.default is MISSING else spec.default

    def annotation(self, spec: ParameterSpec, known: Mapping[str, Any]) -> Any:
        """The annotation of a parameter, None where there is none or where it cannot be evaluated yet: calls say so."""
        if spec.annotation is None:
            return None
        try:
            return self.signature.annotation(spec, dict(known))
        except UserError:
            return None

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The names that a key may have: dimensions, run-time scalars and compile-time values."""
        dims = (d for declared in self.dims.values() for d in declared if isinstance(d, str) and d.isidentifier())
        return tuple(dict.fromkeys((*dims, *(n for n, kind in self.kinds.items() if kind != "array"))))

    @functools.cached_property
    def integer_names(self) -> tuple[str, ...]:
        """Those of them that stand for integers, extents of arrays without annotation (``x_0``) too."""
        plain = [f"{name}_{axis}" for name, kind in self.kinds.items() if kind == "any" for axis in range(MOST_AXES)]
        return tuple(n for n in (*self.names, *plain) if self.kinds.get(n) is None or n in self.integers)

    def is_name(self, name: str) -> bool:
        """Whether a name stands for a number, also of an array without annotation: ``x_0``."""
        parameter, _, axis = name.rpartition("_")
        return name in self.names or (self.kinds.get(parameter) in ("array", "any") and axis.isdigit())

    def check_key(self, names: Sequence[str], span: Span | None) -> None:
        """Raise UserError (E1107) where a name of a key is none."""
        for name in names:
            if not isinstance(name, str) or not self.is_name(name):
                import difflib

                near = difflib.get_close_matches(str(name), self.names, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self.names)}"
                raise UserError.at("E1107", f"{name!r} is neither a dimension nor a scalar of "
                                            f"{self.signature.captured.name!r}", span, help=hint)

    def arrays(self, arguments: Mapping[str, Any]) -> dict[str, ArrayArgument]:
        """The arrays among arguments. Raises UserError (E0601) for those that kernels do not take."""
        found = {}
        for name, value in arguments.items():
            if self.kinds.get(name) in ("array", "any") and not isinstance(value, (bool, int, float, str, type(None))):
                array = take_array(name, value, self.signature.span(name))
                if array is not None:
                    found[name] = array
        return found

    def extents(self, arrays: Mapping[str, ArrayArgument]) -> dict[str, int]:
        """The extents of arrays by name."""
        found: dict[str, int] = {}
        for parameter, array in arrays.items():
            declared = self.dims.get(parameter, ())
            for axis, extent in enumerate(array.shape):
                dim = declared[axis] if axis < len(declared) else None
                found.setdefault(dim if isinstance(dim, str) and dim.isidentifier() else f"{parameter}_{axis}", extent)
        return found

    def numbers(self, arguments: Mapping[str, Any], arrays: Mapping[str, ArrayArgument]) -> dict[str, int]:
        """All numbers that constraints may speak of: extents, integers among the arguments, defaults of the others."""
        defaults = {s.name: s.default for s in self.signature.specs if s.default is not MISSING}
        integers = {n: int(v) for n, v in {**defaults, **arguments}.items() if isinstance(v, bool) or is_integer(v)}
        return {**self.extents(arrays), **integers}


def _stand_in(annotation: Any) -> Any:
    """A value of a compile-time parameter without default, for annotations that use it: their names are what counts."""
    return {DType: f32, int: 1}.get(annotation)


def key_of(kernel: str, target: Target, facts: Arguments, names: Sequence[str] | None, arguments: Mapping[str, Any],
           arrays: Mapping[str, ArrayArgument], tuned: Sequence[str]) -> TuningKey:
    """The key of a call. ``names`` are those of the key, None for all extents; ``tuned`` the parameters to be
    chosen."""
    extents = facts.extents(arrays)
    given = {**{n: v for n, v in arguments.items() if n not in arrays}, **extents}
    sizes = tuple((name, _rounded(given.get(name))) for name in (extents if names is None else names))
    constants = tuple((n, tuple(v) if isinstance(v, list) else v) for n, v in arguments.items()
                      if n not in arrays and (n in tuned or facts.kinds.get(n) in ("constant", "any")))
    return TuningKey(kernel, target.name, tuple((n, str(a.dtype)) for n, a in arrays.items()), sizes, constants)


def _rounded(value: Any) -> Any:
    return size_class(value) if isinstance(value, int) and not isinstance(value, bool) else value


__all__ = ["Arguments", "TuningKey", "key_of", "size_class"]
