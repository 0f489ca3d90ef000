"""The parameters of a kernel: what is an array, a run-time scalar, a compile-time constant."""

from __future__ import annotations

import ast
import functools
import inspect
from types import UnionType
from typing import Any

from tilus.diagnostics import UserError
from tilus.ir.annotations import ArrayAnnotation, OptionalAnnotation, UnionAnnotation
from tilus.ir.core import Parameter
from tilus.ir.dtypes import DType
from tilus.ir.strides import contiguous_strides, divisor_of, stride_divisors
from tilus.lang.capture import CapturedFunction
from tilus.records import record

MISSING = inspect.Parameter.empty


@record(frozen=True, slots=True)
class ParameterSpec:
    """One parameter as written: its name, annotation source and default (``MISSING`` for none)."""

    name: str
    annotation: ast.expr | None
    default: Any


_KINDS = (ArrayAnnotation, UnionAnnotation, OptionalAnnotation, DType, type, UnionType)


class Signature:
    """The parameters of a captured kernel, in order. Annotations may use compile-time parameters, so they are evaluated
    per specialisation by :meth:`annotation`."""

    def __init__(self, captured: CapturedFunction) -> None:
        self.captured = captured
        node = captured.node
        if node.args.vararg or node.args.kwarg:
            raise UserError.at("E0109", "a kernel has no * or ** parameters", captured.span(node.args.vararg or node))
        parameters = inspect.signature(captured.function, follow_wrapped=False).parameters
        defaults = {p.name: p.default for p in parameters.values()}
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        self.specs = tuple(ParameterSpec(a.arg, a.annotation, defaults[a.arg]) for a in arguments)
        self.names = tuple(s.name for s in self.specs)
        self._nodes = {a.arg: a for a in arguments}

    @functools.cached_property
    def binding_order(self) -> tuple[int, ...]:
        """The numbers of the parameters, compile-time ones first, so that annotations of others may use them."""
        numbers = range(len(self.specs))
        return tuple(sorted(numbers, key=lambda i: not self._is_constant(self.specs[i])))

    def _is_constant(self, spec: ParameterSpec) -> bool:
        try:
            return is_constant_annotation(self.annotation(spec, {}))
        except UserError:  # it needs the values of others
            return False

    @functools.cached_property
    def _codes(self) -> dict[str, Any]:
        return {
            s.name: compile(ast.Expression(s.annotation), self.captured.file, "eval")
            for s in self.specs if s.annotation is not None
        }

    @property
    def _is_method(self) -> bool:
        """Whether the function stands in a class; its first parameter is then the object, a compile-time value."""
        return self.captured.function.__qualname__.rpartition(".")[0].rpartition(".")[2] not in ("", "<locals>")

    def span(self, name: str) -> Any:
        return self.captured.span(self._nodes[name])

    def annotation(self, spec: ParameterSpec, constants: dict[str, Any]) -> Any:
        """The evaluated annotation, given the values of compile-time parameters. Raises UserError (E0109).

        Of several element types the one in ``constants`` under the parameter's :func:`type_key` is chosen.
        """
        value = self._evaluate(spec, constants)
        key = type_key(spec.name)
        if key in constants:
            optional = isinstance(value, OptionalAnnotation)
            union = value.inner if isinstance(value, OptionalAnnotation) else value
            chosen = union.option(constants[key]) if isinstance(union, UnionAnnotation) else None
            if chosen is not None:
                return OptionalAnnotation(chosen) if optional else chosen
        return value

    def _evaluate(self, spec: ParameterSpec, constants: dict[str, Any]) -> Any:
        if spec.annotation is None and spec.name == self.names[0] and self._is_method:
            return object
        if spec.annotation is None:
            raise UserError.at("E0109", f"parameter {spec.name!r} has no annotation", self.span(spec.name),
                               help='annotate arrays `tl.f32["M", "N"]`, run-time scalars `tl.i32`, and compile-time '
                                    "constants `int`, `bool` or `float`")
        function = self.captured.function
        scope = {**self.captured.closure, **constants}
        try:
            # Where Python has evaluated it, variables of enclosing functions have been seen too.
            value = function.__annotations__.get(spec.name)
            if value is None or isinstance(value, str):
                value = eval(self._codes[spec.name], function.__globals__, scope)
            if isinstance(value, str):  # a quoted annotation
                value = eval(value, function.__globals__, scope)
        except UserError:
            raise
        except Exception as error:
            raise UserError.at("E0109", f"the annotation of {spec.name!r} cannot be evaluated: {error}",
                               self.captured.span(spec.annotation)) from error
        scalar = storage_scalar(value)
        if scalar is not None:
            raise UserError.at("E0109", f"{spec.name!r} is a run-time scalar of {scalar}, a type for storage only",
                               self.captured.span(spec.annotation),
                               help=f"annotate it `tl.{'f32' if scalar.is_float else 'i32'}`, and convert it in the "
                                    f"kernel: `{spec.name}.to(tl.{scalar})`")
        if value is None or not (isinstance(value, _KINDS)
                                 or hasattr(value, "__origin__")):
            raise UserError.at("E0109", f"{value!r} is not the type of a parameter",
                               self.captured.span(spec.annotation))
        return value


