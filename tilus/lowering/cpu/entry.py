"""The entry point that takes NumPy arrays: it reads their addresses, extents and strides out of the array objects.

``entry(o0, …, on, expected, runtime)`` takes the address of the array object for an array and the number itself for a
scalar. It checks that the arguments are what the code was specialised to, packs them, and launches. It gives what the
launch gives, or -1 where something is otherwise, without having run anything: the caller then takes the general path.

``expected`` points to the address of the type of arrays, then for each array that of its element type's descriptor.
The fields of an array object are those of the public C structure ``PyArrayObject_fields``.
"""

from __future__ import annotations

from tilus.ir.core import Block, Function, Parameter, Value
from tilus.ir.dtypes import DType, f64, i64, u64
from tilus.ir.ops import Alloca, Binary, Cast, Compare, PtrLoad, PtrStore, Yield
from tilus.ir.ops.simd import CallResult, IntToPtr, ReturnIf
from tilus.ir.types import PointerType, TileType, ViewType
from tilus.lowering.cpu.compute import cast
from tilus.lowering.cpu.emit import Cursor
from tilus.lowering.cpu.values import Number

# Words (of 64 bits) of an array object.
OBJECT_TYPE, DATA, RANK, EXTENTS, STRIDES, DESCRIPTOR, FLAGS = 1, 2, 3, 4, 5, 7, 8
FLAG_WRITEABLE, FLAG_ALIGNED = 0x400, 0x100
SMALL_BYTES = (1 << 31) - 1


def supports_entry(launch: Function) -> bool:
    """Whether the compiled entry can check all that the code assumes."""
    for value, parameter in zip(launch.body.args, launch.parameters, strict=True):
        if isinstance(value.type, ViewType):
            if not (value.type.dtype.is_arithmetic or value.type.dtype.is_bool):
                return False
            if not all(isinstance(d, int) or d.isidentifier() for d in parameter.dims):
                return False
        elif not (value.tile.dtype.is_arithmetic or value.tile.dtype.is_bool):
            return False
    return True


def lower_entry(launch: Function) -> Function:
    """The entry point of a module with this launch function."""
    types = [TileType(i64 if isinstance(v.type, ViewType) or not v.tile.dtype.is_float else f64)
             for v in launch.body.args]
    body = Block([*types, PointerType(i64), PointerType(i64)])
    _Entry(launch, body).run()
    return Function("entry", body, (), {"returns": "i64"}, launch.span)


