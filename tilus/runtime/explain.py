"""``kernel.explain``: what the compiler makes of a kernel, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tilus.backends import backend_of, engine_backend
from tilus.ir.core import Block, Module, Operation, Parameter
from tilus.ir.ops import ConvertLayout, For, While
from tilus.lowering.pipelines import run_passes
from tilus.runtime.arguments import call_error
from tilus.runtime.compile import Compiled, compile_specialisation
from tilus.runtime.specialise import Specialisation
from tilus.targets import Target, get_target


def explain(specialisation: Specialisation, target: str, via: str | None) -> str:
    """The specialisation, the operations at both levels, and the resources on ``target``."""
    record = get_target(target)
    compiled: Compiled = compile_specialisation(specialisation, record, via)
    pipeline = backend_of(record).pipeline(record)
    module = compiled.traced()
    lines = [f"{specialisation.captured.name} for {target} via {compiled.via}"]
    constants = ", ".join(f"{n}={v}" for n, v in specialisation.constants.items())
    lines.append(f"  constants: {constants or 'none'}")
    lines += [f"  {_parameter(p)}" for p in module.kernels[0].parameters]
    lines.append(f"  tile operations: {_counts(op.NAME for op in module.kernels[0].walk())}")
    lines.append(f"  passes: {', '.join(pipeline.names)}")
    module = compiled.traced()
    module.target = target
    run_passes(module, pipeline.tile)
    if "layouts" in module.form:
        lines.append(f"  layout conversions: {_conversions(module, record)}")
    lines.append(f"  thread operations: {_counts(op.title for op in compiled.lowered().kernels[0].walk())}")
    lines.append(f"  {compiled.summary()}")
    return "\n".join(lines)


def explain_call(function: Any, engine: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """How a call runs on an engine. Raises UserError (E0604) where there is no call, E0506 for engines that run no
    compiled code."""
    from tilus.runtime.engines import get_engine

    found, backend = get_engine(engine), engine_backend(engine)
    if backend is None:
        raise call_error("E0506", f"the engine {engine!r} runs a program by its meaning: there is no code to explain")
    if not args:
        raise call_error("E0604", "explain(engine=…) is about a call, and there are no arguments",
                         help=f"{function.__name__}.explain(a, b, engine={engine!r})")
    prepared = function.prepared(engine, args, kwargs)
    if backend.explain is not None:
        return backend.explain(prepared)
    return explain(prepared.specialisation, found.target.name, found.route.name if found.route is not None else None)


def _conversions(module: Module, target: Target) -> str:
    """How many tiles of the kernels go from one layout to another, by which way, and how many of them in loops."""
    from tilus.layouts.convert import MatrixTransposition, SharedPlan  # much code, which CPUs do without
    from tilus.layouts.shuffle import ShufflePlan
    from tilus.lowering.simt.scratch import conversion_plan

    ways = {SharedPlan: "through shared memory", ShufflePlan: "by shuffles", MatrixTransposition: "by movmatrix"}
    found: Counter[str] = Counter()
    repeated: Counter[str] = Counter()
    for op, inside in (pair for kernel in module.kernels for pair in _with_loops(kernel.body, False)):
        if isinstance(op, ConvertLayout) and op.x.tile.layout is not None:
            way = ways.get(type(conversion_plan(op.x.tile, op.x.tile.layout, op.layout, target)), "within threads")
            found[way] += 1
            repeated[way] += inside
    return ", ".join(f"{n} {way}" + (f" ({repeated[way]} in loops)" if repeated[way] else "")
                     for way, n in found.most_common()) or "none"


def _with_loops(block: Block, inside: bool) -> Iterator[tuple[Operation, bool]]:
    """The operations of a block, nested ones included, and whether a loop is around them."""
    for op in block.ops:
        yield op, inside
        for region in op.regions:
            yield from _with_loops(region, inside or isinstance(op, (For, While)))


def _counts(names: object) -> str:
    counted = Counter(names)  # type: ignore[call-overload]
    return ", ".join(f"{n} {name}" for name, n in counted.most_common())


def _parameter(parameter: Parameter) -> str:
    if parameter.kind == "scalar":
        return f"{parameter.name}: run-time scalar"
    facts = ["written" if parameter.written else "read only"]
    facts += [word for word, holds in (("contiguous", parameter.contiguous), ("16-byte aligned", parameter.aligned),
                                       ("under 2 GiB", parameter.small)) if holds]
    for divisor in sorted({n for n in parameter.shape_divisors if n > 1}, reverse=True):
        multiples = [str(d) for d, n in enumerate(parameter.shape_divisors) if n == divisor]
        facts.append(f"extents {', '.join(multiples)} multiples of {divisor}")
    return f"{parameter.name}: {parameter.kind} {list(parameter.dims)}, {', '.join(facts)}"
