"""Thread-level functions as LLVM IR for the host CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilus.codegen.llvm import elementwise
from tilus.codegen.llvm.apart import ENTRY, Modules, call_branch, free_values
from tilus.codegen.llvm.binary_scaling import scale_binary
from tilus.codegen.llvm.byte_products import dot_bytes, dot_words, pair_sums
from tilus.codegen.llvm.control import CONTROL, ControlFlow, Part
from tilus.codegen.llvm.host_casts import is_vector_to_integer, vector_to_integer
from tilus.codegen.llvm.text import Emitter, ModuleText
from tilus.codegen.llvm.tile_registers import TILE_REGISTERS
from tilus.codegen.llvm.types import TypeSpeller, lanes
from tilus.diagnostics import InternalError
from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.dtypes import DType, i32
from tilus.ir.ops import (
    Alloca,
    Broadcast,
    Cast,
    Const,
    Extract,
    If,
    Iota,
    MaskedLoad,
    MaskedStore,
    Pack,
    PtrAdd,
    PtrCast,
    PtrLoad,
    PtrStore,
    Shuffle,
    Yield,
)
from tilus.ir.ops.simd import (
    AtomicFence,
    ByteLookup,
    CallFunction,
    CallPointer,
    ConstantTable,
    DotBytes,
    DotPairs,
    FunctionAddress,
    GatherLoad,
    IntToPtr,
    PairSums,
    Prefetch,
    PtrToInt,
    ReturnIf,
    ScaleBinary,
    ScatterStore,
    TableLookup,
)
from tilus.ir.ops.thread import AtomicLoad, PtrAtomic, pointer_type
from tilus.ir.ops.words import Regroup

TYPES = TypeSpeller(bfloat="i16")
_ORDERS = {"relaxed": "monotonic", "acquire": "acquire", "release": "release", "acq_rel": "acq_rel"}


class HostEmitter(ControlFlow):
    """Emits one function. bf16 is held as i16."""

    ADD = "add nsw"

    def __init__(self, modules: Modules, module: ModuleText, vector_bits: int = 0) -> None:
        self.modules = modules
        self.e = Emitter(module, TYPES)
        self.names: dict[Value, str] = {}
        self.vector_bits = vector_bits
        self.stop = "ret void"
        self.divided = modules.divided

    def run(self, function: Function) -> None:
        """Append the function's definition to the module."""
        attributes, e = function.attributes, self.e
        e.start("entry")
        arguments = self._parameters(function.body.args, attributes.noalias)
        self.block(function.body)
        result = function.body.terminator.operands
        e.do(f"ret {self.typed(result[0])}" if result else "ret void")
        kind = TYPES.type(result[0].type) if result else "void"
        self._define(f"{attributes.linkage} {kind} @{function.name}({arguments}) nounwind"
                     f"{' cold' if attributes.rare else ''}")

    def _parameters(self, values: Sequence[Value], noalias: Sequence[int] = ()) -> str:
        for i, value in enumerate(values):
            self.names[value] = f"%a{i}"
        return ", ".join(f"{TYPES.type(v.type)}{' noalias' if i in noalias else ''} %a{i}"
                         for i, v in enumerate(values))

    def _define(self, head: str) -> None:
        bits = self.vector_bits
        narrow = f' "prefer-vector-width"="{bits}" "min-legal-vector-width"="0"' if bits else ""
        self.e.module.definitions.append("\n".join([f"define {head}{narrow} {{", *self.e.lines, "}"]))

    def _run_branch(self, region: Block, captured: Sequence[Value]) -> None:
        """Append the function that is a branch."""
        self.divided, self.stop = False, "ret i1 true"
        self.e.start("entry")
        arguments = self._parameters(captured)
        self.block(region)
        self.e.do("ret i1 false")
        self._define(f"i1 @{ENTRY}({arguments}) nounwind")

    def block(self, block: Block) -> None:
        for op in block.ops:
            if type(op) is Yield:
                return
            handler = _HANDLERS.get(type(op))
            if handler is None:
                raise InternalError.at("E0999", f"the host emitter has no operation {op.NAME}", op.span)
            handler(self, op)

    def typed(self, value: Value) -> str:
        return f"{TYPES.type(value.type)} {self.names[value]}"

    # Control flow.

    def if_(self, op: If) -> None:
        if not (op.apart and self.divided):
            super().if_(op)
            return
        e, module, used = self.e, ModuleText(), free_values(op.then)
        captured = [v for v in used if not isinstance(v.defining, Const)]
        branch = HostEmitter(self.modules, module, self.vector_bits)
        branch.names |= {v: self.names[v] for v in used if isinstance(v.defining, Const)}
        branch._run_branch(op.then, captured)
        self.modules.branches.append(str(module))
        place = len(self.modules.branches)
        then, orelse, done = (e.new_label(s) for s in ("then", "else", "endif"))
        e.do(f"br i1 {self.names[op.condition]}, label %{then}, label %{orelse}")
        e.start(then)
        call_branch(e, place, ", ".join(map(self.typed, captured)), lambda: e.do(self.stop))
        e.do(f"br label %{done}")
        e.start(orelse)
        self.block(op.orelse)
        e.do(f"br label %{done}")
        e.start(done)

    def parts(self, value: Value) -> list[Part]:
        return [(TYPES.type(value.type), self.names[value])]

    def part_types(self, value: Value) -> list[str]:
        return [TYPES.type(value.type)]

    def hold(self, value: Value, names: list[str]) -> None:
        (self.names[value],) = names

    # Arithmetic.

    def const(self, op: Const) -> None:
        count = lanes(op.result.tile)
        self.names[op.result] = TYPES.constant(op.value, op.dtype, count)

    def elementwise(self, op: Operation) -> None:
        count = lanes(op.operands[0].tile)
        operands = [self.names[v] for v in op.operands]
        self.names[op.results[0]] = elementwise.APPLY[type(op)](self.e, op, count, operands)

    def cast(self, op: Cast) -> None:
        source, count = op.x.tile.dtype, lanes(op.x.tile)
        if not is_vector_to_integer(source, op.dtype, count):
            self.elementwise(op)
            return
        self.names[op.result] = vector_to_integer(self.e, source, op.dtype, count, self.names[op.x])

    def broadcast(self, op: Broadcast) -> None:
        count = op.shape[0] if op.shape else 0
        self.names[op.result] = elementwise.splat(self.e, op.x.tile.dtype, count, self.names[op.x])

    def iota(self, op: Iota) -> None:
        self.names[op.result] = elementwise.lane_numbers(self.e, op.dtype, op.shape[0])

    # Vectors.

    def extract(self, op: Extract) -> None:
        self.names[op.result] = self.e.op(f"extractelement {self.typed(op.vector)}, i64 {op.index}")

    def shuffle(self, op: Shuffle) -> None:
        ty = TYPES.type(op.vector.type)
        self.names[op.result] = self.e.op(
            f"shufflevector {ty} {self.names[op.vector]}, {ty} poison, {elementwise.index_list(op.indices)}")

    def pack(self, op: Pack) -> None:
        """Vectors of one width are joined in pairs, anything else element by element."""
        parts = [(self.names[p], max(1, p.tile.size), p.tile.is_scalar) for p in op.parts]
        dtype = op.parts[0].tile.dtype
        if len(parts) > 1 and len({n for _, n, _ in parts}) == 1 and not any(s for _, _, s in parts) \
                and len(parts) & (len(parts) - 1) == 0:
            names, width = [n for n, _, _ in parts], parts[0][1]
            while len(names) > 1:
                ty = TYPES.vector(dtype, width)
                mask = elementwise.index_list(tuple(range(2 * width)))
                names = [self.e.op(f"shufflevector {ty} {a}, {ty} {b}, {mask}")
                         for a, b in zip(names[::2], names[1::2], strict=True)]
                width *= 2
            self.names[op.result] = names[0]
            return
        ty, element = TYPES.type(op.result.type), TYPES.element(dtype)
        result, at = "poison", 0
        for name, width, is_scalar in parts:
            for i in range(width):
                item = name if is_scalar else self.e.op(
                    f"extractelement {TYPES.vector(dtype, width)} {name}, i64 {i}")
                result = self.e.op(f"insertelement {ty} {result}, {element} {item}, i64 {at}")
                at += 1
        self.names[op.result] = result

    def regroup(self, op: Regroup) -> None:
        self.names[op.result] = self.e.bitcast(self.names[op.x], TYPES.type(op.x.type), TYPES.type(op.result.type))

    def dot_bytes(self, op: DotBytes) -> None:
        self.names[op.result] = dot_bytes(self.e, op.instruction, lanes(op.result.tile), op.small,
                                          *(self.names[v] for v in op.operands))

    def pair_sums(self, op: PairSums) -> None:
        self.names[op.result] = pair_sums(self.e, lanes(op.unsigned.tile), *(self.names[v] for v in op.operands))

    def dot_pairs(self, op: DotPairs) -> None:
        count = lanes(op.result.tile)
        if op.result.tile.dtype is i32:
            self.names[op.result] = dot_words(self.e, count, *(self.names[v] for v in op.operands))
            return
        total, pairs = f"<{count} x float>", f"<{2 * count} x bfloat>"
        a, b = (self.e.bitcast(self.names[v], TYPES.type(v.type), pairs) for v in (op.a, op.b))
        self.names[op.result] = self.e.intrinsic(
            f"llvm.x86.avx512bf16.dpbf16ps.{32 * count}", total,
            [(total, self.names[op.accumulator]), (pairs, a), (pairs, b)])

    # Memory.

    def alloca(self, op: Alloca) -> None:
        ty = TYPES.memory_element(op.dtype)
        self.names[op.result] = self.e.op(f"alloca {ty}, i64 {op.count}, align {max(8, op.alignment)}")

    def ptr_add(self, op: PtrAdd) -> None:
        ty = TYPES.memory_element(pointer_type(op.pointer).dtype)
        name = self.names[op.pointer]
        if op.offset is not None:
            name = self.e.op(f"getelementptr {ty}, ptr {name}, {self.typed(op.offset)}")
        if op.constant:
            name = self.e.op(f"getelementptr {ty}, ptr {name}, i64 {op.constant}")
        self.names[op.result] = name

    def ptr_cast(self, op: PtrCast) -> None:
        self.names[op.result] = self.names[op.pointer]

    def int_to_ptr(self, op: IntToPtr) -> None:
        self.names[op.result] = self.e.op(f"inttoptr i64 {self.names[op.x]} to ptr")

    def ptr_to_int(self, op: PtrToInt) -> None:
        self.names[op.result] = self.e.op(f"ptrtoint ptr {self.names[op.pointer]} to i64")

    def ptr_load(self, op: PtrLoad) -> None:
        if op.predicate is not None:
            raise InternalError.at("E0999", "predicated loads are masked loads on the host", op.span)
        dtype = pointer_type(op.pointer).dtype
        self.names[op.result] = self._load(dtype, op.count, self.names[op.pointer], op.alignment, op.volatile)

    def _load(self, dtype: DType, count: int, pointer: str, alignment: int, volatile: bool = False) -> str:
        element = TYPES.memory_element(dtype)
        ty = f"<{count} x {element}>" if count else element
        align = alignment or _size(dtype)
        x = self.e.op(f"load {'volatile ' if volatile else ''}{ty}, ptr {pointer}, align {align}")
        return self._from_memory(dtype, ty, x)

    def _from_memory(self, dtype: DType, ty: str, x: str) -> str:
        """A value as it is in memory, as it is in registers: any byte but 0 is true."""
        return self.e.op(f"icmp ne {ty} {x}, {'zeroinitializer' if ty[0] == '<' else '0'}") if dtype.is_bool else x

    def _memory_value(self, value: Value) -> tuple[str, str]:
        """The type and operand of a value as it is in memory."""
        tile = value.tile
        name = self.names[value]
        if not tile.dtype.is_bool:
            return TYPES.type(tile), name
        count = lanes(tile)
        ty = f"<{count} x i8>" if count else "i8"
        return ty, self.e.op(f"zext {TYPES.type(tile)} {name} to {ty}")

    def ptr_store(self, op: PtrStore) -> None:
        ty, name = self._memory_value(op.value)
        align = op.alignment or _size(op.value.tile.dtype)
        if op.non_temporal and ty in ("float", "double"):  # scalar instructions of that kind are those of integers
            bits = f"i{8 * _size(op.value.tile.dtype)}"
            ty, name = bits, self.e.op(f"bitcast {ty} {name} to {bits}")
        hint = ", !nontemporal !{i32 1}" if op.non_temporal else ""
        self.e.do(f"store {ty} {name}, ptr {self.names[op.pointer]}, align {align}{hint}")

    def masked_load(self, op: MaskedLoad) -> None:
        tile = op.result.tile
        dtype, count = tile.dtype, lanes(tile)
        element = TYPES.memory_element(dtype)
        ty = f"<{count} x {element}>"
        other = "zeroinitializer" if op.other is None else self._memory_value(op.other)[1]
        mask = f"<{count} x i1>"
        name = f"llvm.masked.load.v{count}{_mangle(element)}.p0"
        self.e.module.declare(name, f"declare {ty} @{name}(ptr, i32 immarg, {mask}, {ty})")
        x = self.e.op(f"call {ty} @{name}(ptr {self.names[op.pointer]}, i32 {_size(dtype)}, {mask} "
                      f"{self.names[op.mask]}, {ty} {other})")
        self.names[op.result] = self._from_memory(dtype, ty, x)

    def masked_store(self, op: MaskedStore) -> None:
        ty, value = self._memory_value(op.value)
        dtype, count = op.value.tile.dtype, lanes(op.value.tile)
        mask = f"<{count} x i1>"
        name = f"llvm.masked.store.v{count}{_mangle(TYPES.memory_element(dtype))}.p0"
        self.e.module.declare(name, f"declare void @{name}({ty}, ptr, i32 immarg, {mask})")
        self.e.do(f"call void @{name}({ty} {value}, ptr {self.names[op.pointer]}, i32 {_size(dtype)}, {mask} "
                  f"{self.names[op.mask]})")

    def gather_load(self, op: GatherLoad) -> None:
        """One load a lane: gathers of the hardware are no faster on most cores, and this needs no mask support."""
        tile = op.result.tile
        dtype, count = tile.dtype, lanes(tile)
        pointer, element = self.names[op.pointer], TYPES.memory_element(dtype)
        steps = pointer_type(op.pointer).dtype
        if not count:
            self.names[op.result] = self._guarded_load(op, dtype, pointer, TYPES.memory_element(steps))
            return
        index_ty = TYPES.type(op.indices.type)
        if op.mask is None:
            result, ty = "poison", f"<{count} x {element}>"
            for i in range(count):
                index = self.e.op(f"extractelement {index_ty} {self.names[op.indices]}, i64 {i}")
                address = self._element_address(op, index)
                x = self.e.op(f"load {element}, ptr {address}, align {_size(steps)}")
                result = self.e.op(f"insertelement {ty} {result}, {element} {x}, i64 {i}")
        else:
            ty = f"<{count} x {element}>"
            addresses = self.e.op(f"getelementptr {element}, ptr {pointer}, {index_ty} {self.names[op.indices]}")
            other = "zeroinitializer" if op.other is None else self._memory_value(op.other)[1]
            name = f"llvm.masked.gather.v{count}{_mangle(element)}.v{count}p0"
            mask = f"<{count} x i1>"
            self.e.module.declare(name, f"declare {ty} @{name}(<{count} x ptr>, i32 immarg, {mask}, {ty})")
            result = self.e.op(f"call {ty} @{name}(<{count} x ptr> {addresses}, i32 {_size(dtype)}, {mask} "
                               f"{self.names[op.mask]}, {ty} {other})")
        self.names[op.result] = self._from_memory(dtype, ty, result)

    def _element_address(self, op: GatherLoad, index: str) -> str:
        """An element's, by the index of a lane; LLVM takes indices for signed."""
        kind = op.indices.tile.dtype
        ty = TYPES.element(kind)
        if kind.kind == "uint" and kind.bits < 64:
            index, ty = self.e.op(f"zext {ty} {index} to i64"), "i64"
        element = TYPES.memory_element(pointer_type(op.pointer).dtype)
        return self.e.op(f"getelementptr {element}, ptr {self.names[op.pointer]}, {ty} {index}")

    def _guarded_load(self, op: GatherLoad, dtype: DType, pointer: str, element: str) -> str:
        e = self.e
        if op.mask is None:
            return self._load(dtype, 0, self._element_address(op, self.names[op.indices]),
                              _size(pointer_type(op.pointer).dtype))
        address = e.op(f"getelementptr {element}, ptr {pointer}, {self.typed(op.indices)}")
        other = TYPES.constant(0, dtype) if op.other is None else self.names[op.other]
        inside, end, before = e.new_label("inside"), e.new_label("end"), e.label
        e.do(f"br i1 {self.names[op.mask]}, label %{inside}, label %{end}")
        e.start(inside)
        x = self._load(dtype, 0, address, 0)
        e.do(f"br label %{end}")
        e.start(end)
        return e.op(f"phi {TYPES.element(dtype)} [ {x}, %{inside} ], [ {other}, %{before} ]")

    def scatter_store(self, op: ScatterStore) -> None:
        dtype, count = op.value.tile.dtype, lanes(op.value.tile)
        ty, value = self._memory_value(op.value)
        element, pointer = TYPES.memory_element(dtype), self.names[op.pointer]
        e = self.e
        if not count:
            address = e.op(f"getelementptr {element}, ptr {pointer}, {self.typed(op.indices)}")
            self._guarded_store(element, value, address, _size(dtype),
                                None if op.mask is None else self.names[op.mask])
            return
        index_ty, index_element = TYPES.type(op.indices.type), TYPES.element(op.indices.tile.dtype)
        for i in range(count):
            index = e.op(f"extractelement {index_ty} {self.names[op.indices]}, i64 {i}")
            x = e.op(f"extractelement {ty} {value}, i64 {i}")
            address = e.op(f"getelementptr {element}, ptr {pointer}, {index_element} {index}")
            flag = None if op.mask is None else e.op(f"extractelement {self.typed(op.mask)}, i64 {i}")
            self._guarded_store(element, x, address, _size(dtype), flag)

    def _guarded_store(self, element: str, value: str, address: str, align: int, flag: str | None) -> None:
        e = self.e
        if flag is None:
            e.do(f"store {element} {value}, ptr {address}, align {align}")
            return
        inside, end = e.new_label("inside"), e.new_label("end")
        e.do(f"br i1 {flag}, label %{inside}, label %{end}")
        e.start(inside)
        e.do(f"store {element} {value}, ptr {address}, align {align}")
        e.do(f"br label %{end}")
        e.start(end)

    def atomic(self, op: PtrAtomic) -> None:
        ty = TYPES.type(op.value.type)
        address, value = f"ptr {self.names[op.pointer]}", f"{ty} {self.names[op.value]}"
        if op.compare is None:
            unsigned = op.kind in ("min", "max") and op.value.tile.dtype.kind == "uint"
            name = "xchg" if op.kind == "exchange" else f"{'u' if unsigned else ''}{op.kind}"
            self.names[op.result] = self.e.op(f"atomicrmw {name} {address}, {value} {_ORDERS[op.order]}")
            return
        failing = "acquire" if "acq" in op.order else "monotonic"
        pair = self.e.op(f"cmpxchg {address}, {ty} {self.names[op.compare]}, {value} {_ORDERS[op.order]} {failing}")
        self.names[op.result] = self.e.op(f"extractvalue {{ {ty}, i1 }} {pair}, 0")

    def atomic_load(self, op: AtomicLoad) -> None:
        tile = op.result.tile
        self.names[op.result] = self.e.op(f"load atomic {TYPES.type(tile)}, ptr {self.names[op.pointer]} "
                                          f"{_ORDERS[op.order]}, align {tile.dtype.itemsize}")

    def fence(self, op: AtomicFence) -> None:
        self.e.do("fence seq_cst")

    def constant_table(self, op: ConstantTable) -> None:
        module, element = self.e.module, TYPES.memory_element(op.dtype)
        key = f"{element} {op.values}"
        name = module.strings.get(key)
        if name is None:
            name = module.strings[key] = f"@.table{len(module.strings)}"
            items = ", ".join(f"{element} {v}" for v in op.values)
            module.definitions.append(f"{name} = private constant [{len(op.values)} x {element}] [{items}], align 16")
        self.names[op.result] = name

    def table_lookup(self, op: TableLookup) -> None:
        count, dtype = op.index.tile.size, op.tables[0].tile.dtype
        index = f"<{count} x i32>"
        ty = TYPES.type(op.result.type)
        first, *second = [(ty, v) for v in op.tables]
        arguments = [first, (index, op.index), *second]
        if second:
            name = f"llvm.x86.avx512.vpermi2var.{'ps' if dtype.is_float else 'd'}.{32 * count}"
        elif count == 16:
            name = f"llvm.x86.avx512.permvar.{'sf' if dtype.is_float else 'si'}.512"
        else:
            name = f"llvm.x86.avx2.{'permps' if dtype.is_float else 'permd'}"
        self.e.module.declare(name, f"declare {ty} @{name}({', '.join(t for t, _ in arguments)})")
        operands = ", ".join(f"{t} {self.names[v]}" for t, v in arguments)
        self.names[op.result] = self.e.op(f"call {ty} @{name}({operands})")

    def byte_lookup(self, op: ByteLookup) -> None:
        ty, width = TYPES.type(op.result.type), 8 * op.index.tile.size
        name = {128: "ssse3.pshuf.b.128", 256: "avx2.pshuf.b", 512: "avx512.pshuf.b.512"}[width]
        self.names[op.result] = self.e.intrinsic(f"llvm.x86.{name}", ty, [(ty, self.names[op.table]),
                                                                         (ty, self.names[op.index])])

    def scale_binary(self, op: ScaleBinary) -> None:
        self.names[op.result] = scale_binary(self.e, op.x.tile.dtype, lanes(op.result.tile), self.names[op.x],
                                             self.names[op.exponent])

    def prefetch(self, op: Prefetch) -> None:
        name = "llvm.prefetch.p0"
        self.e.module.declare(name, f"declare void @{name}(ptr, i32 immarg, i32 immarg, i32 immarg)")
        self.e.do(f"call void @{name}(ptr {self.names[op.pointer]}, i32 0, i32 2, i32 1)")

    # Calls.

    def call_pointer(self, op: CallPointer) -> None:
        arguments = ", ".join(self.typed(a) for a in op.args)
        effects = " nounwind memory(inaccessiblemem: readwrite)" if op.private else ""
        if op.returns:
            self.names[op.result] = self.e.op(
                f"call {TYPES.type(op.returns[0])} {self.names[op.callee]}({arguments}){effects}")
        else:
            self.e.do(f"call void {self.names[op.callee]}({arguments}){effects}")

    def call_function(self, op: CallFunction) -> None:
        self._define_rare(op.callee)
        arguments = ", ".join(self.typed(a) for a in op.args)
        if op.returns:
            self.names[op.result] = self.e.op(f"call {TYPES.type(op.returns[0])} @{op.callee}({arguments})")
        else:
            self.e.do(f"call void @{op.callee}({arguments})")

    def _define_rare(self, name: str) -> None:
        """Define a function that is called rarely in the module that does, which others may do as well."""
        module, function = self.e.module, self.modules.functions[name]
        if function.attributes.rare and name not in module.defined:
            module.defined.add(name)
            HostEmitter(self.modules, module, self.vector_bits).run(function)

    def function_address(self, op: FunctionAddress) -> None:
        self.names[op.result] = f"@{op.callee}"

    def return_if(self, op: ReturnIf) -> None:
        e = self.e
        leave, stay = e.new_label("leave"), e.new_label("stay")
        e.do(f"br i1 {self.names[op.condition]}, label %{leave}, label %{stay}")
        e.start(leave)
        e.do(self.stop)
        e.start(stay)


