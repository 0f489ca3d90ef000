"""Calls, flattened: device functions are inlined at their call sites, recursive ones follow the kernel and have frames.

Each inlined call has registers and local variables of its own. A call through a register becomes a chain of comparisons
with the functions that it may reach.
"""

from __future__ import annotations

import re
from dataclasses import replace

from tilus.diagnostics import Span, UnsupportedError
from tilus.simulator import isa
from tilus.simulator.call_graph import addressed_functions, recursive_functions
from tilus.simulator.decode_names import Frame, Names, align
from tilus.simulator.layout import LOCAL_WINDOW
from tilus.simulator.resolved import Const, Mem, Op, Reg, Resolved, Routine, StackCall, Symbol
from tilus.simulator.syntax import Function, Group, Instruction, Name, Operand, Statement, Variable

MAX_CALL_DEPTH = 24
INLINED_OPERATIONS = 1 << 15


class Calls(Names):
    """The part of the decoder that follows calls."""

    def _body(self, body: list[Statement], frame: Frame) -> None:
        """Flatten the statements of a function or scope."""
        raise NotImplementedError

    def _call(self, ins: Instruction, predicate: Reg | None, frame: Frame) -> None:
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
                  returns: tuple[Resolved, ...], ins: Instruction, frame: Frame) -> None:
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
        inner = Frame(f"{function.name}@{self.instances}/", done)
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

    def _copies(self, routine: Routine, formals: list[Variable], actuals: tuple[Resolved, ...],
                ins: Instruction) -> tuple[tuple[Symbol, int, int], ...]:
        copies = []
        for formal, actual in zip(formals, actuals, strict=True):
            if formal.space == "reg" or not isinstance(actual, Symbol) or actual.space not in ("local", "frame"):
                raise self.error(f"argument {formal.name!r} of the recursive function {routine.name!r} must be a "
                                 ".param variable", ins.line)
            copies.append((actual, routine.places[formal.name], formal.bytes))
        return tuple(copies)

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
        self.out.local_bytes = align(self.out.local_bytes, 16)

    def _routine_body(self, routine: Routine) -> None:
        assert self.link is not None
        function = routine.function
        before = {bits: len(pool) for bits, pool in self.out.registers.items()}
        end = self._fresh("return")
        frame = Frame(f"{function.name}/", end)
        for variable in function.params + function.results:
            frame.scopes[0][variable.name] = Symbol(variable.name, "frame", routine.places[variable.name],
                                                   variable.space == "param")
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
                result.append(self._frame_address(item, ins, LOCAL_WINDOW if item.formal else 0))
            else:
                result.append(item)
        return opcode, tuple(result)

    def _frame_address(self, symbol: Symbol, ins: Instruction, window: int = 0) -> Reg:
        match = isa.TABLE.find("add.u64")
        assert match is not None
        assert self.link is not None
        address = self._temporary(64, f"address of {symbol.name}")
        offset = Const(symbol.address + window)
        self._emit(Op("add.u64", *match, (address, self.link[0], offset), None, ins.line, self.source))
        return address

    def _bind_argument(self, formal: Variable, actual: Resolved, ins: Instruction) -> Resolved:
        if isinstance(actual, Symbol):
            return replace(actual, formal=formal.space == "param")
        if formal.space == "reg":
            return actual
        raise self.error(f"argument {formal.name!r} must be a .param variable", ins.line)


def _take_group(operands: list[Operand]) -> tuple[Operand, ...]:
    """Remove a leading parenthesised list."""
    if operands and isinstance(operands[0], Group):
        items = operands[0].items
        del operands[0]
        return items
    return ()
