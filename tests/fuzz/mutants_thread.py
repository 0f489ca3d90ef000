"""Bugs in layouts, in the lowering to threads and to the CPU, and in the code that is emitted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.fuzz.mutants_planted import CPU, CUDA, Anything, Mutant
from tilus.ir.dtypes import f32, i32, u16, u32
from tilus.ir.ops import Binary, Cast, Const, Select, Shuffle, Unary
from tilus.ir.ops.simt import CvtFp8
from tilus.layouts import SharedLayout
from tilus.lowering.legalise.codes import Bits

_SIMT, _CPU = "tilus.lowering.simt", "tilus.lowering.cpu"
_INDUCTION, _LEGAL = "tilus.lowering.pointer_induction", "tilus.lowering.legalise"


def _sums_for_differences(affine: Anything) -> Anything:
    def changed(reduction: Any, value: Any) -> Any:
        maker = value.defining
        if not (value in reduction.inside and isinstance(maker, Binary) and maker.kind == "sub"):
            return affine(reduction, value)
        x, y = reduction._affine(maker.lhs), reduction._affine(maker.rhs)
        return None if x is None or y is None else (x[0] + y[0], x[1] + y[1])

    return changed


def _not_permuted(plan: Anything) -> Anything:
    def changed(*given: Any, **keywords: Any) -> Any:
        from tilus.layouts.convert import RegisterPermutation

        found = plan(*given, **keywords)
        return replace(found, perm=tuple(sorted(found.perm))) if isinstance(found, RegisterPermutation) else found

    return changed


def _first_registers(cut: Anything) -> Anything:
    def changed(layout: Any, starts: Any, extents: Any) -> Any:
        found = cut(layout, starts, extents)
        return found._replace(locals=tuple(n - found.locals[0] for n in found.locals))

    return changed


def _half_apart(buffers: Anything) -> Anything:
    def changed(layout: SharedLayout, count: int, align: int = 1) -> SharedLayout:
        found = buffers(layout, count, align)
        stride = max(align, layout.size // 2 // align * align)
        return SharedLayout(found.shape, (((count, stride),), *found.modes[1:]), found.swizzle, found.base)

    return changed


def _one_more(padding: Anything) -> Anything:
    def changed(thread: Any, layout: Any, shape: tuple[int, ...], local: int) -> Any:
        reached = tuple(n + (covered > n) for n, covered in zip(shape, layout.shape, strict=True))
        return padding(thread, layout, reached, local)

    return changed


def _dropped_are_inside(predicate: Anything) -> Anything:
    def changed(thread: Any, view: Any, offsets: Any, dims: Any) -> Any:
        return None if len(offsets) < len(view.extents) else predicate(thread, view, offsets, dims)

    return changed


def _by_all_replicas(lower: Anything) -> Anything:
    def changed(thread: Any, op: Any) -> None:
        thread.first_replica = lambda layout: None
        lower(thread, op)
        del thread.first_replica

    return changed


def _lows_from_here(subview: Anything) -> Anything:
    def changed(thread: Any, op: Any, view: Any) -> Any:
        lows = [low if low is None else thread.const(0, low.tile.dtype) for low in view.lows]
        return subview(thread, op, replace(view, lows=lows))

    return changed


def _any_order(reduce: Anything) -> Anything:
    return lambda *given, **keywords: reduce(*given, **{**keywords, "ordered": False})


def _coarse(reciprocal: Anything) -> Anything:
    def changed(d: Any, size: Any, minus: Any) -> Any:
        found = reciprocal(d, size, minus)
        return d.op("sub", found, d.op("shr", found, 20))

    return changed


def _unsigned(divide: Anything) -> Anything:
    def changed(thread: Any, op: Binary, x: Any, y: Any) -> Any:
        found = divide(thread, op, x, y)
        if found is not None or x.tile.dtype is not i32 or thread.facts.of(op.rhs).low <= 0:
            return found
        parts = [thread.emit(Cast(v, u32)) for v in (x, y)]
        return thread.emit(Cast(thread.emit(Binary(op.kind, *parts)), i32))

    return changed


def _not_turned(position: Anything) -> Anything:
    def changed(scan: Any, digits: Any) -> Any:
        turned, scan.reverse = scan.reverse, False
        try:
            return position(scan, digits)
        finally:
            scan.reverse = turned

    return changed


def _ties_away(nearest: Anything) -> Anything:
    return lambda e, x, magnitude, sign, t: nearest(e, x, e.op("or", magnitude, 1), sign, t)


def _not_extended(number: Anything) -> Anything:
    def changed(b: Any, code: Any, dtype: Any) -> Any:
        found = number(b, code, dtype)
        return found.defining.lhs.defining.lhs if dtype.kind == "int" else found

    return changed


def _one_bit_less(code: Anything) -> Anything:
    def changed(b: Any, number: Any, dtype: Any, rounding: str) -> Any:
        found = code(b, number, dtype, rounding)
        mask = b.const((1 << (dtype.bits - 1)) - 1, found.tile.dtype, found.tile.shape)
        return b.binary("and", found, mask)

    return changed


def _wrapped_floats(code: Anything) -> Anything:
    def changed(b: Any, number: Any, dtype: Any, rounding: str) -> Any:
        whole = b.add(Cast(number, i32)).result if number.tile.dtype.is_float and dtype.bits < 32 else number
        return code(b, whole, dtype, rounding)

    return changed


def _first_parts(split: Anything) -> Anything:
    def changed(splitter: Any, run: Any) -> Any:
        ops = split(splitter, run)
        for op in ops:
            if isinstance(op, Shuffle):
                op.indices = tuple(range(len(op.indices)))
        return ops

    return changed


def _nans_win(init: Anything) -> Anything:
    def changed(extremum: Any, b: Any, op: Any, dtype: Any) -> None:
        init(extremum, b, op, dtype)
        signed = extremum.signed
        most = b.const(signed.max_value if op.kind == "max" else signed.min_value, signed)
        extremum.value = b.add(Select(extremum.nan, most, extremum.value.defining.y)).result

    return changed


def _not_zeroed(workspace: Anything) -> Anything:
    def changed(launcher: Any, op: Any) -> None:
        asked, op.zero = op.zero, False
        workspace(launcher, op)
        op.zero = asked

    return changed


def _one_barrier(number: Anything) -> Anything:
    def changed(function: Any) -> dict[Any, int]:
        found = number(function)
        return dict.fromkeys(found, next(iter(found.values()), 0))

    return changed


def _aligned_rows(affine: Anything) -> Anything:
    def changed(*given: Any) -> Any:
        found = affine(*given)
        return None if found is None else (found[0], 16)

    return changed


def _wide(b: Any, x: Any) -> Any:
    return x if x.tile.dtype is f32 else b.add(Cast(x, f32)).result


def _masked_amount(shift: Anything) -> Anything:
    def changed(b: Any, op: Binary, machine: Any) -> Any:
        e = Bits(b, op.lhs.tile.shape)
        return e.op(op.kind, op.lhs, e.op("and", op.rhs, op.lhs.tile.dtype.bits - 1)) if \
            isinstance(op.rhs.defining, Const) else shift(b, op, machine)

    return changed


def _truncated(round_down: Anything) -> Anything:
    def changed(e: Any, kind: str, x: Any, divisor: Any) -> Any:
        return e.op("quo", x, divisor) if kind == "floordiv" else round_down(e, kind, x, divisor)

    return changed


def _ties_up(round_to_bf16: Anything) -> Anything:
    def changed(b: Any, op: Cast, machine: Any) -> Any:
        e = Bits(b, op.x.tile.shape)
        rounded = e.op("shr", e.op("add", e.bits(op.x, u32), 0x8000), 16)
        return e.bits(e.to(e.choose(b.add(Unary("isnan", op.x)).result, 0x7FFF, rounded), u16), op.dtype)

    return changed


THREAD_MUTANTS = (
    # layouts
    Mutant("registers are not permuted", "tilus.layouts.convert:plan_conversion", _not_permuted),
    Mutant("slices take the first registers", "tilus.layouts.register:RegisterLayout.slice", _first_registers),
    Mutant("buffers of shared memory overlap", "tilus.layouts.shared:SharedLayout.buffers", _half_apart),
    Mutant("vectors cross a swizzle", "tilus.layouts.shared:SharedLayout.vector_width",
           lambda width: lambda layout, dim: width(SharedLayout(layout.shape, layout.modes, None, layout.base), dim)),
    # lowering to threads
    Mutant("what a loop needs dies in its first iteration", f"{_SIMT}.plan_shared:_Live.keep_until",
           lambda keep: lambda *_: None),
    Mutant("scratch memory is always fresh", f"{_SIMT}.barriers:reuse_barrier", lambda barrier: lambda *_: None),
    Mutant("groups share scratch memory", f"{_SIMT}.plan_shared:_Live.span",
           lambda span: lambda live: (live.first, live.last)),
    Mutant("all groups have one barrier", f"{_SIMT}.barriers:number_barriers", _one_barrier),
    Mutant("one element of the padding is stored", f"{_SIMT}.views:tile_padding", _one_more),
    Mutant("indices of dropped dimensions are in bounds", f"{_SIMT}.views:element_predicate", _dropped_are_inside),
    Mutant("windows of windows begin too early", f"{_SIMT}.views:_global_subview", _lows_from_here),
    Mutant("every replica does the atomic", f"{_SIMT}.gathers:_atomic", _by_all_replicas),
    Mutant("rows begin at aligned places", f"{_SIMT}.runs:affine", _aligned_rows),
    Mutant("lanes reduce in any order", f"{_SIMT}.collective:reduce_values", _any_order),
    Mutant("argmax is the first place of any lane", f"{_SIMT}.places:_counted",
           lambda counted: lambda thread, best, value, place: place),
    Mutant("negative numbers divide as unsigned", f"{_SIMT}.lower:_divide", _unsigned),
    Mutant("reversed scans do not turn round", f"{_SIMT}.scans:_Scan._position", _not_turned),
    Mutant("parts of vectors are the first one", f"{_SIMT}.split_vectors:_Splitter.split", _first_parts),
    Mutant("all calls get the first part", f"{_SIMT}.split_vectors:_part",
           lambda part: lambda values, index, span, ops: part(values, 0, span, ops)),
    Mutant("reciprocals of integers are coarse", f"{_LEGAL}.quotients:_reciprocal", _coarse),
    Mutant("sub-byte integers lose their highest bit", f"{_SIMT}.narrow:_integer_code", _one_bit_less),
    Mutant("sub-byte integers have no sign", f"{_SIMT}.narrow:_number", _not_extended),
    Mutant("floats do not saturate to narrow integers", f"{_SIMT}.narrow:_integer_code", _wrapped_floats),
    Mutant("ties round away", f"{_LEGAL}.codes:_nearest", _ties_away),
    Mutant("8-bit floats saturate below infinity", f"{_LEGAL}.bytes:code_by_instruction",
           lambda convert: lambda b, op, machine: b.add(CvtFp8(_wide(b, op.x), op.dtype)).result, "simulate:sm_89:ptx"),
    Mutant("atomics let NaNs win", f"{_LEGAL}.atomics:_Extremum.__init__", _nans_win),
    Mutant("exact quotients are rounded down", "tilus.lowering.math.power:_rounds_down",
           lambda down: lambda m, r, y: down(m, r, y).defining.lhs, CPU),
    # passes over threads
    Mutant("differences of indices are sums", f"{_INDUCTION}:_Reduction._affine_uncached", _sums_for_differences),
    Mutant("pointers begin at index 0", f"{_INDUCTION}:_Reduction._start",
           lambda start: lambda reduction, walker: reduction._moved(walker.root, walker.rest, reduction.before)),
    Mutant("z - x * y is z + x * y", "tilus.lowering.contract:_negate", lambda negate: lambda value, *_: value),
    # the code of CUDA C
    Mutant("accumulators are overwritten though they are read later", "tilus.codegen.cuda.kernel:KernelPrinter.owned",
           lambda owned: lambda kernel, names: all(kernel.made_in.get(n) == kernel.block_id for n in names), CUDA),
    # the CPU
    Mutant("bounds above are off by one", f"{_CPU}.memory:_ends_within",
           lambda within: lambda first, extent, high: within(first, extent, high + 1), CPU),
    Mutant("user masks are dropped in loads", f"{_CPU}.memory:load_window",
           lambda load: lambda block, window, coords, mask, other: load(block, window, coords, None, other), CPU),
    Mutant("user masks are dropped in stores", f"{_CPU}.memory:store_window",
           lambda store: lambda block, window, coords, value, mask, *rest:
           store(block, window, coords, value, None, *rest), CPU),
    Mutant("products start at 0", f"{_CPU}.reduction:identity",
           lambda identity: lambda kind, dtype: 0 if kind == "prod" else identity(kind, dtype), CPU),
    Mutant("accumulators are overwritten while they are read", f"{_CPU}.block:BlockLowering.is_last_use",
           lambda last: lambda *_: True, CPU),
    Mutant("workspaces hold what was there before", f"{_CPU}.launch:_Launcher.workspace", _not_zeroed, CPU),
    Mutant("floor division truncates", f"{_LEGAL}.integers:_round_down", _truncated, CPU),
    Mutant("shifts by the width are masked", f"{_LEGAL}.integers:shift", _masked_amount, CPU),
    Mutant("bf16 rounds ties up", f"{_LEGAL}.casts:round_to_bf16", _ties_up, CPU),
    Mutant("f64 is rounded twice", f"{_LEGAL}.casts:by_way_of_odd", lambda odd: lambda b, op, machine:
           b.add(Cast(b.add(Cast(op.x, f32)).result, op.dtype)).result, CPU),
)
