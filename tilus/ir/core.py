"""The SSA infrastructure: values, operations, blocks, functions and modules.

Control flow is structured, so a region is one block. Operations are small classes whose fields are declared by
annotations, as in a dataclass: ``Value``, ``Value | None`` and ``tuple[Value, ...]`` are operands, ``Block``,
``Block | None`` and ``tuple[Block, ...]`` regions, anything else an attribute (an immutable value). Operands are plain
Python attributes; uses are not tracked: a pass that needs them asks :func:`tilus.ir.rewriter.count_uses`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NoReturn

from tilus.diagnostics import UNKNOWN_SPAN, Span, UserError
from tilus.ir.attributes import Attributes
from tilus.ir.terms import EffectKind, ParameterKind, Space
from tilus.ir.types import TileType, Type, ViewType
from tilus.records import field, record

_SINGLE, _OPTIONAL, VARIADIC = 0, 1, 2
_OPERAND_KINDS = {"Value": _SINGLE, "Value | None": _OPTIONAL, "tuple[Value, ...]": VARIADIC}
_REGION_KINDS = {"Block": _SINGLE, "Block | None": _OPTIONAL, "tuple[Block, ...]": VARIADIC}


class Value:
    """The result of an operation or an argument of a block. Compared by identity."""

    __slots__ = ("index", "name", "owner", "type")

    def __init__(self, type: Type, name: str = "", owner: Operation | Block | None = None, index: int = 0) -> None:
        self.type = type
        self.name = name
        self.owner = owner
        self.index = index

    @property
    def tile(self) -> TileType:
        """The type of a tile or scalar; for use where the op's definition guarantees one."""
        type = self.type
        if not isinstance(type, TileType):
            raise TypeError(f"expected a tile, got {type}")
        return type

    @property
    def view(self) -> ViewType:
        """The type of a view; for use where the op's definition guarantees one."""
        if not isinstance(self.type, ViewType):
            raise TypeError(f"expected a view, got {self.type}")
        return self.type

    @property
    def defining(self) -> Operation | None:
        return self.owner if isinstance(self.owner, Operation) else None

    def __repr__(self) -> str:
        return f"%{self.name or hex(id(self))[-5:]}: {self.type}"


@record(frozen=True, slots=True)
class Effect:
    """What an operation does to memory: ``kind`` is ``read``, ``write``, ``atomic``, ``sync`` or ``io``; ``space`` is
    ``global``, ``shared`` or ``""`` for none; ``value`` the view it goes through, None for all memory of the space."""

    kind: EffectKind
    space: Space = ""
    value: Value | None = None


