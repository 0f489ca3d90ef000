"""Inline PTX in LLVM IR: predicated accesses, asynchronous copies, matrices, shuffles, atomics, printing."""

from __future__ import annotations

from collections.abc import Sequence

from tilus.codegen.llvm.text import Emitter, ModuleText
from tilus.codegen.llvm.types import TypeSpeller
from tilus.codegen.ptx_names import PTX_SCOPES, mma_instruction, mma_types
from tilus.ir.dtypes import DType
from tilus.ir.ops.simt import Mma, PrintThread, PtrAtomic

_CONSTRAINTS = {
    "i1": "b",
    "i8": "h",
    "i16": "h",
    "half": "h",
    "bfloat": "h",
    "i32": "r",
    "float": "f",
    "i64": "l",
    "double": "d",
}
_WIDTHS = {
    "i8": "b8",
    "i16": "b16",
    "half": "b16",
    "bfloat": "b16",
    "i32": "b32",
    "float": "b32",
    "i64": "b64",
    "double": "b64",
}


def volatile(e: Emitter, text: str, inputs: Sequence[tuple[str, str, str]] = ()) -> None:
    """A statement with effects; ``inputs`` are (constraint, type, operand)."""
    constraints = ",".join([c for c, _, _ in inputs] + ["~{memory}"])
    operands = ", ".join(f"{t} {v}" for _, t, v in inputs)
    e.do(f'call void asm sideeffect "{text}", "{constraints}"({operands}) #0')


def _results(
    e: Emitter,
    text: str,
    outputs: Sequence[tuple[str, str]],
    inputs: Sequence[tuple[str, str, str]],
    *,
    effects: bool = True,
    memory: bool = True,
) -> list[str]:
    """A statement with results; ``outputs`` are (constraint, type)."""
    constraints = [f"={c}" for c, _ in outputs] + [c for c, _, _ in inputs] + (["~{memory}"] if memory else [])
    kind = outputs[0][1] if len(outputs) == 1 else "{ " + ", ".join(t for _, t in outputs) + " }"
    operands = ", ".join(f"{t} {v}" for _, t, v in inputs)
    side = "sideeffect " if effects else ""
    attribute = "#0" if effects else "#1"
    value = e.op(f'call {kind} asm {side}"{text}", "{",".join(constraints)}"({operands}) {attribute}')
    if len(outputs) == 1:
        return [value]
    return [e.op(f"extractvalue {kind} {value}, {i}") for i in range(len(outputs))]


def _pointer(types: TypeSpeller, space: str, address: str) -> tuple[str, str, str]:
    return ("r" if space == "shared" else "l", types.pointer(space), address)


def load(
    e: Emitter,
    types: TypeSpeller,
    word: str,
    words: int,
    address: str,
    space: str,
    predicate: str,
    other: list[str] | None,
    read_only: bool,
) -> list[str]:
    """A load under a predicate; where it is off the words are ``other``, or zeros."""
    kind = "i16" if word in ("i8", "half", "bfloat") else word
    outputs = [(_CONSTRAINTS[kind], kind)] * words
    inputs = [_pointer(types, space, address), ("b", "i1", predicate)]
    base = words
    moves = []
    move, zero = {
        "float": ("mov.f32", "0f00000000"),
        "double": ("mov.f64", "0d0000000000000000"),
    }.get(kind, (f"mov.{_WIDTHS[kind]}", "0"))
    for i in range(words):
        if other is None:
            moves.append(f"{move} ${i}, {zero};")
        else:
            inputs.append((_CONSTRAINTS[kind], kind, _as(e, other[i], word, kind)))
            moves.append(f"{move} ${i}, ${base + 2 + i};")
    suffix = "u8" if word == "i8" else _WIDTHS[word]
    vector = f".v{words}" if words > 1 else ""
    targets = "{" + ", ".join(f"${i}" for i in range(words)) + "}" if words > 1 else "$0"
    cache = ".nc" if read_only else ""
    text = f"{' '.join(moves)} @${base + 1} ld.{space}{cache}{vector}.{suffix} {targets}, [${base}];"
    # the results must not share registers with the inputs: the moves come first
    names = _results(e, text, [(f"&{c}", t) for c, t in outputs], inputs, effects=not read_only, memory=not read_only)
    return [_as(e, n, kind, word) for n in names]


