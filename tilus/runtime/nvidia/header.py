"""A C header that loads a cubin and launches its kernel through the CUDA driver, grid and workspaces included."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tilus.diagnostics import UnsupportedError
from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType, parse_dtype
from tilus.ir.names import C_WORDS, DEVICE_NAMES, c_name
from tilus.ir.ops import (
    Binary,
    Cast,
    Compare,
    Const,
    DeviceAssert,
    Dim,
    Launch,
    ResidentBlocks,
    Select,
    Stride,
    Unary,
    Workspace,
    Yield,
)
from tilus.ir.prepacked import parse_format
from tilus.ir.types import ViewType
from tilus.runtime.arguments import WORD_BYTES
from tilus.runtime.nvidia.header_checks import Checks, helpers
from tilus.targets.grid import MAX_OTHER_EXTENT

if TYPE_CHECKING:
    from tilus.runtime.nvidia.kernel import CompiledKernel, KernelArgument

_TYPES = {"f32": "float", "f64": "double", "bool": "bool", "f16": "uint16_t", "bf16": "uint16_t"}
_OPERATORS = {"add": "+", "sub": "-", "mul": "*", "and": "&", "or": "|", "xor": "^", "div": "/"}
_OWN_NAMES = ("kernel", "load", "launch", "floordiv", "stream", "status", "arguments", "grid", "blocks", "groups")
_MACRO = re.compile(r"__.*|_[A-Z].*|CU\w+|cu[A-Z]\w*|U?INT\w*_(C|MAX|MIN)|U?INT(MAX|PTR)\w*"
                    r"|(PTRDIFF|SIG_ATOMIC|SIZE|WCHAR|WINT)_\w*|u?int\w*_t|(size|wchar|ptrdiff)_t")
"""What <cuda.h>, <stdbool.h>, <stdint.h> and the headers that those read may define."""
_COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}

_HEAD = """\
/* {name} for {target}, compiled by tilus. Arrays are device pointers; strides count elements;
   f16 and bf16 numbers are passed as their bits. Every function gives a CUresult; link with -lcuda.
   {name}_launch gives CUDA_ERROR_INVALID_VALUE, and launches nothing, for arrays that are not what the
   cubin was compiled for (see the checks at its beginning). What it cannot see is up to the caller: that the arrays
   lie where they say, and that no array which the kernel writes overlaps another one. */
#pragma once
#include <cuda.h>
#include <stdbool.h>
#include <stdint.h>

static inline int64_t {name}_floordiv(int64_t a, int64_t b) {{
  if (b == 0) return 0;
  int64_t q = a / b;
  return q - ((a % b != 0) && ((a < 0) != (b < 0)));
}}

{helpers}
typedef struct {{ CUmodule module; CUfunction function; }} {name}_kernel;

