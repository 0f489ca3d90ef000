"""Resolves the names of one entry function and flattens its calls: syntax tree to a list of operations.

Device functions are inlined at their call sites, each call with registers and local variables of its own; recursive
functions follow the kernel, each once, and calls of them push a frame. The result is one flat list of operations.
"""

from __future__ import annotations

import re

from tilus.diagnostics import Span, UnsupportedError, UserError
from tilus.simulator import isa
from tilus.simulator.call_graph import addressed_functions, recursive_functions
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
    StackCall,
    Symbol,
    Vec,
)
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
MAX_OPERATIONS = 1 << 19
MAX_REGISTERS = 1 << 20
INLINED_OPERATIONS = 1 << 15


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
        self.source: tuple[Place, ...] = ()
        self.callers: dict[tuple[int, int, int], tuple[int, int, int] | None] = {}
        self.forms: dict[str, tuple[Form, Fields] | None] = {}
        self.instances = 0
        self.frames: list[str] = []
        self.taken: set[str] | None = None
        self.recursive: set[str] | None = None
        self.routine: Routine | None = None
        self.routine_frame: _Frame | None = None
        self.link: tuple[Reg, Reg] | None = None

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
        self._emit(Op("exit", None, {}, (), None, self.entry.line, ()))
        self._routines()
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
        self.out.shared_variables.append((start, variable.bytes, variable.name))
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
                self.source = self._places(statement)

    def _places(self, location: Location) -> tuple[Place, ...]:
        """The places of a ``.loc``, the innermost first; compilers write line 0 where none is meant."""
        self.callers[location.place] = location.inlined_at
        places: list[Place] = []
        at: tuple[int, int, int] | None = location.place
        while at is not None and len(places) < MAX_CALL_DEPTH:
            file, line, column = at
            if line:
                places.append(Place(self.module.files.get(file, ""), line, column))
            at = self.callers.get(at)
        return tuple(places)

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
        if sum(len(pool) for pool in self.out.registers.values()) > MAX_REGISTERS:
            raise self.error(f"more than {MAX_REGISTERS} registers", entry.line)

    def _declare_variable(self, variable: Variable, frame: _Frame) -> Resolved:
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
        opcode = isa.TABLE.ordered(ins.opcode)
        match = self._find(opcode) if opcode is not None else None
        if match is None or opcode is None:
            raise isa.unknown(ins.opcode, self.module.path, ins.line)
        operands = tuple([self._operand(item, frame, ins) for item in ins.operands])
        if self.routine is not None:
            opcode, operands = self._from_frame(ins, opcode, operands)
            match = self._find(opcode) or match
        form, fields = match
        if form.gate and predicate is not None:
            self._emit_guarded(Op(opcode, form, fields, operands, None, ins.line, self.source), predicate)
        else:
            self._emit(Op(opcode, form, fields, operands, predicate, ins.line, self.source))

    def _find(self, opcode: str) -> tuple[Form, Fields] | None:
        if opcode not in self.forms:
            self.forms[opcode] = isa.TABLE.find(opcode)
        return self.forms[opcode]

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
            self._invoke(function, values, returns, ins)
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
            self._invoke(function, values, returns, ins)
            self._emit(Op("bra", None, {}, (), None, ins.line, self.source, (done,)))
            self.out.labels[following] = len(self.out.ops)
        self._emit(Op("call.(nowhere)", *nowhere, (pointer,), None, ins.line, self.source))
        self.out.labels[done] = len(self.out.ops)

    def _addressed(self, parameters: int, results: int) -> tuple[str, ...]:
        """Functions of so many parameters and results whose address the module takes."""
        if self.taken is None:
            self.taken = addressed_functions(self.module)
        return tuple(f.name for f in self.module.functions.values()
                     if f.name in self.taken and not f.is_entry and f.body is not None
                     and (len(f.params), len(f.results)) == (parameters, results))

    def _invoke(self, function: Function, values: tuple[Resolved, ...], returns: tuple[Resolved, ...],
                ins: Instruction) -> None:
        if len(values) != len(function.params) or len(returns) != len(function.results):
            raise self.error(f"call of {function.name!r} with wrong number of arguments", ins.line)
        if self.recursive is None:
            self.recursive = recursive_functions(self.module)
        # What is called over and over is kept once: the text stays as long as its functions are.
        long = len(self.out.ops) > INLINED_OPERATIONS and all(
            variable.space == "param" for variable in function.params + function.results)
        if function.name in self.recursive or long:
            self._push(function, values, returns, ins)
        else:
            self._inline(function, values, returns, ins)

    def _inline(self, function: Function, values: tuple[Resolved, ...], returns: tuple[Resolved, ...],
                ins: Instruction) -> None:
        if len(self.frames) > MAX_CALL_DEPTH:
            raise UnsupportedError.at("E1002", f"more than {MAX_CALL_DEPTH} nested calls at line {ins.line} are not "
                                      "supported", Span(self.module.path, ins.line))
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

    # -- recursive functions

    def _push(self, function: Function, values: tuple[Resolved, ...], returns: tuple[Resolved, ...],
              ins: Instruction) -> None:
        """A call of a recursive function: a frame, a jump, and at the return the frame's end."""
        routine = self._routine(function)
        if self.link is None:
            self.link = (self._temporary(64, "frame"), self._temporary(32, "return"))
        after = self._fresh("after")
        call = StackCall(len(routine.returns), self.routine, routine, *self.link,
                         self._copies(routine, function.params, values, ins),
                         self._copies(routine, function.results, returns, ins))
        routine.returns.append(after)
        for name in ("push", "pop"):
            match = isa.TABLE.find(f"call.({name})")
            assert match is not None
            self._emit(Op(f"call.({name})", *match, self.link, None, ins.line, self.source, data=call))
            if name == "push":
                self._emit(Op("bra", None, {}, (), None, ins.line, self.source, (routine.entry,)))
                self.out.labels[after] = len(self.out.ops)

    def _routine(self, function: Function) -> Routine:
        if function.name not in self.out.routines:
            routine = Routine(function, self._fresh(function.name))
            for variable in function.params + function.results:
                routine.places[variable.name] = self._in_frame(routine, variable)
            self.out.routines[function.name] = routine
        return self.out.routines[function.name]

    def _in_frame(self, routine: Routine, variable: Variable) -> int:
        """A place for a variable in the frames of a routine; frames start at multiples of 16."""
        start = _align(routine.frame_bytes, variable.align)
        routine.frame_bytes = _align(start + max(variable.bytes, variable.element_bytes), 16)
        return start

    def _copies(self, routine: Routine, formals: list[Variable], actuals: tuple[Resolved, ...],
                ins: Instruction) -> tuple[tuple[Symbol, int, int], ...]:
        copies = []
        for formal, actual in zip(formals, actuals, strict=True):
            if formal.space == "reg" or not isinstance(actual, Symbol) or actual.space not in ("local", "frame"):
                raise self.error(f"argument {formal.name!r} of the recursive function {routine.name!r} must be a "
                                 ".param variable", ins.line)
            copies.append((actual, routine.places[formal.name], formal.bytes))
        return tuple(copies)

    def _temporary(self, bits: int, name: str) -> Reg:
        pool = self.out.registers[bits]
        pool.append(name)
        return Reg(bits, len(pool) - 1, name, f"b{bits}")

    def _routines(self) -> None:
        """Decode the recursive functions that were called; their bodies may call more of them."""
        done: set[str] = set()
        while waiting := [r for name, r in self.out.routines.items() if name not in done]:
            for routine in waiting:
                done.add(routine.name)
                self._routine_body(routine)
        for op in self.out.ops:
            if isinstance(op.data, Routine):
                op.targets = tuple(op.data.returns)
        self.out.local_bytes = _align(self.out.local_bytes, 16)

    def _routine_body(self, routine: Routine) -> None:
        assert self.link is not None
        function = routine.function
        before = {bits: len(pool) for bits, pool in self.out.registers.items()}
        end = self._fresh("return")
        frame = _Frame(f"{function.name}/", end)
        for variable in function.params + function.results:
            frame.scopes[0][variable.name] = Symbol(variable.name, "frame", routine.places[variable.name])
        frame.scopes.append({})
        self.routine, self.routine_frame, self.frames = routine, frame, [function.name]
        self.out.labels[routine.entry] = len(self.out.ops)
        self._body(function.body or [], frame)
        self.out.labels[end] = len(self.out.ops)
        self._emit(Op("brx", None, {}, (self.link[1],), None, function.line, self.source, data=routine))
        routine.registers = [(bits, index) for bits, pool in self.out.registers.items()
                             for index in range(before[bits], len(pool))]

    def _from_frame(self, ins: Instruction, opcode: str, operands: tuple[Resolved, ...]
                    ) -> tuple[str, tuple[Resolved, ...]]:
        """Frame variables as what the frame register plus their offset points to."""
        result: list[Resolved] = []
        for item in operands:
            if isinstance(item, Mem) and isinstance(item.base, Symbol) and item.base.space == "frame":
                result.append(Mem(self._frame_address(item.base, ins), item.offset, item.extra))
                opcode = re.sub(r"\.param(::\w+)?(?=\.)", ".local", opcode)
            elif isinstance(item, Symbol) and item.space == "frame":
                result.append(self._frame_address(item, ins))
            else:
                result.append(item)
        return opcode, tuple(result)

    def _frame_address(self, symbol: Symbol, ins: Instruction) -> Reg:
        match = isa.TABLE.find("add.u64")
        assert match is not None
        assert self.link is not None
        address = self._temporary(64, f"address of {symbol.name}")
        self._emit(Op("add.u64", *match, (address, self.link[0], Const(symbol.address)), None, ins.line, self.source))
        return address

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


def _align(value: int, to: int) -> int:
    return (value + to - 1) // to * to