def _as(e: Emitter, name: str, source: str, target: str) -> str:
    if source == target:
        return name
    if target == "i8":
        return e.op(f"trunc {source} {name} to i8")
    if source == "i8":
        return e.op(f"zext i8 {name} to {target}")
    return e.bitcast(name, source, target)


def store(
    e: Emitter, types: TypeSpeller, word: str, names: list[str], address: str, space: str, predicate: str
) -> None:
    """A store under a predicate."""
    kind = {"i8": "i16", "half": "i16", "bfloat": "i16", "float": "i32", "double": "i64"}.get(word, word)
    values = [(_CONSTRAINTS[kind], kind, _as(e, n, word, kind)) for n in names]
    suffix = "u8" if word == "i8" else _WIDTHS[word]
    vector = f".v{len(names)}" if len(names) > 1 else ""
    places = ", ".join(f"${2 + i}" for i in range(len(names)))
    operand = "{" + places + "}" if len(names) > 1 else places
    volatile(
        e,
        f"@$1 st.{space}{vector}.{suffix} [$0], {operand};",
        [_pointer(types, space, address), ("b", "i1", predicate), *values],
    )


def cp_async(e: Emitter, destination: str, source: str, size: int, predicate: str | None) -> None:
    cache = "cg" if size == 16 else "ca"
    inputs = [("r", "ptr addrspace(3)", destination), ("l", "ptr addrspace(1)", source)]
    if predicate is None:
        volatile(e, f"cp.async.{cache}.shared.global [$0], [$1], {size};", inputs)
        return
    ignored = e.op(f"xor i1 {predicate}, true")
    volatile(e, f"cp.async.{cache}.shared.global [$0], [$1], {size}, $2;", [*inputs, ("b", "i1", ignored)])


def pinned(e: Emitter, kind: str, pointer: str) -> str:
    """The same pointer, of unknown origin: LLVM would take a pointer that walks with a loop apart again."""
    return e.op(f'call {kind} asm "mov.b64 $0, $1;", "=l,l"({kind} {pointer}) #1')


def ldmatrix(e: Emitter, address: str, count: int, trans: bool) -> list[str]:
    dot = ".trans" if trans else ""
    targets = ", ".join(f"${i}" for i in range(count))
    text = f"ldmatrix.sync.aligned.m8n8.x{count}{dot}.shared.b16 {{{targets}}}, [${count}];"
    return _results(e, text, [("r", "i32")] * count, [("r", "ptr addrspace(3)", address)])


def stmatrix(e: Emitter, address: str, words: list[str], trans: bool) -> None:
    dot = ".trans" if trans else ""
    places = ", ".join(f"${i + 1}" for i in range(len(words)))
    text = f"stmatrix.sync.aligned.m8n8.x{len(words)}{dot}.shared.b16 [$0], {{{places}}};"
    volatile(e, text, [("r", "ptr addrspace(3)", address), *(("r", "i32", word) for word in words)])


def mma(e: Emitter, op: Mma, a: list[str], b: list[str], c: list[str]) -> list[str]:
    """mma.sync; the operands are 32-bit words (doubles for f64)."""
    types = mma_types(op)
    operand = ("d", "double") if types[0] == "f64" else ("r", "i32")
    accumulator = {"f32": ("f", "float"), "f64": ("d", "double")}.get(types[2], ("r", "i32"))
    at = iter(range(100))
    groups = [", ".join(f"${next(at)}" for _ in part) for part in (c, a, b, c)]
    text = f"{mma_instruction(op)} {{{groups[0]}}}, {{{groups[1]}}}, {{{groups[2]}}}, {{{groups[3]}}};"
    inputs = [(operand[0], operand[1], x) for x in (*a, *b)] + [(accumulator[0], accumulator[1], x) for x in c]
    return _results(e, text, [accumulator] * len(c), inputs, effects=True, memory=False)


