"""Kernels and fused functions as operators of torch: with shapes for fake tensors, gradients and vmap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from tilus.diagnostics import UserError
from tilus.ir.annotations import ArrayAnnotation, OptionalAnnotation, UnionAnnotation
from tilus.ir.dtypes import DType
from tilus.lang.signature import MISSING, ParameterSpec
from tilus.lowering.array.tiles import GPU_TILES
from tilus.runtime.arguments import call_error
from tilus.runtime.fuse import FusedFunction
from tilus.runtime.jit import JitFunction
from tilus.torch.dtypes import dtype_of, torch_dtype

Kernel = JitFunction | FusedFunction
Makers = Mapping[str, Callable[..., Any]]


def custom_op(kernel: Kernel, *, outputs: Makers | int | None = None, backward: Callable[..., Any] | None = None,
              name: str | None = None) -> Any:
    """An operator of torch that runs a kernel: it can be compiled around, differentiated and mapped over. Its
    parameters are those of the kernel that are tensors, numbers, bools and strings; others keep their defaults.

    Args:
        kernel: a fused function, or a kernel whose written arrays ``outputs`` names.
        outputs: for each array that the kernel writes, a function of all other arguments (as they are passed to the
            operator) that gives a new tensor for it: ``{"c": lambda a, b: a.new_empty(a.shape[0], b.shape[1])}``.
            The operator gives these tensors. Of fused functions it is the number of results, by default 1.
        backward: a function of the gradients of the results, the tensors that came in, and the results, which gives a
            gradient for each of those tensors (None where there is none). It may call operators made by this function.
        name: ``"namespace::name"``; by default the kernel's name among those of ``tilus``.

    Raises:
        UserError: E0604, ``outputs`` does not fit the kernel; E0109, a parameter has a type that operators lack.
    """
    made = _Operator(kernel, outputs)
    op = torch.library.custom_op(name or f"tilus::{kernel.__name__}", made.run, mutates_args=(), schema=made.schema)
    op.register_fake(made.fake)
    op.register_vmap(_mapped(op))
    if backward is not None:
        op.register_autograd(_gradients(made, backward), setup_context=_saved(made))
    return op


class _Operator:
    """Attributes:
        specs, types: the parameters of the operator, and what the schema calls their types.
    """

    def __init__(self, kernel: Kernel, outputs: Makers | int | None) -> None:
        if not isinstance(kernel, (JitFunction, FusedFunction)):
            raise call_error("E0604", f"an operator is made of a Python {type(kernel).__name__}",
                             help="give a kernel of @tl.jit with `outputs=`, or a function of @tl.fuse")
        self.kernel = kernel
        self.makers = dict(outputs) if isinstance(outputs, Mapping) else {}
        self.count = len(self.makers) or (outputs if isinstance(outputs, int) else 1)
        wrong = [n for n in self.makers if n not in kernel.signature.names]
        if wrong:
            raise call_error("E0604", f"{kernel.__name__} has no parameter {wrong[0]!r} to be an output")
        if isinstance(kernel, JitFunction) != bool(self.makers):
            raise call_error("E0604", f"the outputs of {kernel.__name__} are {outputs!r}",
                             help="a kernel needs the arrays that it writes, `outputs={'c': …}`; fused functions take "
                                  "the number of their results")
        types = [(s, _type(kernel, s)) for s in kernel.signature.specs if s.name not in self.makers]
        self.specs = [s for s, t in types if t is not None]
        self.types = [t for _, t in types if t is not None]
        self.tensors = [i for i, t in enumerate(self.types) if t.startswith("Tensor")]

    @property
    def schema(self) -> str:
        parameters = [f"{t} {s.name}" + ("" if s.default is MISSING else f"={_literal(s.default)}")
                      for t, s in zip(self.types, self.specs, strict=True)]
        results = ", ".join(["Tensor"] * self.count)
        return f"({', '.join(parameters)}) -> {results if self.count == 1 else f'({results})'}"

    def run(self, *args: Any, **kwargs: Any) -> Any:
        values = self._values(args, kwargs)
        with torch.no_grad():
            if not self.makers:
                return self.kernel(**values)
            made = self._made(values)
            self.kernel(**values, **made)
        return _results(list(made.values()))

    def fake(self, *args: Any, **kwargs: Any) -> Any:
        values = self._values(args, kwargs)
        if self.makers:
            return _results(list(self._made(values).values()))
        return self._fused_results(values)

    def _values(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        given = {s.name: s.default for s in self.specs if s.default is not MISSING}
        given.update(zip([s.name for s in self.specs], args, strict=False))
        return {**given, **kwargs}

    def _made(self, values: dict[str, Any]) -> dict[str, Any]:
        return {name: make(**values) for name, make in self.makers.items()}

    def _fused_results(self, values: dict[str, Any]) -> Any:
        assert isinstance(self.kernel, FusedFunction)
        tensors = {n: v for n, v in values.items() if isinstance(v, torch.Tensor)}
        described = {n: (dtype_of(t.dtype), tuple(1 if e == 1 else None for e in t.shape)) for n, t in tensors.items()}
        program = self.kernel.program_for(values, described, GPU_TILES, {})
        extents: dict[int | str, Any] = {
            symbol: tensors[name].shape[axis] for symbol, (name, axis) in program.sources.items()}
        model = next(iter(tensors.values()))
        made = [model.new_empty(() if i in program.flat else [extents.get(e, e) for e in shape],
                                dtype=torch_dtype(dtype)) for i, (dtype, shape) in enumerate(program.outputs)]
        return tuple(made) if program.several else made[0]


def _results(made: list[Any]) -> Any:
    return made[0] if len(made) == 1 else tuple(made)


def _type(kernel: Kernel, spec: ParameterSpec) -> str | None:
    """What the schema calls the type of a parameter; None for one that keeps its default, since operators lack such."""
    annotation = None
    if spec.annotation is not None:
        defaults = {s.name: s.default for s in kernel.signature.specs if s.default is not MISSING}
        annotation = kernel.signature.annotation(spec, defaults)
    optional = isinstance(annotation, OptionalAnnotation)
    inner = annotation.inner if isinstance(annotation, OptionalAnnotation) else annotation
    if isinstance(inner, (ArrayAnnotation, UnionAnnotation)):
        return "Tensor?" if optional else "Tensor"
    if isinstance(inner, DType):
        return "float" if inner.is_float else "bool" if inner.is_bool else "SymInt"
    if annotation is None and spec.default in (MISSING, None):
        return "Tensor" if spec.default is MISSING else "Tensor?"
    kind = annotation if isinstance(annotation, type) else type(spec.default)
    found = {bool: "bool", int: "int", float: "float", str: "str"}.get(kind)
    if found is None and spec.default is MISSING:
        raise UserError.at("E0109", f"{spec.name!r} is a parameter of a type that operators of torch lack",
                           kernel.signature.span(spec.name), help="they take tensors, numbers, bools and strings")
    return found


def _literal(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def _saved(made: _Operator) -> Callable[..., None]:
    def setup(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
        results = output if isinstance(output, tuple) else (output,)
        ctx.save_for_backward(*[inputs[i] for i in made.tensors], *results)

    return setup


def _gradients(made: _Operator, backward: Callable[..., Any]) -> Callable[..., Any]:
    def gradients(ctx: Any, *grads: Any) -> Any:
        found = backward(*grads, *ctx.saved_tensors)
        given = list(found) if isinstance(found, (tuple, list)) else [found]
        if len(given) != len(made.tensors):
            raise call_error("E0604", f"the backward function of {made.kernel.__name__} gives {len(given)} gradients "
                                      f"for {len(made.tensors)} tensors")
        places = iter(given)
        return tuple(next(places) if i in made.tensors else None for i in range(len(made.specs)))

    return gradients


def _mapped(op: Any) -> Callable[..., Any]:
    """Over a dimension, element by element."""
    def mapped(info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
        results = [op(*(a if d is None else a.select(d, i) for a, d in zip(args, in_dims, strict=True)))
                   for i in range(info.batch_size)]
        if isinstance(results[0], tuple):
            return tuple(torch.stack(r) for r in zip(*results, strict=True)), (0,) * len(results[0])
        return torch.stack(results), 0

    return mapped


__all__ = ["custom_op"]
