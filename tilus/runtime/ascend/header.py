"""The C header that launches programs of cores through AscendCL, and the C++ that it calls for that."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import i64
from tilus.ir.names import c_name
from tilus.ir.ops import DeviceAssert, Launch, ResidentBlocks, ShapedView, Workspace, Yield
from tilus.ir.types import ViewType
from tilus.runtime.arguments import WORD_BYTES
from tilus.runtime.ascend.core_arguments import CoreArgument
from tilus.runtime.header import c_type, parameter_name, struct
from tilus.runtime.header_checks import Checks, helpers
from tilus.runtime.header_scalars import scalar_expression, workspace_bytes, workspace_number

if TYPE_CHECKING:
    from tilus.runtime.ascend.backend import CompiledForAscend

OWN_NAMES = ("launch", "start", "walk", "cores", "floordiv", "is_small", "is_contiguous", "stream", "status", "grid",
             "blocks", "used", "workspace", "workspace_bytes", "needed", "measure", "cube_cores", "vector_cores",
             "value", "device", "bytes")
ALIGNMENT = 512
"""Of workspaces, in bytes: copies to and from such places are the fastest."""
WIDTH = 118
INVALID = "ACL_ERROR_INVALID_PARAM"

_HEAD = """\
/* {name} for {target}, compiled by tilus. Arrays are device pointers; strides count elements;
   f16 and bf16 numbers are passed as their bits. Every function gives an aclError, and needs a device that has been set
   (aclInit, aclrtSetDevice). {name}_launch
   gives {invalid}, and launches nothing, for arrays that are not what the kernel was compiled for (see
   the checks at its beginning). What it cannot see is up to the caller: that the arrays lie where they say, and that no
   array which the kernel writes overlaps another one. */
#ifndef {guard}
#define {guard}
#include <acl/acl.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif
{starts}
#ifdef __cplusplus
}}
#endif