def storage_scalar(annotation: Any) -> DType | None:
    """The type of a run-time scalar that is for storage only, which no argument has; None for all else."""
    inner = annotation.inner if isinstance(annotation, OptionalAnnotation) else annotation
    return inner if isinstance(inner, DType) and not (inner.is_bool or inner.is_arithmetic) else None


def refuse_storage_scalars(captured: CapturedFunction) -> None:
    """Raise UserError (E0109) where a function has such a parameter, as far as Python has evaluated its annotations;
    the others are looked at by the first call."""
    if any(storage_scalar(annotation) for annotation in captured.function.__annotations__.values()):
        signature = Signature(captured)
        for spec in signature.specs:
            if storage_scalar(captured.function.__annotations__.get(spec.name)):
                signature.annotation(spec, {})


def is_constant_annotation(annotation: Any) -> bool:
    """Whether a parameter so annotated is a compile-time constant."""
    return not isinstance(annotation, (ArrayAnnotation, UnionAnnotation, OptionalAnnotation, DType))


def type_key(name: str) -> str:
    """Where the constants of a specialisation keep the element type of a parameter that allows several."""
    return f"{name}.dtype"


def dim_value(dim: str | int, constants: dict[str, Any]) -> int | None:
    """The extent of a declared dimension where it is known at compile time: a number, the name of a compile-time
    parameter, or an expression over those."""
    if isinstance(dim, int):
        return dim
    if dim.isidentifier():
        value = constants.get(dim)
        return value if isinstance(value, int) else None
    try:
        value = eval(_dim_code(dim), {"__builtins__": {}}, dict(constants))
    except NameError:
        return None
    return value if isinstance(value, int) else None


@functools.lru_cache(maxsize=256)
def _dim_code(text: str) -> Any:
    return compile(text, "<dimension>", "eval")


def default_parameter(name: str, annotation: Any, constants: dict[str, Any], *, assume: str = "divisible",
                      prepacked: bool = False) -> Parameter:
    """What is assumed of a parameter when a kernel is compiled without arguments at hand.

    ``assume``: ``"divisible"`` (contiguous, 16-byte aligned, named run-time extents multiples of 16, those
    of arrays of less than 8 bits of 32), ``"contiguous"``
    (aligned, any extents) or ``"strided"`` (nothing but a last stride of 1). ``prepacked``: it is an array in the order
    that the kernel chooses.
    """
    annotation = parameter_type_of(annotation)
    if isinstance(annotation, DType):
        return Parameter(name, "scalar", divisible=False)
    shape = tuple(dim_value(d, constants) for d in annotation.dims)
    rank = len(shape)
    bits = annotation.dtype.packed_bits
    divisors = tuple(divisor_of(n if n is not None else 0 if assume == "divisible" and str(dim).isidentifier() else 1,
                                bits) for n, dim in zip(shape, annotation.dims, strict=True))
    contiguous = assume != "strided" or prepacked
    strides = contiguous_strides(shape) if contiguous else (None,) * max(0, rank - 1) + (1,) * min(1, rank)
    multiples = stride_divisors(shape, divisors, bits) if contiguous else (1,) * rank
    return Parameter(
        name, "array", annotation.dims, shape, strides, contiguous, divisors, multiples, aligned=assume != "strided",
        small=True,
        prepacked=prepacked,
    )


def parameter_type_of(annotation: Any) -> Any:
    """The array annotation or DType of an annotation that may be optional or a union, of which the first counts."""
    inner = annotation.inner if isinstance(annotation, OptionalAnnotation) else annotation
    return inner.options[0] if isinstance(inner, UnionAnnotation) else inner
