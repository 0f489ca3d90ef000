"""Pointers, loads and stores in CUDA C. An address in shared memory is a byte offset in an ``unsigned``."""

from __future__ import annotations

from tilus.codegen import ptx
from tilus.codegen.cells import Cells, elements_of, per_cell
from tilus.codegen.cuda.kernel import Handlers, KernelPrinter, to_register
from tilus.codegen.cuda.syntax import cast, infix
from tilus.codegen.cuda.types import c_type, cell_type, cell_type_of, vector_type
from tilus.codegen.ptx.instruction import register_kind
from tilus.diagnostics import UnsupportedError
from tilus.ir.core import Value
from tilus.ir.ops import Alloca, PtrAdd, PtrCast, PtrLoad, PtrStore
from tilus.ir.ops.simt import SharedBase
from tilus.ir.ops.thread import pointer_type

# -- pointers


def ptr_add(k: KernelPrinter, op: PtrAdd) -> None:
    base, constant = k.pointers[op.pointer]
    constant += op.constant
    if op.offset is None:
        k.pointers[op.result] = (base, constant)
        return
    shared = pointer_type(op.pointer).space == "shared"
    make = _shared_pointer if shared else _global_pointer
    text = make(k, base, k.scalar(op.offset), op)
    name = k.names.pointer(base, shared, k.span)
    k.line(f"{'const unsigned' if shared else 'auto'} {name} = {text};")
    k.pointers[op.result] = (name, constant)