{helpers}
/* Core counts of the current device, of which a launch takes no more blocks. */
static inline aclError {name}_cores(int64_t *cube_cores, int64_t *vector_cores) {{
  int32_t device = 0;
  aclError status = aclrtGetDevice(&device);
  if (status == ACL_SUCCESS)
    status = aclrtGetDeviceInfo((uint32_t)device, ACL_DEV_ATTR_CUBE_CORE_NUM, cube_cores);
  if (status == ACL_SUCCESS)
    status = aclrtGetDeviceInfo((uint32_t)device, ACL_DEV_ATTR_VECTOR_CORE_NUM, vector_cores);
  return status;
}}
"""

_START = """\
// Puts launches of {name} into streams; for the device's compiler, which alone knows <<<>>>.
#include "{name}.cpp"
{bits}
{starts}"""

_BITS = """
template <typename T>
static T FromBits(uint16_t bits) {
    static_assert(sizeof(T) == sizeof bits, "numbers of 16 bits");
    T number;
    __builtin_memcpy(&number, &bits, sizeof number);
    return number;
}
"""


def c_header(compiled: CompiledForAscend) -> str:
    """The header that checks arguments and launches the kernels.

    Raises:
        UnsupportedError: E0507, a dimension or an operation of the launch function has no form in C.
    """
    name = c_name(compiled.name)
    starts = [f"{head};" for head, _ in _starts(compiled, "void")]
    head = _HEAD.format(name=name, target=compiled.target, guard=f"{name.upper()}_H", invalid=INVALID,
                        starts="\n".join(starts), helpers=helpers(name))
    return f"{head}\n{_Writer(compiled, name).text()}\n\n#endif\n"


def start_source(compiled: CompiledForAscend) -> str:
    """The C++ with the functions that launch one kernel each."""
    text = "\n".join(f'{head} {{\n{call};\n}}\n' for head, call in _starts(compiled, 'extern "C" void'))
    return _START.format(name=c_name(compiled.name), bits=_BITS if "FromBits<" in text else "", starts=text)


def _starts(compiled: CompiledForAscend, declared: str) -> Iterator[tuple[str, str]]:
    """The head of each function that launches a kernel, which begins with ``declared``, and its call."""
    from tilus.codegen.ascendc.scalars import type_name

    for kernel in compiled.metadata["kernels"]:
        parameters, values = ["uint32_t blocks", "void *stream"], []
        names: list[str] = []
        for argument in compiled.arguments(kernel):
            dtype = argument.dtype or i64
            name = parameter_name(argument.spelled, names, OWN_NAMES)
            names.append(name)
            parameters.append(f"uint8_t *{name}" if argument.is_address else f"{c_type(dtype)} {name}")
            narrow = not argument.is_address and dtype.is_float and dtype.bits == 16
            values.append(f"FromBits<{type_name(dtype)}>({name})" if narrow else name)
        yield (_wrapped(f"{declared} {kernel}_start(", parameters, ")"),
               _wrapped(f"    {kernel}<<<blocks, nullptr, stream>>>(", values, ")"))


def _wrapped(head: str, parts: Sequence[str], tail: str) -> str:
    """A list in parentheses, in lines of at most 120 characters with what indents them in a function."""
    lines, line = [], head
    for n, part in enumerate(parts):
        piece = f"{part}{', ' if n + 1 < len(parts) else tail}"
        if len(line) + len(piece) > WIDTH and line != head:
            lines.append(line.rstrip())
            line = " " * 8
        line += piece
    return "\n".join([*lines, line])


class _Writer:
    def __init__(self, compiled: CompiledForAscend, name: str) -> None:
        self.compiled, self.name = compiled, name
        module = compiled.launch_module
        assert module.launch is not None
        self.module, self.launch = module, module.launch
        self.names: dict[Value, str] = {}
        self.workspaces: dict[str, list[str]] = {}  # extents
        self.places = 0
        self.needs_workspace = any(isinstance(op, Workspace) for op in self.launch.body.ops) or any(
            a.kind == "memory" for kernel in compiled.metadata["kernels"] for a in compiled.arguments(kernel))

    def text(self) -> str:
        structs, parameters, arrays = [], [], []
        for value, parameter in zip(self.launch.body.args, self.launch.parameters, strict=True):
            own = self.names[value] = parameter_name(value.name or "", self.names.values(), OWN_NAMES)
            if isinstance(value.type, ViewType):
                arrays.append((own, parameter, value.type.dtype))
                structs.append(struct(f"{self.name}_{own}", "void *", value.type.rank))
                parameters.append(f"{self.name}_{own} {own}")
            else:
                parameters.append(f"{c_type(value.tile.dtype)} {own}")
        checks = Checks(self.name, arrays, self.compiled.specialisation.constants, WORD_BYTES).found()
        body = [f"if ({condition}) return {INVALID}; /* {why} */" for condition, why in checks]
        body += ["int64_t cube_cores = 0, vector_cores = 0;",
                 f"aclError status = {self.name}_cores(&cube_cores, &vector_cores);",
                 "if (status != ACL_SUCCESS) return status;"]
        written = [line for op in self.launch.body.ops if not isinstance(op, Yield) for line in self.statement(op)]
        body += _needed([*body, *written], len(body))
        unused = [p.split()[-1] for p in parameters if not _mentions(body, p.split()[-1])]
        body = [*(f"(void){name};" for name in unused), *(line for part in body for line in part.splitlines())]
        whole = self.with_workspace if self.needs_workspace else self.alone
        return "\n".join([*structs, "", *whole(parameters, body)])

    def alone(self, parameters: Sequence[str], body: Sequence[str]) -> list[str]:
        return ["/* Puts a launch into the stream. */",
                _wrapped(f"static inline aclError {self.name}_launch(", [*parameters, "aclrtStream stream"], ") {"),
                *(f"  {line}" for line in body), "  return status;", "}"]

    def with_workspace(self, parameters: Sequence[str], body: Sequence[str]) -> list[str]:
        """Functions that measure the workspace and that launch, which are one with two faces."""
        names = [p.split()[-1] for p in parameters]
        given = ["void *workspace", "size_t workspace_bytes", "aclrtStream stream"]
        more = ["uint8_t *workspace", "size_t *needed", "bool measure", "aclrtStream stream"]
        return [
            _wrapped(f"static inline aclError {self.name}_walk(", [*parameters, *more], ") {"),
            "  size_t used = 0;", *(f"  {line}" for line in body), "  *needed = used;", "  return status;", "}",
            "",
            f"/* How many bytes of device memory a launch for these arguments needs, aligned to {ALIGNMENT} bytes. */",
            _wrapped(f"static inline aclError {self.name}_workspace_bytes(", [*parameters, "size_t *bytes"], ") {"),
            f"  return {self.name}_walk({', '.join([*names, 'NULL', 'bytes', 'true', 'NULL'])});", "}",
            "",
            "/* Puts a launch into the stream. The workspace has to stay until that is done, and is one launch's. */",
            _wrapped(f"static inline aclError {self.name}_launch(", [*parameters, *given], ") {"),
            "  size_t needed = 0;",
            f"  aclError status = {self.name}_walk({', '.join([*names, 'NULL', '&needed', 'true', 'NULL'])});",
            "  if (status != ACL_SUCCESS) return status;",
            f"  if (needed > workspace_bytes || (uintptr_t)workspace % {ALIGNMENT} != 0) return {INVALID};",
            f"  return {self.name}_walk({', '.join([*names, '(uint8_t *)workspace', '&needed', 'false', 'stream'])});",
            "}",
        ]

    # -- the launch function

    def statement(self, op: Operation) -> list[str]:
        if isinstance(op, Launch):
            return self.start(op)
        if isinstance(op, Workspace):
            return self.workspace(op)
        if isinstance(op, ShapedView):
            base, name = self.names[op.view], f"view{len(self.names)}"
            self.names[op.result], self.workspaces[name] = name, [self.names[e] for e in op.extents]
            return [f"uint8_t *const {name} = {base if base in self.workspaces else f'(uint8_t *){base}.data'};"]
        if isinstance(op, DeviceAssert):
            message = (op.message or "an assertion").replace("*/", "* /")
            return [f"if (!({self.names[op.condition]})) return {INVALID}; /* {message} */"]
        text = ("(int32_t)cube_cores" if isinstance(op, ResidentBlocks) else
                scalar_expression(op, self.names, self.name))
        name = self.names[op.result] = f"v{len(self.names)}"
        return [f"const {c_type(op.result.tile.dtype)} {name} = {text};"]

    def place(self) -> str:
        """A name for a part of the workspace."""
        self.places += 1
        return f"workspace{self.places - 1}"

    def workspace(self, op: Workspace) -> list[str]:
        name = self.names[op.result] = self.place()
        self.workspaces[name] = [self.names[e] for e in op.extents]
        size = workspace_bytes(self.workspaces[name], op.dtype)
        lines = [f"uint8_t *const {name} = measure ? NULL : workspace + used;", _take(size)]
        if op.zero:
            lines.append(f"if (!measure && status == ACL_SUCCESS && {size} > 0) "
                         f"status = aclrtMemsetAsync({name}, {size}, 0, {size}, stream);")
        return lines

    def start(self, op: Launch) -> list[str]:
        """A launch of one kernel: as many blocks as there are cores, which share the blocks of the grid."""
        kernel = self.module.kernel(op.kernel)
        sources = {p.name: self.names[a] for p, a in zip(kernel.parameters, op.args, strict=True)}
        arguments = self.compiled.arguments(op.kernel)
        extents = [self.names[g] for g in op.grid]
        cores = "vector_cores" if self.compiled.metadata["kernels"][op.kernel]["cores"] == "AIV_ONLY" else "cube_cores"
        grid = " * ".join(f"grid[{d}]" for d in range(len(extents))) or "1"
        empty = " || ".join(f"grid[{d}] <= 0" for d in range(len(extents))) or "false"
        lines = [
            "{", f"  const int64_t grid[{max(1, len(extents))}] = {{{', '.join(extents) or '1'}}};",
            f"  const int64_t blocks = {empty} ? 0 : {grid} < {cores} ? {grid} : {cores};",
        ]
        values = []
        for argument in arguments:
            if argument.kind == "memory":
                assert argument.dtype is not None
                values.append(self.place())
                lines += [f"  uint8_t *const {values[-1]} = measure ? NULL : workspace + used;",
                          f"  {_take(f'blocks * INT64_C({argument.size * argument.dtype.itemsize})')}"]
            else:
                values.append(self.argument(argument, sources))
        condition = "blocks > 0 && status == ACL_SUCCESS"
        lines += [f"  if ({'!measure && ' if self.needs_workspace else ''}{condition})",
                  _wrapped(f"    {op.kernel}_start(", ["(uint32_t)blocks", "stream", *values], ");"), "}"]
        return lines

    def argument(self, argument: CoreArgument, sources: Mapping[str, str]) -> str:
        if argument.kind == "grid":
            return f"grid[{argument.axis}]"
        source = sources[argument.name]
        if source in self.workspaces:
            return source if argument.kind == "array" else workspace_number(self.workspaces[source], argument.kind,
                                                                            argument.axis)
        if argument.kind == "array":
            return f"(uint8_t *){source}.data"
        return source if argument.kind == "number" else f"{source}.{argument.kind}[{argument.axis}]"


def _take(size: str) -> str:
    return f"used += ((size_t)({size}) + {ALIGNMENT - 1}) / {ALIGNMENT} * {ALIGNMENT};"


def _mentions(lines: Sequence[str], name: str) -> bool:
    return any(re.search(rf"\b{name}\b", line) for line in lines)


def _needed(lines: list[str], first: int) -> list[str]:
    """Those from ``first`` on less definitions that nothing needs: core programs have the arguments that they use."""
    kept: list[str] = []
    for line in reversed(lines[first:]):
        made = re.match(r"const \w+ (v\d+) = ", line)
        if made is None or _mentions(kept, made[1]):
            kept.append(line)
    return kept[::-1]


__all__ = ["ALIGNMENT", "c_header", "start_source"]
