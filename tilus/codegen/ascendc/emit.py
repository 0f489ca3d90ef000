"""Prints programs of cores as Ascend C."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from tilus.codegen.ascendc.prelude import HEAD, prelude
from tilus.codegen.ascendc.scalars import expression, type_name
from tilus.diagnostics import UnsupportedError
from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.ops import Const, For, If, PtrAdd, PtrLoad, While
from tilus.ir.ops.cores import (
    Call,
    CrossSet,
    CrossWait,
    Local,
    NextTurn,
    Part,
    PipeBarrier,
    Queue,
    QueueStep,
    ReadScalar,
    SetFlag,
    Side,
    Turn,
    WaitFlag,
    local_type,
)
from tilus.ir.rewriter import count_uses
from tilus.ir.types import PointerType
from tilus.targets.ascend import LIBRARY_RESERVED, is_library_call

INDENT = "    "
WIDTH = 120
POSITIONS = {"ub": "VECCALC", "l1": "A1", "l0a": "A2", "l0b": "B2", "l0c": "CO1"}
RESERVED = frozenset((
    "alignas", "auto", "bool", "break", "case", "char", "class", "const", "continue", "default", "delete",
    "do", "double", "else", "enum", "extern", "false", "float", "for", "goto", "half", "if", "inline", "int",
    "long", "namespace", "new", "operator", "private", "public", "register", "return", "short", "signed",
    "sizeof", "static", "struct", "switch", "template", "this", "true", "typedef", "union", "unsigned",
    "using", "void", "volatile", "while"))


def emit_module(module: Module) -> str:
    """All kernels of a module in one file."""
    bodies = [_Kernel(kernel).text() for kernel in module.kernels]
    return HEAD + prelude("\n".join(bodies)) + "".join(f"\n{body}" for body in bodies)


def emit_kernel(kernel: Function) -> str:
    """One kernel as a file of its own."""
    body = _Kernel(kernel).text()
    return f"{HEAD}{prelude(body)}\n{body}"


class _Kernel:
    def __init__(self, kernel: Function) -> None:
        self.kernel = kernel
        self.lines: list[str] = []
        self.depth = 1
        self.texts: dict[Value, str] = {}
        self.taken: Counter[str] = Counter()
        self.uses = count_uses(kernel)
        self.homes: dict[Value, Block] = {}
        self.users: dict[Value, Block] = {}
        self.queues: dict[int, str] = {}
        self.events: dict[tuple[str, int], str] = {}
        _find_homes(kernel.body, self.homes, self.users)

    def text(self) -> str:
        kernel = self.kernel
        arguments, arrays = [], []
        for value in kernel.body.args:
            if isinstance(value.type, PointerType):
                name = self.fresh(value.name)
                arguments.append(f"GM_ADDR {name}Address")
                arrays.append((name, type_name(value.type.dtype)))
                self.texts[value] = name
            else:
                name = self.fresh(value.name)
                arguments.append(f"{type_name(value.tile.dtype)} {name}")
                self.texts[value] = name
        self.line(f"KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_{kernel.attributes.cores});")
        for name, element in arrays:
            self.line(f"GlobalTensor<{element}> {name};")
            self.line(f"{name}.SetGlobalBuffer((__gm__ {element}*){name}Address);")
        self.program(kernel.body)
        head = f'extern "C" __global__ __aicore__ void {kernel.name}('
        width = WIDTH - len(INDENT) * 2
        return f"{_wrapped(head, arguments, width)}) {{\n" + "\n".join(self.lines) + "\n}\n"

    # -- names

    def fresh(self, stem: str) -> str:
        if not stem.isidentifier():
            stem = "v"
        elif stem in RESERVED:
            stem += "_"
        self.taken[stem] += 1
        return stem if self.taken[stem] == 1 and stem != "v" else self.fresh(f"{stem}{self.taken[stem]}")

    def line(self, text: str) -> None:
        self.lines += _broken(f"{INDENT * self.depth}{text}", INDENT * (self.depth + 2))

    # -- programs

    def program(self, block: Block) -> None:
        sides = [op for op in block.ops if isinstance(op, Side)]
        if not sides:
            self.cores(block)
            return
        self.block([op for op in block.ops[:-1] if not isinstance(op, Side)])
        for side in sides:
            self.line(f"if ASCEND_IS_AI{'C' if side.kind == 'cube' else 'V'} {{")
            self.depth += 1
            self.cores(side.body)
            self.depth -= 1
            self.line("}")

    def cores(self, block: Block) -> None:
        """What one kind of core does: its tensors, then its calls."""
        library = any(isinstance(op, Call) and is_library_call(op.form) for op in block.walk())
        queues = [op for op in block.ops if isinstance(op, Queue)]
        locals_ = [op for op in block.walk() if isinstance(op, Local) and op.queue < 0]
        self.events = {}
        begin = None
        if library or queues:
            self.line("TPipe pipe;")
            begin = self.buffers(block, queues, locals_, library)
        else:
            self.line("InitSocState();")
        for local in locals_:
            self.local(local, begin)
        if queues:
            self.name_events(block)
        self.block(block.ops[:-1])
        self.line("PipeBarrier<PIPE_ALL>();")
        for (pipes, _), name in self.events.items():
            self.line(f"pipe.ReleaseEventID<HardEvent::{pipes}>({name});")

    def buffers(self, block: Block, queues: Sequence[Queue], locals_: Sequence[Local], library: bool) -> int:
        """The queues, and a buffer for the tensors of none; where that begins."""
        names = {op.queue: f"{op.result.name or 't'}Queue" for op in block.walk() if isinstance(op, Local)}
        for queue in queues:
            position = "VECIN" if queue.target == "V" else "VECOUT"
            name = self.queues[queue.number] = self.fresh(names[queue.number])
            self.line(f"TQue<TPosition::{position}, 1> {name};")
            self.line(f"pipe.InitBuffer({name}, {queue.slots}, {queue.bytes});")
        begin = sum(queue.slots * queue.bytes for queue in queues)
        end = LIBRARY_RESERVED if library else max((op.address + local_type(op.result).bytes for op in locals_),
                                                   default=begin)
        if end > begin:
            self.line("TBuf<TPosition::VECCALC> buffer;")
            self.line(f"pipe.InitBuffer(buffer, {end - begin});")
        return begin

    def name_events(self, block: Block) -> None:
        """Flags between pipes besides those of queues."""
        found = {(f"{op.source}_{op.target}", op.number) for op in block.walk() if isinstance(op, (SetFlag, WaitFlag))}
        for pipes, number in sorted(found):
            source, target = (pipe.capitalize() for pipe in pipes.split("_"))
            name = self.events[pipes, number] = self.fresh(f"{source[0].lower()}{source[1:]}{target}")
            self.line(f"const TEventID {name} = pipe.AllocEventID<HardEvent::{pipes}>();")

    def local(self, op: Local, begin: int | None) -> None:
        """A tensor at an address, or in the buffer that begins at one."""
        type_ = local_type(op.result)
        element = "uint8_t" if op.dtype.packed_bits < 8 else type_name(op.dtype)
        name = self.texts[op.result] = self.fresh(op.result.name or "t")
        if begin is not None:
            at = (op.address - begin) * 8 // max(op.dtype.packed_bits, 8)
            self.line(f"LocalTensor<{element}> {name} = buffer.Get<{element}>(){f'[{at}]' if at else ''};")
        else:
            self.line(f"LocalTensor<{element}> {name}(TPosition::{POSITIONS[op.memory]}, {op.address}, "
                      f"{type_.size * op.slots});")

    def block(self, ops: Sequence[Operation]) -> None:
        for op in ops:
            self.operation(op)

    def operation(self, op: Operation) -> None:
        printer = PRINTERS.get(type(op))
        if printer is not None:
            printer(self, op)
            return
        text = expression(op, lambda n: self.operand(op.operands[n]))
        if text is None:
            raise UnsupportedError.at("E0507", f"{op.NAME} of scalars is not printed for this target", op.span)
        result = op.results[0]
        if isinstance(op, Const) or (self.uses[result] == 1 and self.users.get(result) is self.homes[result]):
            self.texts[result] = text
        elif self.uses[result]:
            self.declare(result, text)

    def declare(self, value: Value, text: str) -> str:
        name = self.texts[value] = self.fresh(value.name)
        self.line(f"const {type_name(value.tile.dtype)} {name} = {text};")
        return name

    def operand(self, value: Value) -> str:
        """The text of a scalar as an operand: in parentheses where it is more than a name or a call."""
        text = self.texts[value]
        return text if _is_atom(text) else f"({text})"

    def tensor(self, value: Value) -> str:
        """The text of a tensor, a part of one, or a place in global memory."""
        found = self.texts.get(value)
        op = value.defining
        if found is not None:
            turns = isinstance(op, Local) and op.turn is not None
            return f"{found}[{self.texts[op.turn]} * {op.size}]" if turns else found  # type: ignore[union-attr]
        if isinstance(op, PtrAdd):
            offset = _sum(self.texts[op.offset] if op.offset is not None else "", op.constant)
            return f"{self.tensor(op.pointer)}[{offset}]"
        assert isinstance(op, Part)
        base = self.tensor(op.tensor)
        if op.dtype is not local_type(op.tensor).dtype:
            base += f".ReinterpretCast<{type_name(op.dtype)}>()"
        if op.offset is None and op.start == 0:
            return base
        return f"{base}[{_sum(self.texts[op.offset] if op.offset is not None else '', op.start)}]"


def _broken(text: str, indent: str) -> list[str]:
    """A statement in lines of the file's width, which end behind commas."""
    lines = []
    while len(text) > WIDTH and (at := text.rfind(", ", len(indent), WIDTH)) > 0:
        lines.append(text[:at + 1])
        text = indent + text[at + 2:]
    return [*lines, text]


