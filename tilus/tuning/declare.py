"""The space that ``@tl.autotune`` declares, with what is wrong about it said at the user's line."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tilus.diagnostics import Diagnostic, Label, Span, UserError
from tilus.ir.dtypes import DType
from tilus.lang.constants import constant_key
from tilus.lang.signature import parameter_type_of
from tilus.runtime.fuse import TILES, FusedFunction
from tilus.runtime.jit import JitFunction
from tilus.runtime.scalars import convert_constant, convert_scalar
from tilus.tuning.config import shown
from tilus.tuning.keys import Arguments
from tilus.tuning.space import GridSpace, ListSpace, Space, Variant
from tilus.tuning.system import Where
from tilus.tuning.targets import LIMITS

Kernel = JitFunction | FusedFunction


def declare_space(kernel: Kernel, parameters: Mapping[str, Iterable[Any]], configs: Iterable[Mapping[str, Any]] | None,
                  where: Where, facts: Arguments, span: Span | None) -> Space:
    """The space over a kernel. Raises UserError (E1101 to E1104)."""
    declaration = _Declaration(kernel, facts, span)
    if configs is not None and parameters:
        raise declaration.error("it is given configurations and values of parameters as well",
                                help="write the configurations with all of their values")
    if configs is None and not parameters:
        raise declaration.error("there is nothing to choose from", help="give values: BM=[64, 128]")
    known = (*facts.integer_names, *LIMITS)
    space: Space
    if configs is None:
        values = {name: declaration.values(name, listed) for name, listed in parameters.items()}
        space = GridSpace.of(values, where, known=known, span=span)
    else:
        space = ListSpace.of(declaration.configs(configs), where, known=known, given=declaration.defaults, span=span)
    if not space:
        raise space.emptiness()
    return space


class _Declaration:
    def __init__(self, kernel: Kernel, facts: Arguments, span: Span | None) -> None:
        self.kernel, self.facts, self.span = kernel, facts, span
        self.tiles = [n for n in TILES if n not in kernel.signature.names] if isinstance(kernel, FusedFunction) else []

    def error(self, message: str, *, help: str | None = None, declared: str | None = None) -> UserError:
        """An error at the decorator, with the parameter it is about."""
        labels = [Label(self.span)] if self.span is not None and self.span.known else []
        if declared is not None:
            labels.append(Label(self.kernel.signature.span(declared), "declared here"))
        return UserError(Diagnostic("E1103", f"the space of {self.kernel.__name__!r}: {message}", tuple(labels), help))

    @functools.cached_property
    def defaults(self) -> dict[str, int]:
        """Integers that parameters have where a configuration does not name them."""
        return {s.name: s.default for s in self.kernel.signature.specs if isinstance(s.default, int)}

    def check_parameter(self, name: str) -> None:
        names = (*self.kernel.signature.names, *self.tiles)
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            raise self.error(f"there is no parameter {name!r}",
                             help=f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}")
        if self.facts.kinds.get(name) == "array":
            raise self.error(f"{name!r} is an array, and only numbers and compile-time values can be chosen",
                             declared=name)

    def values(self, name: str, values: Iterable[Any]) -> tuple[Any, ...]:
        """The values of a parameter, of its type."""
        self.check_parameter(name)
        if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
            raise self.error(f"{name!r} is {values!r}, not a list of values", help=f"write {name}=[{values!r}]")
        found: list[Any] = []
        for value in values:
            converted = self.value(name, value)
            if any(constant_key(converted) == constant_key(other) for other in found):
                raise self.error(f"{name!r} has the value {value!r} twice")
            found.append(converted)
        if not found:
            raise self.error(f"{name!r} has no values")
        return tuple(found)

    def value(self, name: str, value: Any) -> Any:
        """A value of a parameter's type."""
        try:
            hash(constant_key(value))
        except TypeError:
            raise self.error(f"{name!r} is {value!r} among others, which has no hash",
                             help="give values that can be hashed, such as tuples") from None
        spec = next((s for s in self.kernel.signature.specs if s.name == name), None)
        annotation: Any = self.facts.annotation(spec, {}) if spec is not None else bool if name == "prefetch" else int
        kind = parameter_type_of(annotation)
        try:
            if isinstance(kind, DType):
                return convert_scalar(name, kind, value)
            return value if annotation is None else convert_constant(name, annotation, value)
        except TypeError as error:
            raise self.error(str(error), declared=name if spec else None) from None

    def configs(self, configs: Iterable[Mapping[str, Any]]) -> Sequence[Variant]:
        found: list[Variant] = []
        for config in configs:
            if not isinstance(config, Mapping):
                raise self.error(f"a configuration is {config!r}", help="write {'BM': 64} or tl.Config(BM=64)")
            for name in config:
                self.check_parameter(name)
            converted = {name: self.value(name, value) for name, value in config.items()}
            if converted in found:
                raise self.error(f"the configuration {shown(converted)} is there twice")
            found.append(converted)
        if not found:
            raise self.error("there are no configurations")
        return found


__all__ = ["declare_space"]