def shuffle(e: Emitter, mode: str, word: str, lane: str) -> str:
    clamp = "0" if mode == "up" else "31"
    name = f"llvm.nvvm.shfl.sync.{mode}.i32"
    return e.intrinsic(name, "i32", [("i32", "-1"), ("i32", word), ("i32", lane), ("i32", clamp)])


def approx_unary(e: Emitter, kind: str, x: str, ftz: bool) -> str:
    text = f"{kind}.approx{'.ftz' if ftz else ''}.f32 $0, $1;"
    return _results(e, text, [("f", "float")], [("f", "float", x)], effects=False, memory=False)[0]


def keep(e: Emitter, kind: str, value: str) -> str:
    """The value by way of an empty statement, which the compiler does not move."""
    constraint = _CONSTRAINTS[kind]
    return e.op(f'call {kind} asm sideeffect "", "={constraint},0"({kind} {value}) #0')


def bytes_to_f16(e: Emitter, name: str, pair: str) -> str:
    """Two 8-bit floats in an i16 as two f16."""
    text = f"cvt.rn.f16x2.{name}x2 $0, $1;"
    word = _results(e, text, [("r", "i32")], [("h", "i16", pair)], effects=False, memory=False)[0]
    return e.op(f"bitcast i32 {word} to <2 x half>")


def f32_to_bytes(e: Emitter, name: str, low: str, high: str) -> str:
    """Two f32 as 8-bit floats in an i16, to nearest even, saturating."""
    inputs = [("f", "float", high), ("f", "float", low)]
    return _results(e, f"cvt.rn.satfinite.{name}x2.f32 $0, $1, $2;", [("h", "i16")], inputs, effects=False,
                    memory=False)[0]


def round_to_bf16(e: Emitter, x: str) -> str:
    """To nearest even in integer arithmetic, for targets without the conversion."""
    bits = e.op(f"bitcast float {x} to i32")
    odd = e.op(f"and i32 {e.op(f'lshr i32 {bits}, 16')}, 1")
    biased = e.op(f"add i32 {e.op(f'add i32 {bits}, 32767')}, {odd}")
    nan = e.op(f"fcmp uno float {x}, {x}")
    high = e.op(f"trunc i32 {e.op(f'lshr i32 {biased}, 16')} to i16")
    chosen = e.op(f"select i1 {nan}, i16 32767, i16 {high}")
    return e.op(f"bitcast i16 {chosen} to bfloat")


def atomic(
    e: Emitter,
    types: TypeSpeller,
    op: PtrAtomic,
    dtype: DType,
    space: str,
    address: str,
    value: str,
    compare: str | None,
    predicate: str | None,
) -> str:
    """An atomic operation under a predicate; 0 where it is off."""
    ty = types.element(dtype)
    kind = {"exchange": "exch"}.get(op.kind, op.kind)
    if kind in ("and", "or", "xor", "exch", "cas"):
        suffix = f"b{dtype.bits}"
    elif dtype.is_float:
        suffix = dtype.name if dtype.bits > 16 else f"noftz.{dtype}"
    elif kind == "add":
        suffix = f"u{dtype.bits}" if dtype.bits == 64 or dtype.kind == "uint" else f"s{dtype.bits}"
    else:
        suffix = f"{'s' if dtype.kind == 'int' else 'u'}{dtype.bits}"
    word = (
        f"i{dtype.bits}" if suffix.startswith("b") and dtype.is_float else ("i16" if ty in ("half", "bfloat") else ty)
    )
    operands = [_as(e, v, ty, word) for v in ((value,) if compare is None else (compare, value))]
    inputs = [_pointer(types, space, address), *((_CONSTRAINTS[word], word, v) for v in operands)]
    places = ", ".join(f"${2 + i}" for i in range(len(operands)))
    text = f"atom.{op.order}.{PTX_SCOPES[op.scope]}.{space}.{kind}.{suffix} $0, [$1], {places};"
    if predicate is not None:
        inputs.append(("b", "i1", predicate))
        zero = {"float": "mov.f32 $0, 0f00000000;", "double": "mov.f64 $0, 0d0000000000000000;"}.get(
            word, f"mov.{_WIDTHS[word]} $0, 0;"
        )
        text = f"{zero} @${1 + len(inputs) - 1} {text}"
    name = _results(e, text, [(f"&{_CONSTRAINTS[word]}", word)], inputs)[0]
    return _as(e, name, word, ty)