def _sum(text: str, constant: int) -> str:
    if not text:
        return str(constant)
    return f"{text} + {constant}" if constant else text


def _is_atom(text: str) -> bool:
    if text.replace("_", "a").isalnum() or (text[0] == "-" and text[1:].isdigit()):
        return True
    depth = 0
    for n, char in enumerate(text):
        depth += char in "(<" and (n == 0 or text[n - 1] != " ")
        depth -= char in ")>" and depth > 0
        if char == " " and depth == 0:
            return False
    return not text.startswith(("-", "!", "~"))


def _wrapped(head: str, parts: Sequence[str], width: int) -> str:
    lines, line = [], head
    for n, part in enumerate(parts):
        piece = part + (", " if n + 1 < len(parts) else "")
        if len(line) + len(piece) > width and line != head:
            lines.append(line.rstrip())
            line = INDENT * 2
        line += piece
    return "\n".join([*lines, line])


def _find_homes(block: Block, homes: dict[Value, Block], users: dict[Value, Block]) -> None:
    """In which block each value is made, and in which it is used last."""
    for op in block.ops:
        for value in op.operands:
            users[value] = block
        for result in op.results:
            homes[result] = block
        for region in op.regions:
            _find_homes(region, homes, users)


# -- operations


def _nothing(printer: _Kernel, op: Operation) -> None:
    """Printed where it is used."""