def _size(dtype: DType) -> int:
    """Bytes of an element in memory."""
    element = TYPES.memory_element(dtype)
    return {"half": 2, "float": 4, "double": 8}.get(element) or int(element[1:]) // 8


def _mangle(element: str) -> str:
    return {"half": "f16", "float": "f32", "double": "f64"}.get(element, element)


_HANDLERS: dict[type[Operation], Callable[..., None]] = {
    **CONTROL, If: HostEmitter.if_, Const: HostEmitter.const,
    **dict.fromkeys(elementwise.APPLY, HostEmitter.elementwise),
    Cast: HostEmitter.cast, Broadcast: HostEmitter.broadcast, Iota: HostEmitter.iota, Extract: HostEmitter.extract,
    Shuffle: HostEmitter.shuffle, Pack: HostEmitter.pack, Regroup: HostEmitter.regroup, DotBytes: HostEmitter.dot_bytes,
    DotPairs: HostEmitter.dot_pairs, PairSums: HostEmitter.pair_sums, **TILE_REGISTERS,
    Alloca: HostEmitter.alloca, PtrAdd: HostEmitter.ptr_add,
    PtrCast: HostEmitter.ptr_cast, IntToPtr: HostEmitter.int_to_ptr, PtrToInt: HostEmitter.ptr_to_int,
    PtrLoad: HostEmitter.ptr_load, PtrStore: HostEmitter.ptr_store, MaskedLoad: HostEmitter.masked_load,
    MaskedStore: HostEmitter.masked_store, GatherLoad: HostEmitter.gather_load,
    ScatterStore: HostEmitter.scatter_store, PtrAtomic: HostEmitter.atomic,
    AtomicLoad: HostEmitter.atomic_load, AtomicFence: HostEmitter.fence,
    CallPointer: HostEmitter.call_pointer, CallFunction: HostEmitter.call_function,
    FunctionAddress: HostEmitter.function_address,
    ReturnIf: HostEmitter.return_if,
    ConstantTable: HostEmitter.constant_table, TableLookup: HostEmitter.table_lookup, Prefetch: HostEmitter.prefetch,
    ScaleBinary: HostEmitter.scale_binary, ByteLookup: HostEmitter.byte_lookup,
}


def emit_functions(functions: Sequence[Function]) -> str:
    """The text of an LLVM module that defines thread-level functions for the host."""
    return _emit(functions, divided=False)[0]


def emit_modules(functions: Sequence[Function]) -> tuple[str, list[str]]:
    """The text of a module without the branches that may be modules of their own, and the texts of those."""
    return _emit(functions, divided=True)


def _emit(functions: Sequence[Function], *, divided: bool) -> tuple[str, list[str]]:
    modules = Modules(ModuleText(), {f.name: f for f in functions}, divided=divided)
    for function in functions:
        if not function.attributes.rare:
            HostEmitter(modules, modules.main, function.attributes.vector_bits).run(function)
    return modules.finish(), modules.branches
