"""A function's text in the making: lines, names, basic blocks, and the declarations that it needs."""

from __future__ import annotations

from tilus.codegen.llvm.types import TypeSpeller
from tilus.ir.dtypes import DType


def quoted(data: bytes) -> str:
    """A string of LLVM's assembly: bytes outside of printable ASCII are hexadecimal escapes."""
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in (34, 92) else f"\\{b:02X}" for b in data) + '"'


class ModuleText:
    """Declarations and definitions of one LLVM module, each once."""

    def __init__(self) -> None:
        self.declarations: dict[str, str] = {}
        self.definitions: list[str] = []
        self.strings: dict[str, str] = {}
        self.metadata: dict[str, str] = {}
        self.defined: set[str] = set()

    def node(self, text: str) -> str:
        """The number of a metadata node; equal texts share one."""
        found = self.metadata.get(text)
        if found is None:
            found = self.metadata[text] = f"!{len(self.metadata)}"
        return found

    def distinct_node(self, text: str) -> str:
        """A node of its own; ``$`` in its text stands for the node itself."""
        name = f"!{len(self.metadata)}"
        self.metadata[f"distinct {text.replace('$', name)}"] = name
        return name

    def rolled_loop(self) -> str:
        """What a branch back to a loop's head carries so that the loop is not unrolled, by LLVM or by ptxas."""
        disabled = self.node('!{!"llvm.loop.unroll.disable"}')
        return f", !llvm.loop {self.distinct_node(f'!{{$, {disabled}}}')}"

    def declare(self, name: str, text: str) -> None:
        self.declarations.setdefault(name, text)

    def string(self, value: str) -> str:
        """The name of a constant holding ``value`` in UTF-8 with a final zero byte."""
        found = self.strings.get(value)
        if found is None:
            found = self.strings[value] = f"@.str{len(self.strings)}"
            data = value.encode() + b"\0"
            self.definitions.append(f"{found} = private constant [{len(data)} x i8] c{quoted(data)}")
        return found

    def __str__(self) -> str:
        nodes = [f"{name} = {text}" for text, name in self.metadata.items()]
        return "\n".join([*self.declarations.values(), *self.definitions, *nodes]) + "\n"


class Emitter:
    """Appends instructions to the current basic block. Values are operand texts; ``place`` is the metadata that every
    instruction gets."""

    def __init__(self, module: ModuleText, types: TypeSpeller) -> None:
        self.module = module
        self.types = types
        self.lines: list[str] = []
        self.label = "entry"
        self.place = ""
        self._count = 0
        self._made_at: dict[str, str] = {}

    def fresh(self) -> str:
        self._count += 1
        return f"%v{self._count}"

    def op(self, text: str) -> str:
        """Emit an instruction with a result; gives its name."""
        self._count += 1
        name = f"%v{self._count}"
        self.lines.append(f"  {name} = {text}{self.place}")
        if self.place:
            self._made_at[name] = self.place
        return name

    def bitcast(self, name: str, source: str, target: str) -> str:
        """The same bits as another type. It belongs to the place where they were made: LLVM merges it with a load, and
        the load would move to the place of the cast."""
        if source == target:
            return name
        here, self.place = self.place, self._made_at.get(name, self.place)
        result = self.op(f"bitcast {source} {name} to {target}")
        self.place = here
        return result

    def do(self, text: str) -> None:
        """Emit an instruction without a result."""
        self.lines.append(f"  {text}{self.place}")

    def new_label(self, stem: str) -> str:
        self._count += 1
        return f"{stem}{self._count}"

    def start(self, label: str) -> None:
        """Begin a basic block."""
        self.lines.append(f"{label}:")
        self.label = label

    def reserve(self) -> int:
        """The position of a line to be filled in later."""
        self.lines.append("")
        return len(self.lines) - 1

    def intrinsic(self, name: str, result: str, arguments: list[tuple[str, str]]) -> str:
        """Call an intrinsic, its full mangled name given, on (type, operand) pairs."""
        kinds = ", ".join(t for t, _ in arguments)
        self.module.declare(name, f"declare {result} @{name}({kinds})")
        operands = ", ".join(f"{t} {v}" for t, v in arguments)
        if result == "void":
            self.do(f"call void @{name}({operands})")
            return ""
        return self.op(f"call {result} @{name}({operands})")

    def suffix(self, dtype: DType, count: int) -> str:
        """The mangling of a type in an intrinsic's name (``v8f32``)."""
        element = self.types.element(dtype)
        short = {"half": "f16", "bfloat": "bf16", "float": "f32", "double": "f64"}.get(element, element)
        return f"v{count}{short}" if count else short
