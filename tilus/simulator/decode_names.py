"""The names of an entry function and what they stand for: registers, variables, labels, operands of instructions."""

from __future__ import annotations

from tilus.diagnostics import Span, UserError
from tilus.simulator import isa
from tilus.simulator.isa import Fields, Form
from tilus.simulator.layout import place_globals
from tilus.simulator.resolved import (
    Both,
    Const,
    Decoded,
    Mem,
    Op,
    Part,
    Place,
    Reg,
    Resolved,
    Routine,
    Sink,
    Special,
    Symbol,
    Vec,
)
from tilus.simulator.syntax import (
    Address,
    Function,
    Instruction,
    Label,
    Module,
    Name,
    Number,
    Operand,
    Pair,
    RegisterRange,
    Statement,
    Targets,
    Variable,
    Vector,
    type_bits,
)

MAX_OPERATIONS = 1 << 19
MAX_REGISTERS = 1 << 20


class Frame:
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


class Names:
    """What is declared while an entry function is flattened, and the operations made so far."""

    def __init__(self, module: Module, entry: Function) -> None:
        self.module = module
        self.entry = entry
        self.out = Decoded(entry.name, attributes=entry.attributes,
                           registers={1: [], 16: [], 32: [], 64: [], 128: []})
        self.out.placement = place_globals(module, module.path)
        self.shared: dict[str, int] = {}
        self.source: tuple[Place, ...] = ()
        self.callers: dict[tuple[int, int, int], tuple[int, int, int] | None] = {}
        self.forms: dict[str, tuple[Form, Fields] | None] = {}
        self.instances = 0
        self.frames: list[str] = []
        self.taken: set[str] | None = None
        self.recursive: set[str] | None = None
        self.routine: Routine | None = None
        self.routine_frame: Frame | None = None
        self.link: tuple[Reg, Reg] | None = None

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
        start = align(self.out.shared_bytes, variable.align)
        self.shared[key] = start
        self.out.shared_bytes = start + variable.bytes
        self.out.shared_variables.append((start, variable.bytes, variable.name))
        return start

    def _declare(self, body: list[Statement], frame: Frame) -> None:
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
        if sum(len(pool) for pool in self.out.registers.values()) > MAX_REGISTERS:
            raise self.error(f"more than {MAX_REGISTERS} registers", entry.line)

    def _declare_variable(self, variable: Variable, frame: Frame) -> Resolved:
        key = f"{frame.prefix}{variable.name}"
        if variable.space == "shared":
            if variable.extern or variable.bytes == 0:
                return self._dynamic_symbol(variable)
            name = f"{self.frames[-1]}::{variable.name}"
            start = self.shared[name] if name in self.shared else self._place_shared(variable, name)
            return Symbol(variable.name, "shared", start)
        if variable.space == "local" and self.routine is not None and frame is self.routine_frame:
            return Symbol(variable.name, "frame", self._in_frame(self.routine, variable))
        if variable.space in ("local", "param"):
            start = align(self.out.local_bytes, variable.align)
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

    def _in_frame(self, routine: Routine, variable: Variable) -> int:
        """A place for a variable in the frames of a routine; frames start at multiples of 16."""
        start = align(routine.frame_bytes, variable.align)
        routine.frame_bytes = align(start + max(variable.bytes, variable.element_bytes), 16)
        return start

    def _emit(self, op: Op) -> None:
        if len(self.out.ops) >= MAX_OPERATIONS:
            raise self.error("too many instructions after inlining the calls", op.line)
        self.out.ops.append(op)

    def _fresh(self, stem: str) -> str:
        self.instances += 1
        return f"{stem}#{self.instances}"

    def _emit_guarded(self, op: Op, predicate: Reg) -> None:
        """A predicated operation at which lanes meet, as a branch around it."""
        skip = self._fresh("skip")
        opposite = Reg(1, predicate.index, predicate.name, "pred", not predicate.negated)
        self._emit(Op("bra", None, {}, (), opposite, op.line, self.source, (skip,)))
        self._emit(op)
        self.out.labels[skip] = len(self.out.ops)

    def _temporary(self, bits: int, name: str) -> Reg:
        pool = self.out.registers[bits]
        pool.append(name)
        return Reg(bits, len(pool) - 1, name, f"b{bits}")

    def _find(self, opcode: str) -> tuple[Form, Fields] | None:
        if opcode not in self.forms:
            self.forms[opcode] = isa.TABLE.find(opcode)
        return self.forms[opcode]

    def _operand(self, item: Operand, frame: Frame, ins: Instruction) -> Resolved:
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

    def _name(self, item: Name, frame: Frame, ins: Instruction) -> Resolved:
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
            raise self.error(f"{text[:80]!r} is not declared", ins.line)
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
        if name not in self.out.placement.addresses:
            raise self.error(f"variable {name!r} of the module is in .{variable.space}", variable.line)
        return Symbol(name, variable.space, self.out.placement.addresses[name])

    def _label(self, item: Operand, frame: Frame, ins: Instruction) -> str:
        label = frame.label(item.text) if isinstance(item, Name) else None
        if label is None:
            text = item.text if isinstance(item, Name) else "operand"
            raise self.error(f"{text!r} is not a label", ins.line)
        return label


def align(value: int, to: int) -> int:
    """The next multiple."""
    return (value + to - 1) // to * to
