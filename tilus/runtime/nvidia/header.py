"""A C header that loads a cubin and launches its kernel through the CUDA driver, grid and workspaces included."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilus.diagnostics import UnsupportedError
from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import parse_dtype
from tilus.ir.ops import DeviceAssert, Launch, ResidentBlocks, ShapedView, Workspace, Yield
from tilus.ir.types import ViewType
from tilus.runtime.arguments import WORD_BYTES
from tilus.runtime.header import c_type, format_lines, parameter_name, struct
from tilus.runtime.header_checks import Checks, helpers
from tilus.runtime.header_scalars import scalar_expression, workspace_bytes, workspace_number
from tilus.targets.grid import MAX_OTHER_EXTENT

if TYPE_CHECKING:
    from tilus.runtime.nvidia.kernel import CompiledKernel, KernelArgument

_OWN_NAMES = ("kernel", "load", "launch", "floordiv", "stream", "status", "arguments", "grid", "blocks", "groups")

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
        self.shapes: dict[str, list[str]] = {}  # of workspaces, and of views of other arrays

    def text(self) -> str:
        name = self.kernel.name
        structs, parameters = [], [f"{name}_kernel *kernel", "CUstream stream"]
        arrays = []
        for value, parameter in zip(self.launch.body.args, self.launch.parameters, strict=True):
            self.names[value] = parameter_name(value.name, self.names.values(), _OWN_NAMES)
            if isinstance(value.type, ViewType):
                arrays.append((self.names[value], parameter, value.type.dtype))
            if isinstance(value.type, ViewType):
                structs.append(struct(f"{name}_{self.names[value]}", "CUdeviceptr", value.type.rank))
                parameters.append(f"{name}_{self.names[value]} {self.names[value]}")
            else:
                parameters.append(f"{c_type(value.tile.dtype)} {self.names[value]}")
        checks = Checks(name, arrays, self.compiled.specialisation.constants, WORD_BYTES).found()
        body = [f"if ({condition}) return CUDA_ERROR_INVALID_VALUE; /* {why} */" for condition, why in checks]
        for op in self.launch.body.ops:
            if not isinstance(op, Yield):
                body += self.statement(op)
        body += ["return status;"]
        lines = ["static inline CUresult " + f"{name}_launch({', '.join(parameters)}) {{",
                 "  CUresult status = CUDA_SUCCESS;", *(f"  {line}" for line in body), "}"]
        formats = [line for value in self.launch.body.args for line in self.format(value)]
        return "\n".join([*structs, *formats, "", "/* Enqueues a launch on the stream. */", *lines])

    def format(self, value: Value) -> list[str]:
        text = self.compiled.formats.get(value.name or "")
        if text is None:
            return []
        return format_lines(value.name, f"{self.kernel.name}_{self.names[value]}", text, value.view.rank)

    def statement(self, op: Operation) -> list[str]:
        if isinstance(op, Launch):
            return self.start(op)
        if isinstance(op, Workspace):
            return self.workspace(op)
        if isinstance(op, ShapedView):
            base, name = self.names[op.view], f"view{len(self.names)}"
            self.names[op.result], self.shapes[name] = name, [self.names[e] for e in op.extents]
            return [f"CUdeviceptr {name} = {base if base in self.shapes else base + '.data'};"]
        if isinstance(op, DeviceAssert):
            return [(f"if (!({self.names[op.condition]})) return CUDA_ERROR_INVALID_VALUE; "
                    f"/* {(op.message or 'an assertion').replace('*/', '* /')} */")]
        result = op.result
        self.names[result] = f"v{len(self.names)}"
        return [f"{c_type(result.tile.dtype)} {self.names[result]} = {self.expression(op)};"]

    def expression(self, op: Operation) -> str:
        if isinstance(op, ResidentBlocks):
            return str(self.resident())
        return scalar_expression(op, self.names, self.kernel.name)

    def resident(self) -> int:
        from tilus.targets import get_target

        m, target = self.compiled.metadata, get_target(self.compiled.target)
        return target.sm_count * target.resident_blocks(m["threads"], m["registers"], m["dynamic_shared_bytes"])

    def workspace(self, op: Workspace) -> list[str]:
        name = f"workspace{len(self.workspaces)}"
        self.workspaces.append(name)
        self.names[op.result] = name
        extents = [self.names[e] for e in op.extents]
        size = workspace_bytes(extents, op.dtype)
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
        is_workspace = source in self.shapes
        if argument.type == "pointer":
            return source if is_workspace else f"{source}.data", "CUdeviceptr"
        type_ = c_type(parse_dtype(argument.type))
        if rest and is_workspace:
            kind, axis = rest[:-1].split("[")
            return workspace_number(self.shapes[source], kind, int(axis)), type_
        return f"{source}.{rest}" if rest else source, type_
