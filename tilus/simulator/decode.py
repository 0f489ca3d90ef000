"""Resolves the names of one entry function and flattens its calls: syntax tree to a list of operations.

Device functions are inlined at their call sites, each call with registers and local variables of its own; recursive
functions follow the kernel, each once, and calls of them push a frame. The result is one flat list of operations.
"""

from __future__ import annotations

from tilus.diagnostics import UserError
from tilus.simulator import isa
from tilus.simulator.decode_calls import MAX_CALL_DEPTH, Calls
from tilus.simulator.decode_names import Frame, align
from tilus.simulator.resolved import Decoded, Op, Place, Reg, Symbol
from tilus.simulator.syntax import Instruction, Label, Location, Module, Name, Scope, Statement

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


class _Decoder(Calls):
    """Walks the statements of the entry and of the functions that it calls."""

    def run(self) -> Decoded:
        offset = 0
        frame = Frame("", "exit")
        for param in self.entry.params:
            offset = align(offset, param.align)
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

    def _body(self, body: list[Statement], frame: Frame) -> None:
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

    def _instruction(self, ins: Instruction, frame: Frame) -> None:
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

    def _flow(self, ins: Instruction, family: str, predicate: Reg | None, frame: Frame) -> None:
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

    def _brx(self, ins: Instruction, predicate: Reg | None, frame: Frame) -> None:
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