def _call(printer: _Kernel, op: Call) -> None:
    tensors = [printer.tensor(t) for t in op.tensors]
    scalars = {f"s{n}": printer.texts[s] for n, s in enumerate(op.scalars)}
    printer.line(f"{op.form.format(*tensors, **scalars)};")


def _flag(word: str) -> Callable[[_Kernel, SetFlag | WaitFlag], None]:
    def write(printer: _Kernel, op: SetFlag | WaitFlag) -> None:
        number = printer.events.get((f"{op.source}_{op.target}", op.number), str(op.number))
        if op.slot is not None:
            turn = printer.texts[op.slot]
            number = f"{op.number} + {turn}" if op.number else turn
        printer.line(f"{word}<HardEvent::{op.source}_{op.target}>({number});")

    return write


def _queue_step(printer: _Kernel, op: QueueStep) -> None:
    queue, type_ = printer.queues[op.queue], local_type(op.tensor)
    element = "uint8_t" if type_.dtype.packed_bits < 8 else type_name(type_.dtype)
    if op.kind == "AllocTensor":
        name = printer.texts[op.tensor] = printer.fresh(op.tensor.name or "t")
        printer.line(f"LocalTensor<{element}> {name} = {queue}.AllocTensor<{element}>();")
    elif op.kind == "DeQue":
        printer.line(f"{printer.texts[op.tensor]} = {queue}.DeQue<{element}>();")
    else:
        printer.line(f"{queue}.{op.kind}({printer.texts[op.tensor]});")


def _barrier(printer: _Kernel, op: PipeBarrier) -> None:
    printer.line(f"PipeBarrier<PIPE_{op.pipe}>();")


def _cross_set(printer: _Kernel, op: CrossSet) -> None:
    printer.line(f"CrossCoreSetFlag<2, PIPE_{op.pipe}>({_numbered(printer, op)});")


def _cross_wait(printer: _Kernel, op: CrossWait) -> None:
    printer.line(f"CrossCoreWaitFlag<2, PIPE_{op.pipe}>({_numbered(printer, op)});")


def _numbered(printer: _Kernel, op: CrossSet | CrossWait) -> str:
    return str(op.number) if op.slot is None else _sum(printer.texts[op.slot], op.number)