class Operation:
    """Base of all operations. Subclasses set ``NAME`` and declare fields; see the module's text."""

    NAME: ClassVar[str] = ""
    TERMINATOR: ClassVar[bool] = False
    FIELDS: ClassVar[tuple[str, ...]] = ()
    OPERAND_FIELDS: ClassVar[tuple[tuple[str, int], ...]] = ()
    ATTRIBUTE_FIELDS: ClassVar[tuple[str, ...]] = ()
    REGION_FIELDS: ClassVar[tuple[tuple[str, int], ...]] = ()
    DEFAULTS: ClassVar[Mapping[str, Any]] = {}

    results: tuple[Value, ...]
    span: Span

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        fields: dict[str, str] = {}
        for base in reversed(cls.__mro__):
            if base is Operation or not issubclass(base, Operation):
                continue
            for name, annotation in inspect.get_annotations(base).items():
                if not annotation.startswith("ClassVar"):
                    fields[name] = annotation
        cls.FIELDS = tuple(fields)
        cls.OPERAND_FIELDS = tuple((n, _OPERAND_KINDS[a]) for n, a in fields.items() if a in _OPERAND_KINDS)
        cls.REGION_FIELDS = tuple((n, _REGION_KINDS[a]) for n, a in fields.items() if a in _REGION_KINDS)
        cls.ATTRIBUTE_FIELDS = tuple(
            n for n, a in fields.items() if a not in _OPERAND_KINDS and a not in _REGION_KINDS
        )
        cls.DEFAULTS = {n: getattr(cls, n) for n in fields if hasattr(cls, n)}
        if cls.NAME:
            if cls.NAME in REGISTRY:
                raise ValueError(f"operation {cls.NAME} is declared twice")
            REGISTRY[cls.NAME] = cls

    def __init__(self, *args: Any, span: Span = UNKNOWN_SPAN, types: Sequence[Type] | None = None,
                 **kwargs: Any) -> None:
        """Fields by position or name. ``types`` gives the result types where inference is not wanted (the parser,
        layouts already chosen); otherwise :meth:`infer` gives them and raises UserError on operands that do not fit."""
        fields = self.FIELDS
        if len(args) > len(fields):
            raise TypeError(f"{self.NAME} takes {len(fields)} fields, not {len(args)}")
        values = self.__dict__
        values.update(self.DEFAULTS)
        values.update(zip(fields, args, strict=False))
        if kwargs:
            values.update(kwargs)
        if len(values) != len(fields):
            wrong = sorted(set(fields).symmetric_difference(values))
            raise TypeError(f"{self.NAME}: {wrong} are missing, or no fields of it")
        values["span"] = span
        inferred = self.infer() if types is None else types
        values["results"] = tuple([Value(t, "", self, i) for i, t in enumerate(inferred)])

    # What subclasses say of themselves.

    def infer(self) -> Sequence[Type]:
        """Result types from operands and attributes. Raises UserError where they do not fit."""
        return ()

    def verify(self) -> None:
        """Raise UserError where an invariant beyond :meth:`infer` does not hold."""

    def effects(self) -> Sequence[Effect]:
        """Memory effects of the operation itself (not of its regions). Empty means pure."""
        return ()

    @property
    def title(self) -> str:
        """What it is called in summaries: where the name leaves much open, with what it is."""
        return self.NAME

    # Generic access.

    @property
    def result(self) -> Value:
        return self.results[0]

    @property
    def operands(self) -> list[Value]:
        found: list[Value] = []
        values = self.__dict__
        for name, kind in self.OPERAND_FIELDS:
            value = values[name]
            if kind == VARIADIC:
                found.extend(value)
            elif value is not None:
                found.append(value)
        return found

    @property
    def regions(self) -> Sequence[Block]:
        if not self.REGION_FIELDS:
            return ()
        return [region for _, region in self.named_regions()]

    def named_regions(self) -> Iterator[tuple[str, Block]]:
        """The regions, each with the name of its field."""
        for name, kind in self.REGION_FIELDS:
            value = getattr(self, name)
            if kind == VARIADIC:
                yield from ((name, region) for region in value)
            elif value is not None:
                yield name, value

    @property
    def attributes(self) -> dict[str, Any]:
        return {n: getattr(self, n) for n in self.ATTRIBUTE_FIELDS}

    def map_operands(self, function: Callable[[Value], Value]) -> None:
        """Replace each operand by ``function(operand)``, in place."""
        values = self.__dict__
        for name, kind in self.OPERAND_FIELDS:
            value = values[name]
            if kind == VARIADIC:
                values[name] = tuple([function(v) for v in value])
            elif value is not None:
                values[name] = function(value)

    def clone(self, mapping: dict[Value, Value]) -> Operation:
        """A copy whose operands go through ``mapping``, which gains the copy's results and block arguments."""
        values: dict[str, Any] = {n: getattr(self, n) for n in self.ATTRIBUTE_FIELDS}
        for name, kind in self.OPERAND_FIELDS:
            value = getattr(self, name)
            if kind == VARIADIC:
                values[name] = tuple(mapping.get(v, v) for v in value)
            else:
                values[name] = None if value is None else mapping.get(value, value)
        for name, kind in self.REGION_FIELDS:
            value = getattr(self, name)
            if kind == VARIADIC:
                values[name] = tuple(region.clone(mapping) for region in value)
            else:
                values[name] = None if value is None else value.clone(mapping)
        copy = type(self)(span=self.span, types=[r.type for r in self.results], **values)
        for old, new in zip(self.results, copy.results, strict=True):
            new.name = old.name
            mapping[old] = new
        return copy

    def on(self, operands: Sequence[Value]) -> Operation:
        """The same operation on other operands, which may be of other shapes; it has no regions."""
        given = iter(operands)
        fields = {**self.attributes, **{name: next(given) for name, _ in self.OPERAND_FIELDS}}
        return type(self)(span=self.span, **fields)

    def walk(self) -> Iterator[Operation]:
        """This operation and all nested ones, outer first."""
        yield self
        for region in self.regions:
            yield from region.walk()

    def fail(self, code: str, message: str, *, help: str | None = None) -> NoReturn:
        raise UserError.at(code, message, self.span, help=help)

    def __repr__(self) -> str:
        return PRINTERS[Operation](self)