class _Entry:
    def __init__(self, launch: Function, body: Block) -> None:
        self.launch = launch
        self.body = body
        self.c = Cursor(body)
        self.dims: dict[str, Number] = {}
        self.ranges: list[tuple[Number, Number, bool]] = []
        self.valid: Value | None = None

    def run(self) -> None:
        c = self.c
        slots = sum(1 + 2 * v.type.rank if isinstance(v.type, ViewType) else 1 for v in self.launch.body.args)
        packed = c.b.add(Alloca(i64, max(1, slots), 16)).result
        self.expected, runtime = self.body.args[-2:]
        slot, array = 0, 0
        for given, value, parameter in zip(self.body.args, self.launch.body.args, self.launch.parameters, strict=False):
            if isinstance(value.type, ViewType):
                for word in self.array(given, value.type, parameter, array):
                    self.store(packed, slot, c.value(word))
                    slot += 1
                array += 1
            else:
                self.scalar(given, value.tile.dtype, packed, slot)
                slot += 1
        self.overlaps()
        if self.valid is not None:
            self.refuse_unless(self.valid)
        result = c.b.add(CallResult("launch", (packed, runtime), TileType(i64))).result
        c.b.add(Yield((result,)))

    def store(self, pointer: Value, slot: int, value: Value) -> None:
        self.c.b.add(PtrStore(self.c.offset(pointer, slot), value))

    def require(self, condition: Value) -> None:
        self.valid = self.c.both(self.valid, condition)

    def refuse_unless(self, condition: Value) -> None:
        inverted = self.c.b.add(Binary("xor", condition, self.c.const(True, condition.tile.dtype))).result
        self.c.b.add(ReturnIf(inverted, self.c.const(-1)))

    def word(self, pointer: Value, index: int) -> Value:
        return self.c.b.add(PtrLoad(self.c.offset(pointer, index))).result

    def scalar(self, given: Value, dtype: DType, packed: Value, slot: int) -> None:
        c = self.c
        if dtype.is_bool:
            value = c.compare("ne", given, 0)
        else:
            value = cast(c.b, given, dtype)
        if dtype.is_int and dtype.bits < 64:
            self.require(c.b.add(Compare("eq", c.b.add(Cast(value, i64)).result, given)).result)
        c.b.add(PtrStore(c.as_pointer(c.offset(packed, slot), dtype), value))

    def array(self, given: Value, view: ViewType, parameter: Parameter, number: int) -> list[Number]:
        """Checks of one array; gives its words among the packed arguments."""
        c = self.c
        record = c.b.add(IntToPtr(given, i64)).result
        kind = c.compare("eq", self.word(record, OBJECT_TYPE), self.word(self.expected, 0))
        self.refuse_unless(kind)
        rank = c.arith("and", self.word(record, RANK), 0xFFFFFFFF)
        same = c.both(c.compare("eq", rank, view.rank),
                      c.compare("eq", self.word(record, DESCRIPTOR), self.word(self.expected, 1 + number)))
        assert same is not None
        self.refuse_unless(same)
        flags = FLAG_ALIGNED | (FLAG_WRITEABLE if parameter.written else 0)
        self.require(c.compare("eq", c.arith("and", self.word(record, FLAGS), flags), flags))
        address = self.word(record, DATA)
        if parameter.aligned:
            self.require(c.compare("eq", c.arith("and", address, 15), 0))
        extents = self.extents(c.b.add(IntToPtr(self.word(record, EXTENTS), i64)).result, view, parameter)
        strides = self.strides(c.b.add(IntToPtr(self.word(record, STRIDES), i64)).result, view, parameter, extents)
        self.span(address, extents, strides, view.dtype.itemsize, parameter)
        return [address, *extents, *strides]

    def extents(self, pointer: Value, view: ViewType, parameter: Parameter) -> list[Number]:
        c = self.c
        extents: list[Number] = []
        for d in range(view.rank):
            extent: Number = self.word(pointer, d)
            known = view.shape[d]
            if known is not None:
                self.require(c.compare("eq", extent, known))
                extent = known
            elif parameter.shape_divisible and parameter.shape_divisible[d]:
                self.require(c.compare("eq", c.arith("and", extent, 15), 0))
            name = parameter.dims[d] if d < len(parameter.dims) else d
            if isinstance(name, str):
                first = self.dims.setdefault(name, extent)
                if first is not extent and not (isinstance(first, int) and isinstance(extent, int)):
                    self.require(c.compare("eq", extent, first))
            extents.append(extent)
        return extents

    def strides(self, pointer: Value, view: ViewType, parameter: Parameter, extents: list[Number]) -> list[Number]:
        """In elements. That of a dimension of extent 0 or 1 does not matter."""
        c, size = self.c, view.dtype.itemsize
        strides: list[Number] = []
        running: Number = 1
        for d in reversed(range(view.rank)):
            in_bytes = self.word(pointer, d)
            single = c.compare("le", extents[d], 1)
            stride: Number = in_bytes if size == 1 else c.arith("shr", in_bytes, size.bit_length() - 1)
            if size > 1:
                whole = c.compare("eq", c.arith("and", in_bytes, size - 1), 0)
                self.require(c.b.add(Binary("or", whole, single)).result)
            known = parameter.strides[d] if parameter.strides else None
            wanted = running if parameter.contiguous else known
            if wanted is not None:
                self.require(c.b.add(Binary("or", c.compare("eq", stride, wanted), single)).result)
                stride = wanted
            else:  # a specialisation to a stride of 0 or 1 is another one
                usual = c.b.add(Compare("gt", c.b.add(Cast(c.value(stride), u64)).result, c.const(1, u64))).result
                self.require(c.b.add(Binary("or", usual, single)).result)
            if parameter.strides_divisible and parameter.strides_divisible[d] and known is None:
                divisible = c.compare("eq", c.arith("and", stride, 15), 0)
                self.require(divisible)
            running = c.mul(running, extents[d])
            strides.insert(0, stride)
        return strides

    def span(self, address: Value, extents: list[Number], strides: list[Number], size: int,
             parameter: Parameter) -> None:
        """The bytes between an array's first and last elements."""
        c = self.c
        low: Number = 0
        high: Number = 1
        for extent, stride in zip(extents, strides, strict=True):
            reach = c.mul(c.max(c.sub(extent, 1), 0), stride)
            low, high = c.add(low, c.min(reach, 0)), c.add(high, c.max(reach, 0))
        if parameter.small:
            self.require(c.compare("le", c.mul(c.sub(high, low), size), SMALL_BYTES))
        self.ranges.append((c.add(address, c.mul(low, size)), c.add(address, c.mul(high, size)), parameter.written))

    def overlaps(self) -> None:
        """No written array may share memory with another one."""
        c = self.c
        for i, (low, high, written) in enumerate(self.ranges):
            for other_low, other_high, other_written in self.ranges[i + 1 :]:
                if written or other_written:
                    apart = c.b.add(Binary("or", c.compare("le", high, other_low), c.compare("le", other_high, low)))
                    self.require(apart.result)

