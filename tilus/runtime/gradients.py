"""Derivatives of fused functions as fused functions: ``tl.grad``, ``tl.value_and_grad``, ``tl.vjp``."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any

from tilus.diagnostics.entry import public_function
from tilus.ir.core import Module
from tilus.ir.dtypes import DType
from tilus.lang.arrays import ArraySpec, trace_arrays
from tilus.lang.derivatives import Derivative
from tilus.lang.signature import MISSING, ParameterSpec, Signature
from tilus.runtime.arguments import call_error
from tilus.runtime.fuse import FusedFunction
from tilus.runtime.scalars import what_is


class DerivedFunction(FusedFunction):
    """The derivative of a fused function; it is called, compiled and explained as that is, and may be called in others.

    Attributes:
        derivative: by which parameters, and what it gives.
    """

    derivative: Derivative

    def __init__(self, function: Any, argnums: int | Sequence[int], with_value: bool, of_array: bool) -> None:
        if not isinstance(function, (FusedFunction, types.FunctionType)):
            raise call_error("E0604", f"the derivative of {what_is(function)}",
                             help="give a function of whole arrays, such as one of @tl.fuse")
        self.made_of = function, argnums, with_value, of_array
        inner = function if isinstance(function, DerivedFunction) else None
        self.of = function if isinstance(function, FusedFunction) else FusedFunction(function)
        super().__init__(self.of.function)
        names = self.of.signature.names
        single = isinstance(argnums, int)
        numbers = [argnums] if isinstance(argnums, int) else list(argnums)
        if not numbers or any(isinstance(n, bool) or not isinstance(n, int) or not -len(names) <= n < len(names)
                              for n in numbers):
            raise call_error("E0604", f"argnums={argnums!r} are not numbers of parameters of {self.__name__}",
                             help=f"it has {', '.join(names)}", declared=self.captured.span(self.captured.node))
        chosen = tuple(names[n] for n in numbers)
        cotangent = "cotangent"
        while cotangent in names:
            cotangent += "_"
        self.derivative = self.__tilus_derivative__ = Derivative(
            chosen, single, with_value, cotangent if of_array else "", inner.derivative if inner else None,
            {name: self.of.span(name) or self.captured.span(self.captured.node) for name in chosen})

    def __reduce__(self) -> Any:
        return type(self), self.made_of

    def __repr__(self) -> str:
        return f"<tilus derivative of {self.__name__} by {', '.join(self.derivative.parameters)}>"

    @functools.cached_property
    def signature(self) -> Signature:
        found = Signature(self.captured)
        found.specs = tuple(ParameterSpec(n, None, MISSING) for n in self._cotangents) + found.specs
        found.names = (*self._cotangents, *found.names)
        return found

    @functools.cached_property
    def _cotangents(self) -> tuple[str, ...]:
        """The parameters that the function itself has not, which come first: the outermost derivative's before
        others."""
        own = (self.derivative.cotangent,) if self.derivative.cotangent else ()
        return own + (self.of._cotangents if isinstance(self.of, DerivedFunction) else ())

    def span(self, name: str) -> Any:
        return self.captured.span(self.captured.node) if name in self._cotangents else super().span(name)

    def array_level(self, arrays: tuple[ArraySpec, ...], scalars: tuple[tuple[str, DType], ...],
                    constants: dict[str, Any]) -> tuple[Module, bool]:
        return trace_arrays(self.captured, arrays, scalars, constants, self.reads, self.derivative)

    def innermost(self) -> FusedFunction:
        """The function that it is a derivative of, in the end."""
        return self.of.innermost() if isinstance(self.of, DerivedFunction) else self.of

    def python_signature(self) -> inspect.Signature:
        kind = inspect.Parameter.POSITIONAL_ONLY
        found = inspect.signature(self.function)
        return found.replace(parameters=[*(inspect.Parameter(n, kind) for n in self._cotangents),
                                         *found.parameters.values()])

    @property
    def gives_outputs(self) -> bool:  # type: ignore[override]
        return not (self.derivative.with_value and not self.derivative.single)

    def _run(self, chosen: str | None, args: tuple[Any, ...], out: Any, kwargs: dict[str, Any],
             named: bool = False) -> Any:
        found = super()._run(chosen, args, out, kwargs, named)
        return found if self.gives_outputs else (found[0], tuple(found[1:]))


Argnums = int | Sequence[int]


@public_function
def grad(function: Callable[..., Any], argnums: Argnums = 0) -> DerivedFunction:
    """The gradient of a fused function that returns a number, as a fused function of the same parameters: the
    derivatives by those of numbers ``argnums``, an array for a number and a tuple for several. Like its function it is
    fused and tiled, computes again what it needs of it rather than to store that, and may be differentiated once more.
    It may be called in other fused functions."""
    return DerivedFunction(function, argnums, False, False)


@public_function
def value_and_grad(function: Callable[..., Any], argnums: Argnums = 0) -> DerivedFunction:
    """As :func:`grad`, giving the number that the function returns and then its gradient: ``(value, gradient)``, or
    ``(value, (gradient, …))`` where ``argnums`` are several."""
    return DerivedFunction(function, argnums, True, False)


@public_function
def vjp(function: Callable[..., Any], argnums: Argnums = 0) -> DerivedFunction:
    """As :func:`grad` of a fused function that returns an array. The first parameter is the derivative of a number by
    that array, and has its shape: ``tl.vjp(f)(cotangent, x)`` is the derivative of ``sum(f(x) * cotangent)``."""
    return DerivedFunction(function, argnums, False, True)


__all__ = ["DerivedFunction", "grad", "value_and_grad", "vjp"]