/* Loads the cubin file; the context must be current. */
static inline CUresult {name}_load({name}_kernel *kernel, const char *path /* {file} */) {{
  CUresult status = cuModuleLoad(&kernel->module, path);
  if (status == CUDA_SUCCESS) status = cuModuleGetFunction(&kernel->function, kernel->module, "{name}");
  if (status == CUDA_SUCCESS && {shared} > 48 * 1024)
    status = cuFuncSetAttribute(kernel->function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, {shared});
  return status;
}}
"""


def c_type(dtype: DType) -> str:
    if dtype.name in _TYPES:
        return _TYPES[dtype.name]
    return f"{'' if dtype.kind == 'int' else 'u'}int{dtype.bits}_t"


def c_header(compiled: CompiledKernel, file: str) -> str:
    """The header for a compiled kernel whose cubin is called ``file``. Raises UnsupportedError for several kernels."""
    if len(compiled.metadata["kernels"]) > 1:
        raise UnsupportedError.at("E0507", f"{compiled.name} is several kernels, which the C header does not launch",
                                  help="write another stage: --emit cuda, ptx or sass")
    writer = _Writer(compiled)
    name = compiled.metadata["kernel"]
    head = _HEAD.format(name=name, target=compiled.target, file=file, helpers=helpers(name),
                        shared=compiled.metadata["dynamic_shared_bytes"])
    return head + "\n" + writer.text() + "\n"


class _Writer:
    def __init__(self, compiled: CompiledKernel) -> None:
        self.compiled = compiled
        module = compiled.launch_module
        assert module.launch is not None
        self.launch = module.launch
        self.kernel = module.kernels[0]
        self.names: dict[Value, str] = {}
        self.workspaces: list[str] = []
        self.shapes: dict[str, list[str]] = {}  # of workspaces

    def text(self) -> str:
        name = self.kernel.name
        structs, parameters = [], [f"{name}_kernel *kernel", "CUstream stream"]
        arrays = []
        for value, parameter in zip(self.launch.body.args, self.launch.parameters, strict=True):
            self.names[value] = self.parameter_name(value.name)
            if isinstance(value.type, ViewType):
                arrays.append((self.names[value], parameter, value.type.dtype))
            if isinstance(value.type, ViewType):
                rank = value.type.rank
                fields = "CUdeviceptr data;" + (f" int64_t shape[{rank}]; int64_t strides[{rank}];" if rank else "")
                structs.append(f"typedef struct {{ {fields} }} {name}_{self.names[value]};")
                parameters.append(f"{name}_{self.names[value]} {self.names[value]}")
            else:
                parameters.append(f"{c_type(value.tile.dtype)} {self.names[value]}")
        body = Checks(name, arrays, self.compiled.specialisation.constants).lines()
        for op in self.launch.body.ops:
            if not isinstance(op, Yield):
                body += self.statement(op)
        body += ["return status;"]
        lines = ["static inline CUresult " + f"{name}_launch({', '.join(parameters)}) {{",
                 "  CUresult status = CUDA_SUCCESS;", *(f"  {line}" for line in body), "}"]
        formats = [line for value in self.launch.body.args for line in self.format(value)]
        return "\n".join([*structs, *formats, "", "/* Enqueues a launch on the stream. */", *lines])

    def parameter_name(self, name: str) -> str:
        """A parameter's name, unless C, its headers or the launch function use it for something else."""
        spelled = c_name(name)
        own = spelled in _OWN_NAMES or re.fullmatch(r"(v|argument|workspace)\d+", spelled)
        if own or spelled in DEVICE_NAMES or spelled in C_WORDS or _MACRO.fullmatch(spelled):
            spelled = f"{spelled}_"
        while spelled in self.names.values():
            spelled = f"{spelled}_"
        return spelled

    def format(self, value: Value) -> list[str]:
        """What a caller has to know of a prepacked array: its format as text, and how many bytes it has."""
        text = self.compiled.formats.get(value.name or "")
        if text is None:
            return []
        format, name = parse_format(text), f"{self.kernel.name}_{self.names[value]}"
        *leading, k, n = (f"shape[{d}]" for d in range(value.view.rank))
        rows, columns = format.tile
        tiles = [*leading, f"(({k} + {rows - 1}) / {rows})", f"(({n} + {columns - 1}) / {columns})"]
        return [
            "", f"/* {value.name} is prepacked: {format.describe()}.",
            "   Its shape and strides are those of the array row by row. Its bytes are what `tilus prepack` makes for",
            f"   this format, or tl.prepack(weights, format=text); {name}_bytes says how many. */",
            f"static const char {name}_format[] = {json.dumps(text)};",
            f"static inline int64_t {name}_bytes(const int64_t *shape) {{",
            f"  return {' * '.join(tiles)} * {format.tile_bytes};", "}",
        ]

    def statement(self, op: Operation) -> list[str]:
        if isinstance(op, Launch):
            return self.start(op)
        if isinstance(op, Workspace):
            return self.workspace(op)
        if isinstance(op, DeviceAssert):
            return [(f"if (!({self.names[op.condition]})) return CUDA_ERROR_INVALID_VALUE; "
                    f"/* {(op.message or 'an assertion').replace('*/', '* /')} */")]
        result = op.result
        self.names[result] = f"v{len(self.names)}"
        return [f"{c_type(result.tile.dtype)} {self.names[result]} = {self.expression(op)};"]

    def expression(self, op: Operation) -> str:
        n = self.names
        if isinstance(op, Const):
            return str(op.value).lower()
        if isinstance(op, Dim):
            return f"{n[op.view]}.shape[{op.axis}]"
        if isinstance(op, Stride):
            return f"{n[op.view]}.strides[{op.axis}]"
        if isinstance(op, Compare):
            return f"{n[op.lhs]} {_COMPARE[op.kind]} {n[op.rhs]}"
        if isinstance(op, Select):
            return f"{n[op.condition]} ? {n[op.x]} : {n[op.y]}"
        if isinstance(op, Cast):
            return f"({c_type(op.dtype)}){n[op.x]}"
        if isinstance(op, Unary) and op.kind in ("neg", "not"):
            return f"{'-' if op.kind == 'neg' else '~' if not op.x.tile.dtype.is_bool else '!'}{n[op.x]}"
        if isinstance(op, Binary):
            a, b = n[op.lhs], n[op.rhs]
            if op.kind in _OPERATORS:
                return f"{a} {_OPERATORS[op.kind]} {b}"
            if op.kind in ("min", "max"):
                return f"{a} {'<' if op.kind == 'min' else '>'} {b} ? {a} : {b}"
            division = f"{self.kernel.name}_floordiv({a}, {b})"
            if op.kind == "floordiv":
                return division
            if op.kind == "mod":
                return f"{a} - {division} * {b}"
        if isinstance(op, ResidentBlocks):
            return str(self.resident())
        raise UnsupportedError.at("E0507", f"{op.NAME} in a launch function has no form in C", op.span)

    def resident(self) -> int:
        from tilus.targets import get_target

        m, target = self.compiled.metadata, get_target(self.compiled.target)
        return target.sm_count * target.resident_blocks(m["threads"], m["registers"], m["dynamic_shared_bytes"])

    def workspace(self, op: Workspace) -> list[str]:
        name = f"workspace{len(self.workspaces)}"
        self.workspaces.append(name)
        self.names[op.result] = name
        extents = [self.names[e] for e in op.extents]
        bits, count = op.dtype.packed_bits, " * ".join(extents) or "1"
        # elements that fill no bytes are stored by atomics on words
        size = f"{count} * {bits // 8}" if bits % 8 == 0 else f"({count} * {bits} + 31) / 32 * {WORD_BYTES}"
        lines = [f"CUdeviceptr {name} = 0;",
                 f"if (status == CUDA_SUCCESS && {size} > 0) status = cuMemAllocAsync(&{name}, {size}, stream);"]
        if op.zero:
            lines.append(f"if (status == CUDA_SUCCESS && {size} > 0) "
                         f"status = cuMemsetD8Async({name}, 0, {size}, stream);")
        self.shapes[name] = extents
        return lines

    def start(self, op: Launch) -> list[str]:
        lines, arguments = self.grid(op), []
        for i, argument in enumerate(self.compiled.arguments):
            text, type_ = self.argument(op, argument)
            lines.append(f"{type_} argument{i} = ({type_})({text});")
            arguments.append(f"&argument{i}")
        m = self.compiled.metadata
        lines.append(f"void *arguments[] = {{{', '.join(arguments)}}};")
        call = "cuLaunchCooperativeKernel" if m["cooperative"] else "cuLaunchKernel"
        tail = "arguments" if m["cooperative"] else "arguments, NULL"
        blocks = ", ".join(f"(unsigned)blocks[{d}]" for d in range(3))
        lines.append("if (status == CUDA_SUCCESS && grid[0] > 0 && grid[1] > 0 && grid[2] > 0)")
        lines.append(f"  status = {call}(kernel->function, {blocks}, {m['threads']}, 1, 1, "
                     f"{m['dynamic_shared_bytes']}, stream, {tail});")
        lines += [f"if ({w}) cuMemFreeAsync({w}, stream);" for w in self.workspaces]
        return lines

    def grid(self, op: Launch) -> list[str]:
        """The kernel's grid and the blocks to launch for it: ``launched_grid`` of ``schedule/raster.py`` in C."""
        extents = ([self.names[g] for g in op.grid] + ["1", "1"])[:3]
        lines = [f"int64_t grid[3] = {{{', '.join(extents)}}}, blocks[3] = {{{', '.join(extents)}}};"]
        raster = self.compiled.metadata["raster"]
        if raster:
            lines += [
                f"int64_t groups = (grid[0] + {raster - 1}) / {raster};",
                f"if (grid[2] > 0 && groups > {MAX_OTHER_EXTENT} / grid[2]) groups = {MAX_OTHER_EXTENT} / grid[2];",
                "if (groups < 1) groups = 1;",
                "blocks[0] = (grid[0] + groups - 1) / groups;",
                "if (blocks[0] > 0) groups = (grid[0] + blocks[0] - 1) / blocks[0];",
                "blocks[2] = groups * grid[2];",
            ]
        return lines

    def argument(self, op: Launch, argument: KernelArgument) -> tuple[str, str]:
        """An argument of the compiled kernel as an expression, and its C type."""
        if argument.name in ("grid.x", "grid.groups"):
            return "grid[0]" if argument.name == "grid.x" else "groups", "int32_t"
        base, _, rest = argument.name.partition(".")
        source = next(self.names[a] for p, a in zip(self.kernel.parameters, op.args, strict=True) if p.name == base)
        is_workspace = source in self.workspaces
        if argument.type == "pointer":
            return source if is_workspace else f"{source}.data", "CUdeviceptr"
        type_ = c_type(parse_dtype(argument.type))
        if rest and is_workspace:
            axis = int(rest[rest.index("[") + 1 : -1])
            extents = self.shapes[source]
            return extents[axis] if rest.startswith("shape") else " * ".join(extents[axis + 1 :]) or "1", type_
        return f"{source}.{rest}" if rest else source, type_