def _shared_pointer(k: KernelPrinter, base: str, offset: str, op: PtrAdd) -> str:
    """Outside of loops kept in a register: the compiler would compute it again in every iteration of those below."""
    size = max(1, pointer_type(op.pointer).dtype.bits // 8)
    text = infix("+", base, infix("*", offset, str(size)) if size > 1 else offset)
    return f"{k.need('pinned')}({text})" if k.depth == 1 else text


def _global_pointer(k: KernelPrinter, base: str, offset: str, op: PtrAdd) -> str:
    """Outside of loops an offset in bytes is computed once for all arrays, and an address once for all accesses:
    under their predicates the compiler would compute them again for each."""
    if k.depth > 1:
        return infix("+", base, offset)
    assert op.offset is not None
    size = pointer_type(op.result).dtype.itemsize
    wide = k.byte_offsets.get((op.offset, size))
    if wide is None:
        wide = k.byte_offsets[op.offset, size] = k.fresh("bytes")
        text = infix("*", cast("long long", offset), str(size))
        k.line(f"const long long {wide} = {k.need('pinned')}({text});")
    return f"{k.need('pinned')}({k.need('at_byte')}({base}, {wide}))"


def ptr_cast(k: KernelPrinter, op: PtrCast) -> None:
    address = k.address(op.pointer)
    shared = pointer_type(op.pointer).space == "shared"
    k.pointers[op.result] = (address if shared else cast(f"{c_type(op.dtype)}*", address), 0)


def shared_base(k: KernelPrinter, op: SharedBase) -> None:
    name = k.fresh(op.result.name or "scratch")
    k.names.roots[name] = name
    k.line(f"const unsigned {name} = shared_base{f' + {op.offset}' if op.offset else ''};")
    k.pointers[op.result] = (name, 0)


def alloca(k: KernelPrinter, op: Alloca) -> None:
    name = k.fresh("local")
    k.names.roots[name] = name
    align = f"__align__({op.alignment}) " if op.alignment else ""
    k.line(f"{align}{c_type(op.dtype)} {name}[{op.count}];")
    k.pointers[op.result] = (name, 0)


# -- loads


def ptr_load(k: KernelPrinter, op: PtrLoad) -> None:
    if pointer_type(op.pointer).space == "shared":
        _load_shared(k, op)
    else:
        _load_global(k, op)


def _cell_count(value: Value) -> int:
    count = elements_of(value)
    return max(1, count) // per_cell(value.tile.dtype, count)


def _load_global(k: KernelPrinter, op: PtrLoad) -> None:
    cells, ctype = _cell_count(op.result), cell_type_of(op.result)
    if ctype == "bool" and cells > 1:
        raise UnsupportedError.at("E0507", "vector loads of bool", op.span)
    vector = vector_type(ctype, cells)
    stored = "unsigned char" if ctype == "bool" else vector  # of a bool's bytes any but 0 is true
    address = k.address(op.pointer)
    if op.read_only:
        source = f"__ldg({cast(f'const {stored}*', address)})"
    else:
        volatile = "volatile " if op.volatile else ""
        source = f"*{cast(f'{volatile}{stored}*', address)}"
    if ctype == "bool":
        source = infix("!=", source, "0")
    name = k.fresh(op.result.name or "x")
    names = [f"{name}.{c}" for c in "xyzw"[:cells]] if cells > 1 else [name]
    if op.predicate is None:
        k.line(f"const {vector} {name} = {source};")
    else:
        k.line(f"{vector} {name} = {_other(k, op, vector)};")
        k.line(f"if ({k.scalar(op.predicate)}) {name} = {source};")
    k.bind(op.result, names)


def _other(k: KernelPrinter, op: PtrLoad, vector: str) -> str:
    cells = _cell_count(op.result)
    if op.other is None:
        return f"{vector}{{}}" if cells > 1 else "0"
    names = k.cells[op.other].names
    return f"make_{vector}({', '.join(names)})" if cells > 1 else names[0]


def _load_shared(k: KernelPrinter, op: PtrLoad) -> None:
    names = k.declare(op.result, op.result.name or "x")
    if op.predicate is None:
        for text in _shared_reads(k, op, names):
            k.line(text)
        return
    fill = ["0"] * len(names) if op.other is None else k.cells[op.other].names
    for name, text in zip(names, fill, strict=True):
        k.line(f"{name} = {text};")
    k.line(f"if ({k.scalar(op.predicate)}) {{ {' '.join(_shared_reads(k, op, names))} }}")


def _shared_reads(k: KernelPrinter, op: PtrLoad, names: list[str]) -> list[str]:
    address, at = k.shared_address(op.pointer)
    cells = k.cells[op.result]
    bits, kind = _word(cells)
    if len(names) in (2, 4) and bits == 32:
        load = ptx.memory.load("shared", kind, len(names), 32, volatile=op.volatile)
        return [f"{k.call(load, {'pointer': [address]}, names, cell_type(cells), at)};"]
    load = ptx.memory.load("shared", kind, 1, bits, volatile=op.volatile)
    return [f"{n} = {k.call(load, {'pointer': [address]}, offset=at + i * bits // 8)};" for i, n in enumerate(names)]


def _word(cells: Cells) -> tuple[int, str]:
    """The width in memory of a cell, and the class of register that holds it."""
    return (32, "r") if cells.per > 1 else (max(8, cells.dtype.bits), register_kind(cells.dtype))


# -- stores


def ptr_store(k: KernelPrinter, op: PtrStore) -> None:
    shared = pointer_type(op.pointer).space == "shared"
    writes = _shared_writes(k, op) if shared else [_global_write(k, op)]
    guard = ""
    if op.predicate is not None:
        condition = k.scalar(op.predicate)
        guard = f"if ({k.named(condition, 'bool') if len(writes) > 1 else condition}) "
    for text in writes:
        k.line(guard + text)


def _global_write(k: KernelPrinter, op: PtrStore) -> str:
    cells, address = k.cells[op.value], k.address(op.pointer)
    count, (bits, kind) = len(cells.names), _word(cells)
    if count in (2, 4) and bits == 32:
        # One instruction for certain: the compiler splits vector stores whose alignment it cannot see.
        store = ptx.memory.store("global", kind, count, 32)
        return f"{k.call(store, {'pointer': [address], 'value': [to_register(n, cells, kind) for n in cells.names]})};"
    vector = vector_type(cell_type(cells), count)
    text = f"make_{vector}({', '.join(cells.names)})" if count > 1 else cells.names[0]
    return f"*{cast(f'{vector}*', address)} = {text};"


def _shared_writes(k: KernelPrinter, op: PtrStore) -> list[str]:
    cells, (address, at) = k.cells[op.value], k.shared_address(op.pointer)
    bits, kind = _word(cells)
    values = [to_register(n, cells, kind) for n in cells.names]
    if len(values) in (2, 4) and bits == 32:
        store = ptx.memory.store("shared", kind, len(values), 32)
        return [f"{k.call(store, {'pointer': [address], 'value': values}, offset=at)};"]
    store = ptx.memory.store("shared", kind, 1, bits)
    return [f"{k.call(store, {'pointer': [address], 'value': [v]}, offset=at + i * bits // 8)};"
            for i, v in enumerate(values)]


HANDLERS: Handlers = {
    PtrAdd: ptr_add, PtrCast: ptr_cast, SharedBase: shared_base, Alloca: alloca, PtrLoad: ptr_load, PtrStore: ptr_store,
}