def acquire_load(e: Emitter, types: TypeSpeller, dtype: DType, address: str, scope: str) -> str:
    ty = types.element(dtype)
    word = f"i{dtype.bits}"
    text = f"ld.acquire.{PTX_SCOPES[scope]}.global.b{dtype.bits} $0, [$1];"
    name = _results(e, text, [(_CONSTRAINTS[word], word)], [("l", "ptr addrspace(1)", address)])[0]
    return _as(e, name, word, ty)


def printf(e: Emitter, module: ModuleText, op: PrintThread, values: list[tuple[str, str]]) -> None:
    """A call of vprintf with the values in a local buffer of 8-byte slots."""
    pieces = op.format.replace("{{", "\0").replace("}}", "\1").split("{}")
    text = pieces[0].replace("%", "%%")
    for (kind, _), piece, operand in zip(values, pieces[1:], op.values, strict=True):
        code = "%g" if kind == "double" else ("%llu" if operand.tile.dtype.kind == "uint" else "%lld")
        text += code + piece.replace("%", "%%")
    text = text.replace("\0", "{").replace("\1", "}") + "\n"
    module.declare("vprintf", "declare i32 @vprintf(ptr, ptr)")
    buffer = e.op(f"alloca [{max(1, len(values))} x i64], align 8")
    for i, (kind, value) in enumerate(values):
        slot = e.op(f"getelementptr i64, ptr {buffer}, i32 {i}")
        e.do(f"store {kind} {value}, ptr {slot}, align 8")
    e.op(f"call i32 @vprintf(ptr {global_string(module, text)}, ptr {buffer})")


def global_string(module: ModuleText, text: str) -> str:
    """A pointer to constant text, as a generic address."""
    name = module.string(text)
    index = next(i for i, d in enumerate(module.definitions) if d.startswith(name + " "))
    module.definitions[index] = module.definitions[index].replace("private constant", "private addrspace(1) constant")
    size = len(text.encode()) + 1
    return f"addrspacecast (ptr addrspace(1) {name} to ptr)" if size else name


def philox(e: Emitter, seed: str, offset: str) -> list[str]:
    """Philox-4x32-10: the four words for one element."""

    def split(x: str) -> tuple[str, str]:
        return e.op(f"trunc i64 {x} to i32"), e.op(f"trunc i64 {e.op(f'lshr i64 {x}, 32')} to i32")

    def product(constant: int, x: str) -> tuple[str, str]:
        wide = e.op(f"mul i64 {e.op(f'zext i32 {x} to i64')}, {constant}")
        return e.op(f"trunc i64 {e.op(f'lshr i64 {wide}, 32')} to i32"), e.op(f"trunc i64 {wide} to i32")

    k0, k1 = split(seed)
    c0, c1 = split(offset)
    c2, c3 = "0", "0"
    for _ in range(10):
        h0, l0 = product(0xD2511F53, c0)
        h1, l1 = product(0xCD9E8D57, c2)
        n0 = e.op(f"xor i32 {e.op(f'xor i32 {h1}, {c1}')}, {k0}")
        n2 = e.op(f"xor i32 {e.op(f'xor i32 {h0}, {c3}')}, {k1}")
        c0, c1, c2, c3 = n0, l1, n2, l0
        k0, k1 = e.op(f"add i32 {k0}, {0x9E3779B9 - (1 << 32)}"), e.op(f"add i32 {k1}, {0xBB67AE85 - (1 << 32)}")
    return [c0, c1, c2, c3]
