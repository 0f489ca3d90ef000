"""Resolves the names of one entry function and flattens its calls: syntax tree to a list of operations.

Device functions are inlined at their call sites, each call with registers and local variables of its own, so the
result is one flat list of operations with labels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from tilus.diagnostics import Span, UnsupportedError, UserError
from tilus.simulator import isa
from tilus.simulator.isa import Fields, Form
from tilus.simulator.layout import Placement, place_globals
from tilus.simulator.syntax import (
    Address,
    Function,
    Group,
    Instruction,
    Label,
    Location,
    Module,
    Name,
    Number,
    Operand,
    Pair,
    RegisterRange,
    Scope,
    Statement,
    Targets,
    Variable,
    Vector,
    type_bits,
)

MAX_CALL_DEPTH = 24
MAX_OPERATIONS = 1 << 20


@dataclass(frozen=True, slots=True)
class Reg:
    """A register of a width class (1, 16, 32, 64 or 128 bits), unique in the program."""

    bits: int
    index: int
    name: str
    type: str
    negated: bool = False
    minus: bool = False


@dataclass(frozen=True, slots=True)
class Const:
    value: int | float


@dataclass(frozen=True, slots=True)
class Symbol:
    """The address of a variable: ``space`` is global, const, shared, local, param."""

    name: str
    space: str
    address: int


@dataclass(frozen=True, slots=True)
class Special:
    name: str


@dataclass(frozen=True, slots=True)
class Mem:
    base: Reg | Const | Symbol
    offset: int
    extra: tuple[Resolved, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes or halves of a register, as video instructions name them: ``b0``, ``h1``, ``b3210``."""

    reg: Reg
    selector: str


@dataclass(frozen=True, slots=True)
class Vec:
    items: tuple[Resolved, ...]


@dataclass(frozen=True, slots=True)
class Both:
    first: Resolved
    second: Resolved


@dataclass(frozen=True, slots=True)
class Sink:
    """``_``: a destination that is thrown away, or an absent operand."""


Resolved: TypeAlias = "Reg | Const | Symbol | Special | Mem | Vec | Both | Part | Sink"


@dataclass(slots=True)
class Op:
    """One operation ready to be bound: the table's form, its modifiers and resolved operands."""

    opcode: str
    form: Form | None
    fields: Fields
    operands: tuple[Resolved, ...]
    predicate: Reg | None
    line: int
    source: tuple[str, int] | None
    targets: tuple[str, ...] = ()
    data: object = None


@dataclass(slots=True)
class Decoded:
    """An entry function as flat operations; ``labels`` map to positions in ``ops``."""

    name: str
    ops: list[Op] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    registers: dict[int, list[str]] = field(default_factory=dict)
    params: list[tuple[Variable, int]] = field(default_factory=list)
    param_bytes: int = 0
    shared_bytes: int = 0
    dynamic_shared: bool = False
    dynamic_align: int = 16
    local_bytes: int = 0
    attributes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    placement: Placement = field(default_factory=Placement)


FLOW = {"bra", "brx", "ret", "exit", "trap", "call"}


def decode(module: Module, entry: str) -> Decoded:
    """Flatten an entry function.

    Raises:
        UserError: E1001 for names that are not declared, E1002 for unknown instructions, E1003 for an unknown entry.
    """
    function = module.functions.get(entry)
    if function is None or function.body is None or not function.is_entry:
        entries = ", ".join(sorted(f.name for f in module.functions.values() if f.is_entry)) or "none"
        raise UserError.at("E1003", f"the module has no entry {entry!r}; its entries: {entries}")
    return _Decoder(module, function).run()


class _Frame:
    """The names visible in one function instance, innermost scope last."""

    def __init__(self, prefix: str, exit_label: str) -> None:
        self.prefix = prefix
        self.exit_label = exit_label
        self.scopes: list[dict[str, Resolved]] = [{}]
        self.labels: list[dict[str, str]] = [{}]
        self.targets: dict[str, tuple[str, ...]] = {}

    def find(self, name: str) -> Resolved | None:
        for scope in reversed(self.scopes):
            found = scope.get(name)
            if found is not None:
                return found
        return None

    def label(self, name: str) -> str | None:
        for scope in reversed(self.labels):
            if name in scope:
                return scope[name]
        return None