PRINTERS: dict[type, Callable[[Any], str]] = {}
"""How operations and modules are shown: the printer, which needs this module, puts itself here."""
REGISTRY: dict[str, type[Operation]] = {}
"""All declared operations by name."""


class Block:
    """A list of operations with arguments; the last operation is a terminator where the parent asks for one."""

    __slots__ = ("args", "ops")

    def __init__(self, arg_types: Sequence[Type] = (), names: Sequence[str] = ()) -> None:
        self.args = [Value(t, names[i] if i < len(names) else "", self, i) for i, t in enumerate(arg_types)]
        self.ops: list[Operation] = []

    def add_arg(self, type: Type, name: str = "") -> Value:
        value = Value(type, name, self, len(self.args))
        self.args.append(value)
        return value

    def append(self, op: Operation) -> Operation:
        self.ops.append(op)
        return op

    @property
    def terminator(self) -> Operation:
        return self.ops[-1]

    def walk(self) -> Iterator[Operation]:
        for op in self.ops:
            yield from op.walk()

    def clone(self, mapping: dict[Value, Value]) -> Block:
        copy = Block([a.type for a in self.args], [a.name for a in self.args])
        mapping.update(zip(self.args, copy.args, strict=True))
        copy.ops = [op.clone(mapping) for op in self.ops]
        return copy


@record(frozen=True, slots=True)
class Parameter:
    """What is known of one parameter of a kernel.

    Attributes:
        name: the parameter's name in the source.
        kind: ``"array"``, ``"scalar"`` or ``"workspace"``.
        dims: for arrays, the declared dimensions (names, expressions, numbers), for messages.
        shape: for arrays, extents known at compile time, None elsewhere.
        strides: in elements; an int where known (0 and 1 are specialised, and all strides that follow from
            a contiguous array with constant extents), None where it is a run-time value.
        contiguous: C-contiguous, so that strides follow from the extents.
        shape_divisors, strides_divisors: per dimension, a power of two up to 16 (32 of elements below 8 bits) of which
            the run-time value is a multiple.
        aligned: the address is a multiple of 16 bytes.
        small: the array spans fewer than 2**31 bytes (offsets of in-bounds elements fit in 32 bits).
        written: the kernel may write it.
        prepacked: its elements lie in the order that the compiler chooses for the kernel (``ir/prepacked.py``).
    """

    name: str
    kind: ParameterKind
    dims: tuple[str | int, ...] = ()
    shape: tuple[int | None, ...] = ()
    strides: tuple[int | None, ...] = ()
    contiguous: bool = False
    shape_divisors: tuple[int, ...] = ()
    strides_divisors: tuple[int, ...] = ()
    aligned: bool = False
    small: bool = False
    divisible: bool = False
    written: bool = False
    prepacked: bool = False


class Function:
    """A kernel, or the launch function of a module. Parameters are the arguments of its body."""

    def __init__(self, name: str, body: Block, parameters: Sequence[Parameter],
                 attributes: Attributes | None = None, span: Span = UNKNOWN_SPAN) -> None:
        self.name = name
        self.body = body
        self.parameters = tuple(parameters)
        self.attributes = attributes or Attributes()
        self.span = span

    def walk(self) -> Iterator[Operation]:
        return self.body.walk()

    def clone(self) -> Function:
        return Function(self.name, self.body.clone({}), self.parameters, replace(self.attributes), self.span)


@record
class Module:
    """Kernels and the launch function that says how they run.

    ``level`` is ``"array"``, ``"tile"`` or ``"thread"``; ``form`` the invariants that hold (``layouts``, ``barriers``,
    ``planned`` …); ``target`` the target's name, empty while the module is target-neutral.
    """

    kernels: list[Function]
    launch: Function | None = None
    level: str = "tile"
    form: frozenset[str] = frozenset()
    target: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)

    def kernel(self, name: str) -> Function:
        for function in self.kernels:
            if function.name == name:
                return function
        raise KeyError(name)

    def __str__(self) -> str:
        return PRINTERS[Module](self)