def _turn(printer: _Kernel, op: Turn) -> None:
    name = printer.texts[op.result] = printer.fresh("turn")
    printer.line(f"uint32_t {name} = 0;")


def _next_turn(printer: _Kernel, op: NextTurn) -> None:
    name = printer.texts[op.turn]
    printer.line(f"{name} = 1 - {name};" if op.slots == 2 else f"{name} = {name} + 1 == {op.slots} ? 0 : {name} + 1;")


def _read_scalar(printer: _Kernel, op: ReadScalar) -> None:
    printer.declare(op.result, f"{printer.tensor(op.tensor)}.GetValue(0)")


def _load(printer: _Kernel, op: PtrLoad) -> None:
    pointer = op.pointer.defining
    if isinstance(pointer, PtrAdd):
        base, offset = printer.tensor(pointer.pointer), _sum(
            printer.texts[pointer.offset] if pointer.offset is not None else "", pointer.constant)
    else:
        base, offset = printer.tensor(op.pointer), "0"
    printer.declare(op.result, f"{base}.GetValue({offset})")


def _for(printer: _Kernel, op: For) -> None:
    carried = _variables(printer, op.results, op.init)
    index = printer.texts[op.index] = printer.fresh(op.index.name or "i")
    start, step = printer.texts[op.start], printer.texts[op.step]
    sign = "<"
    if isinstance(op.step.defining, Const) and op.step.defining.value < 0:
        sign = ">"
    advance = f"++{index}" if step == "1" else f"{index} += {step}"
    printer.line(f"for ({type_name(op.index.tile.dtype)} {index} = {start}; {index} {sign} {printer.operand(op.stop)}; "
                 f"{advance}) {{")
    printer.texts.update(zip(op.carried, carried, strict=True))
    _body(printer, op.body, carried)
    printer.line("}")
    printer.texts.update(zip(op.results, carried, strict=True))


def _variables(printer: _Kernel, results: Sequence[Value], init: Sequence[Value]) -> list[str]:
    names = []
    for result, value in zip(results, init, strict=True):
        name = printer.fresh(result.name)
        printer.line(f"{type_name(result.tile.dtype)} {name} = {printer.texts[value]};")
        names.append(name)
    return names


def _body(printer: _Kernel, block: Block, variables: Sequence[str]) -> None:
    printer.depth += 1
    printer.block(block.ops[:-1])
    _assign(printer, block.terminator.operands, variables)
    printer.depth -= 1


def _assign(printer: _Kernel, values: Sequence[Value], variables: Sequence[str]) -> None:
    texts = [printer.texts[v] for v in values]
    if len(texts) > 1:  # all at once
        held = []
        for value, text in zip(values, texts, strict=True):
            name = printer.fresh("next")
            printer.line(f"const {type_name(value.tile.dtype)} {name} = {text};")
            held.append(name)
        texts = held
    for name, text in zip(variables, texts, strict=True):
        if name != text:
            printer.line(f"{name} = {text};")


def _if(printer: _Kernel, op: If) -> None:
    names = []
    for result in op.results:
        name = printer.texts[result] = printer.fresh(result.name)
        printer.line(f"{type_name(result.tile.dtype)} {name};")
        names.append(name)
    printer.line(f"if ({printer.texts[op.condition]}) {{")
    _body(printer, op.then, names)
    if len(op.orelse.ops) > 1 or names:
        printer.line("} else {")
        _body(printer, op.orelse, names)
    printer.line("}")


def _while(printer: _Kernel, op: While) -> None:
    carried = _variables(printer, op.results, op.init)
    for args in (op.before.args, op.body.args):
        printer.texts.update(zip(args, carried, strict=True))
    printer.line("for (;;) {")
    printer.depth += 1
    printer.block(op.before.ops[:-1])
    printer.line(f"if (!{printer.operand(op.before.terminator.operands[0])}) {{ break; }}")
    printer.depth -= 1
    _body(printer, op.body, carried)
    printer.line("}")
    printer.texts.update(zip(op.results, carried, strict=True))


PRINTERS: dict[type[Operation], Callable[..., None]] = {
    Local: _nothing, Queue: _nothing, QueueStep: _queue_step, Part: _nothing, PtrAdd: _nothing, Call: _call,
    SetFlag: _flag("SetFlag"), WaitFlag: _flag("WaitFlag"), PipeBarrier: _barrier, CrossSet: _cross_set,
    CrossWait: _cross_wait, Turn: _turn, NextTurn: _next_turn, ReadScalar: _read_scalar, PtrLoad: _load, For: _for,
    If: _if, While: _while,
}