class _Decoder:
    def __init__(self, module: Module, entry: Function) -> None:
        self.module = module
        self.entry = entry
        self.out = Decoded(entry.name, attributes=entry.attributes,
                           registers={1: [], 16: [], 32: [], 64: [], 128: []})
        self.out.placement = place_globals(module, module.path)
        self.shared: dict[str, int] = {}
        self.source: tuple[str, int] | None = None
        self.forms: dict[str, tuple[Form, Fields] | None] = {}
        self.instances = 0
        self.frames: list[str] = []
        self.taken: set[str] | None = None

    def run(self) -> Decoded:
        offset = 0
        frame = _Frame("", "exit")
        for param in self.entry.params:
            offset = _align(offset, param.align)
            self.out.params.append((param, offset))
            frame.scopes[0][param.name] = Symbol(param.name, "param", self.out.placement.param_base + offset)
            offset += param.bytes
        self.out.param_bytes = offset
        self._collect_shared()
        self.frames.append(self.entry.name)
        self._body(self.entry.body or [], frame)
        self._emit(Op("exit", None, {}, (), None, self.entry.line, None))
        return self.out

    def error(self, message: str, line: int, code: str = "E1001") -> UserError:
        return UserError.at(code, f"{message} at line {line}", Span(self.module.path, line))

    def _collect_shared(self) -> None:
        """Module-scope shared variables; extern ones all start where the static ones end."""
        dynamic: list[Variable] = []
        for variable in self.module.variables.values():
            if variable.space == "shared":
                if variable.extern or variable.bytes == 0:
                    dynamic.append(variable)
                else:
                    self._place_shared(variable, variable.name)
        self.dynamic = dynamic

    def _place_shared(self, variable: Variable, key: str) -> int:
        start = _align(self.out.shared_bytes, variable.align)
        self.shared[key] = start
        self.out.shared_bytes = start + variable.bytes
        return start

    # -- statements

    def _body(self, body: list[Statement], frame: _Frame) -> None:
        self._declare(body, frame)
        for statement in body:
            if isinstance(statement, Instruction):
                self._instruction(statement, frame)
            elif isinstance(statement, Label):
                if statement.name in frame.targets:
                    continue
                self.out.labels[frame.labels[-1][statement.name]] = len(self.out.ops)
            elif isinstance(statement, Scope):
                frame.scopes.append({})
                frame.labels.append({})
                self._body(statement.body, frame)
                frame.scopes.pop()
                frame.labels.pop()
            elif isinstance(statement, Location):
                self.source = (self.module.files.get(statement.file, ""), statement.source_line)

    def _declare(self, body: list[Statement], frame: _Frame) -> None:
        scope, labels = frame.scopes[-1], frame.labels[-1]
        last_label = ""
        for statement in body:
            if isinstance(statement, Label):
                if statement.name in labels:
                    raise self.error(f"label {statement.name!r} is defined twice", statement.line)
                self.instances += 1
                labels[statement.name] = f"{frame.prefix}{statement.name}#{self.instances}"
                last_label = statement.name
            elif isinstance(statement, Targets):
                frame.targets[last_label] = statement.names
            elif isinstance(statement, RegisterRange):
                self._declare_registers(statement, scope, frame.prefix)
            elif isinstance(statement, Variable):
                if statement.name in scope:
                    raise self.error(f"{statement.name!r} is declared twice", statement.line)
                scope[statement.name] = self._declare_variable(statement, frame)

    def _declare_registers(self, entry: RegisterRange, scope: dict[str, Resolved], prefix: str) -> None:
        names = [entry.name] if entry.count is None else [f"{entry.name}{i}" for i in range(entry.count)]
        bits = type_bits(entry.type)
        bits = 16 if bits == 8 else bits
        if bits not in self.out.registers:
            raise self.error(f"registers cannot have type .{entry.type}", entry.line)
        for name in names:
            if name in scope:
                raise self.error(f"register {name!r} is declared twice", entry.line)
            parts = [name] if entry.vector == 1 else [f"{name}.{c}" for c in "xyzw"[:entry.vector]]
            made = []
            for part in parts:
                pool = self.out.registers[bits]
                reg = Reg(bits, len(pool), part, entry.type)
                pool.append(prefix + part)
                scope[part] = reg
                made.append(reg)
            if entry.vector > 1:
                scope[name] = Vec(tuple(made))

    def _declare_variable(self, variable: Variable, frame: _Frame) -> Resolved:
        key = f"{frame.prefix}{variable.name}"
        if variable.space == "shared":
            if variable.extern or variable.bytes == 0:
                return self._dynamic_symbol(variable)
            name = f"{self.frames[-1]}::{variable.name}"
            start = self.shared[name] if name in self.shared else self._place_shared(variable, name)
            return Symbol(variable.name, "shared", start)
        if variable.space in ("local", "param"):
            start = _align(self.out.local_bytes, variable.align)
            self.out.local_bytes = start + max(variable.bytes, variable.element_bytes)
            if self.out.local_bytes > 1 << 24:
                raise self.error("more than 16 MiB of local memory for each thread", variable.line)
            return Symbol(variable.name, "local", start)
        if variable.space in ("global", "const"):
            return Symbol(variable.name, variable.space, self.out.placement.add(variable, key, self.module.path))
        raise self.error(f"variables in .{variable.space} are not supported here", variable.line)

    def _dynamic_symbol(self, variable: Variable) -> Symbol:
        self.out.dynamic_shared = True
        self.out.dynamic_align = max(self.out.dynamic_align, variable.align)
        return Symbol(variable.name, "dynamic", 0)

    # -- instructions

    def _emit(self, op: Op) -> None:
        if len(self.out.ops) >= MAX_OPERATIONS:
            raise self.error("too many instructions after inlining the calls", op.line)
        self.out.ops.append(op)

    def _instruction(self, ins: Instruction, frame: _Frame) -> None:
        family = ins.family
        predicate = None
        if ins.predicate is not None:
            found = frame.find(ins.predicate.text)
            if not isinstance(found, Reg) or found.bits != 1:
                raise self.error(f"{ins.predicate.text!r} is not a predicate register", ins.line)
            predicate = Reg(1, found.index, found.name, "pred", ins.predicate.negated)
        if family in FLOW:
            self._flow(ins, family, predicate, frame)
            return
        if ins.opcode not in self.forms:
            self.forms[ins.opcode] = isa.TABLE.find(ins.opcode)
        match = self.forms[ins.opcode]
        if match is None:
            raise isa.unknown(ins.opcode, self.module.path, ins.line)
        operands = tuple([self._operand(item, frame, ins) for item in ins.operands])
        form, fields = match
        if form.gate and predicate is not None:
            self._emit_guarded(Op(ins.opcode, form, fields, operands, None, ins.line, self.source), predicate)
        else:
            self._emit(Op(ins.opcode, form, fields, operands, predicate, ins.line, self.source))

    def _emit_guarded(self, op: Op, predicate: Reg) -> None:
        """A predicated operation at which lanes meet, as a branch around it."""
        skip = self._fresh("skip")
        opposite = Reg(1, predicate.index, predicate.name, "pred", not predicate.negated)
        self._emit(Op("bra", None, {}, (), opposite, op.line, self.source, (skip,)))
        self._emit(op)
        self.out.labels[skip] = len(self.out.ops)

    def _fresh(self, stem: str) -> str:
        self.instances += 1
        return f"{stem}#{self.instances}"

    def _operand(self, item: Operand, frame: _Frame, ins: Instruction) -> Resolved:
        if isinstance(item, Name):
            return self._name(item, frame, ins)
        if isinstance(item, Number):
            return Const(item.value)
        if isinstance(item, Address):
            base = self._operand(item.base, frame, ins)
            if not isinstance(base, (Reg, Const, Symbol)):
                raise self.error(f"bad address in {ins.opcode!r}", ins.line)
            if isinstance(base, Reg) and base.bits not in (32, 64):
                raise self.error(f"{base.name!r} cannot hold an address", ins.line)
            return Mem(base, item.offset, tuple([self._operand(extra, frame, ins) for extra in item.extra]))
        if isinstance(item, Vector):
            return Vec(tuple([self._operand(part, frame, ins) for part in item.items]))
        if isinstance(item, Pair):
            return Both(self._operand(item.first, frame, ins), self._operand(item.second, frame, ins))
        raise self.error(f"unexpected operand list in {ins.opcode!r}", ins.line)

    def _name(self, item: Name, frame: _Frame, ins: Instruction) -> Resolved:
        text = item.text
        if text == "_":
            return Sink()
        found = frame.find(text) or self._module_symbol(text)
        if found is None and text.startswith("%"):
            from tilus.simulator.special import is_special

            if is_special(text):
                return Special(text)
        if found is None and text == "WARP_SZ":
            return Const(32)
        if found is None and text in self.out.placement.functions:
            return Const(self.out.placement.functions[text])
        if found is None and "." in text:
            whole, _, selector = text.rpartition(".")
            reg = frame.find(whole)
            if isinstance(reg, Reg):
                return Part(Reg(reg.bits, reg.index, reg.name, reg.type, item.negated, item.minus), selector)
        if found is None:
            raise self.error(f"{text!r} is not declared", ins.line)
        if isinstance(found, Symbol) and item.offset:
            return Symbol(found.name, found.space, found.address + item.offset)
        if isinstance(found, Reg) and (item.negated or item.minus):
            return Reg(found.bits, found.index, found.name, found.type, item.negated, item.minus)
        return found

    def _module_symbol(self, name: str) -> Symbol | None:
        variable = self.module.variables.get(name)
        if variable is None:
            return None
        if variable.space == "shared":
            if name in self.shared:
                return Symbol(name, "shared", self.shared[name])
            return self._dynamic_symbol(variable)
        return Symbol(name, variable.space, self.out.placement.addresses[name])

    # -- control flow

    def _flow(self, ins: Instruction, family: str, predicate: Reg | None, frame: _Frame) -> None:
        if family == "bra":
            if ins.opcode not in ("bra", "bra.uni") or len(ins.operands) != 1:
                raise isa.unknown(ins.opcode, self.module.path, ins.line)
            self._emit(Op("bra", None, {}, (), predicate, ins.line, self.source,
                          (self._label(ins.operands[0], frame, ins),)))
        elif family == "brx":
            if ins.opcode not in ("brx.idx", "brx.idx.uni") or len(ins.operands) != 2:
                raise isa.unknown(ins.opcode, self.module.path, ins.line)
            self._brx(ins, predicate, frame)
        elif family == "ret" and ins.opcode in ("ret", "ret.uni"):
            target = frame.exit_label
            if target == "exit":
                self._emit(Op("exit", None, {}, (), predicate, ins.line, self.source))
            else:
                self._emit(Op("bra", None, {}, (), predicate, ins.line, self.source, (target,)))
        elif ins.opcode in ("exit", "trap"):
            self._emit(Op(ins.opcode, None, {}, (), predicate, ins.line, self.source))
        elif ins.opcode in ("call", "call.uni"):
            self._call(ins, predicate, frame)
        else:
            raise isa.unknown(ins.opcode, self.module.path, ins.line)

    def _label(self, item: Operand, frame: _Frame, ins: Instruction) -> str:
        label = frame.label(item.text) if isinstance(item, Name) else None
        if label is None:
            text = item.text if isinstance(item, Name) else "operand"
            raise self.error(f"{text!r} is not a label", ins.line)
        return label

    def _brx(self, ins: Instruction, predicate: Reg | None, frame: _Frame) -> None:
        table = ins.operands[1]
        names = frame.targets.get(table.text) if isinstance(table, Name) else None
        if names is None:
            raise self.error("brx.idx needs a .branchtargets list", ins.line)
        targets = tuple([self._label(Name(name), frame, ins) for name in names])
        index = self._operand(ins.operands[0], frame, ins)
        op = Op("brx", None, {}, (index,), None, ins.line, self.source, targets)
        if predicate is None:
            self._emit(op)
        else:
            self._emit_guarded(op, predicate)

    def _call(self, ins: Instruction, predicate: Reg | None, frame: _Frame) -> None:
        operands = list(ins.operands)
        results = _take_group(operands)
        target = operands.pop(0) if operands else None
        if not isinstance(target, Name):
            raise self.error("call needs a function name", ins.line)
        name = target.text
        args = _take_group(operands)
        skip = self._fresh("skip")
        if predicate is not None:
            opposite = Reg(1, predicate.index, predicate.name, "pred", not predicate.negated)
            self._emit(Op("bra", None, {}, (), opposite, ins.line, self.source, (skip,)))
        values = tuple([self._operand(a, frame, ins) for a in args])
        returns = tuple([self._operand(r, frame, ins) for r in results])
        name = self.module.aliases.get(name, name)
        if frame.find(name) is not None:
            self._indirect(frame.find(name), operands, values, returns, ins, frame)
        else:
            self._direct(name, values, returns, ins)
        self.out.labels[skip] = len(self.out.ops)

    def _direct(self, name: str, values: tuple[Resolved, ...], returns: tuple[Resolved, ...],
                ins: Instruction) -> None:
        match = isa.TABLE.find(f"call.{name}")
        function = self.module.functions.get(name)
        if function is not None and function.body is not None:
            self._inline(function, values, returns, ins)
        elif match is not None:
            form, fields = match
            self._emit(Op(f"call.{name}", form, fields, returns + values, None, ins.line, self.source,
                          data=len(returns)))
        else:
            raise self.error(f"call of {name!r}, which has no body", ins.line)

    def _indirect(self, pointer: Resolved | None, rest: list[Operand], values: tuple[Resolved, ...],
                  returns: tuple[Resolved, ...], ins: Instruction, frame: _Frame) -> None:
        """A call through a register, as a chain of comparisons with the functions that it may reach."""
        if not isinstance(pointer, Reg) or pointer.bits != 64:
            raise self.error("call needs a function or a register of 64 bits", ins.line)
        label = rest[0].text if rest and isinstance(rest[0], Name) else ""
        if label not in frame.targets:
            raise self.error("an indirect call needs a .callprototype or .calltargets list", ins.line)
        names = frame.targets[label] or self._addressed(len(values), len(returns))
        pool = self.out.registers[1]
        differs = Reg(1, len(pool), "call target", "pred")
        pool.append("call target")
        compare = isa.TABLE.find("setp.ne.u64")
        nowhere = isa.TABLE.find("call.(nowhere)")
        assert compare is not None
        assert nowhere is not None
        done = self._fresh("called")
        for name in names:
            function = self.module.functions.get(name)
            if function is None or function.body is None:
                raise self.error(f"call target {name!r} has no body", ins.line)
            following = self._fresh("next")
            address = Const(self.out.placement.functions[name])
            self._emit(Op("setp.ne.u64", *compare, (differs, pointer, address), None, ins.line, self.source))
            self._emit(Op("bra", None, {}, (), differs, ins.line, self.source, (following,)))
            self._inline(function, values, returns, ins)
            self._emit(Op("bra", None, {}, (), None, ins.line, self.source, (done,)))
            self.out.labels[following] = len(self.out.ops)
        self._emit(Op("call.(nowhere)", *nowhere, (pointer,), None, ins.line, self.source))
        self.out.labels[done] = len(self.out.ops)

    def _addressed(self, parameters: int, results: int) -> tuple[str, ...]:
        """Functions of so many parameters and results whose address the module takes."""
        if self.taken is None:
            operands = [value for variable in self.module.variables.values() for value in variable.values]
            for function in self.module.functions.values():
                operands += _operands_of(function.body or [])
            self.taken = {item.text for item in operands if isinstance(item, Name)}
        return tuple(f.name for f in self.module.functions.values()
                     if f.name in (self.taken or ()) and not f.is_entry and f.body is not None
                     and (len(f.params), len(f.results)) == (parameters, results))

    def _inline(self, function: Function, values: tuple[Resolved, ...], returns: tuple[Resolved, ...],
                ins: Instruction) -> None:
        if len(self.frames) > MAX_CALL_DEPTH or self.frames.count(function.name) > 2:
            raise UnsupportedError.at("E1002", f"recursive call of {function.name!r} at line {ins.line} is not "
                                      "supported", Span(self.module.path, ins.line))
        if len(values) != len(function.params) or len(returns) != len(function.results):
            raise self.error(f"call of {function.name!r} with wrong number of arguments", ins.line)
        self.instances += 1
        done = self._fresh("return")
        inner = _Frame(f"{function.name}@{self.instances}/", done)
        for formal, actual in zip(function.params + function.results, values + returns, strict=True):
            inner.scopes[0][formal.name] = self._bind_argument(formal, actual, ins)
        source = self.source
        self.frames.append(function.name)
        inner.scopes.append({})
        self._body(function.body or [], inner)
        self.frames.pop()
        self.source = source
        self.out.labels[done] = len(self.out.ops)

    def _bind_argument(self, formal: Variable, actual: Resolved, ins: Instruction) -> Resolved:
        if formal.space == "reg" or isinstance(actual, Symbol):
            return actual
        raise self.error(f"argument {formal.name!r} must be a .param variable", ins.line)


def _take_group(operands: list[Operand]) -> tuple[Operand, ...]:
    """Remove a leading parenthesised list."""
    if operands and isinstance(operands[0], Group):
        items = operands[0].items
        del operands[0]
        return items
    return ()


def _operands_of(body: list[Statement]) -> list[Operand]:
    """Operands of all instructions but calls, and values of variables."""
    result: list[Operand] = []
    for statement in body:
        if isinstance(statement, Instruction) and statement.family != "call":
            result += statement.operands
        elif isinstance(statement, Variable):
            result += statement.values
        elif isinstance(statement, Scope):
            result += _operands_of(statement.body)
    return result


def _align(value: int, to: int) -> int:
    return (value + to - 1) // to * to
