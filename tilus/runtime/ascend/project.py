"""A folder with all that it takes to build a kernel for the device, launch it from C++, and try it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from tilus.diagnostics import UnsupportedError
from tilus.ir.core import Parameter, Value
from tilus.ir.dtypes import DType
from tilus.ir.names import c_name
from tilus.ir.types import ViewType
from tilus.runtime.ascend.example import ARRAYS
from tilus.runtime.ascend.header import OWN_NAMES, c_header, start_source
from tilus.runtime.header import c_type, parameter_name

if TYPE_CHECKING:
    from tilus.runtime.ascend.backend import CompiledForAscend

FLAGS = ("-xasc", "--npu-arch=dav-2201", "-O2", "-std=c++17", "-fPIC", "--shared")
LIBRARIES = ("-lruntime", "-lascendcl", "-ltiling_api", "-lplatform", "-lm", "-ldl")
EXAMPLE_EXTENTS = (1, 65536, 512, 64, 32, 16)
"""Of dimensions that have a name, where nothing is stored: by the rank of the array that has most."""
EXAMPLE_NAMES = ("count", "words", "folder", "wrong", "main", "std", "Array", "Kind", "Given", "GivenNumber",
                 "Describe", "Differs", "Release", "CHECK")
"""Names of the example that parameters cannot have there."""
_KINDS = {"f32": "F32", "f64": "F64", "f16": "F16", "bf16": "BF16"}

_MAIN = """\
// Launches {name} once.
// With the name of a folder it takes arguments from FOLDER/NAME.npy, and compares what the kernel has written with
// FOLDER/NAME.expected.npy; without these, arrays have made-up numbers and the extents below.
#include "arrays.h"
#include "{name}.h"

int main(int count, char **words) {{
{body}
}}
"""

_CMAKE = """\
cmake_minimum_required(VERSION 3.16)
project({name} LANGUAGES CXX)

# CANN, whose set_env.sh names its folder.
set(CANN $ENV{{ASCEND_HOME_PATH}} CACHE PATH "the folder of CANN")
find_program(BISHENG bisheng HINTS ${{CANN}}/bin ${{CANN}}/compiler/ccec_compiler/bin)

add_custom_command(
  OUTPUT ${{CMAKE_BINARY_DIR}}/lib{name}.so
  COMMAND ${{BISHENG}} {flags} ${{CMAKE_SOURCE_DIR}}/{name}_start.cpp
          -o ${{CMAKE_BINARY_DIR}}/lib{name}.so -L${{CANN}}/lib64 {libraries}
  DEPENDS {name}_start.cpp {name}.cpp)
add_custom_target({name}_kernel DEPENDS ${{CMAKE_BINARY_DIR}}/lib{name}.so)

add_executable({name} main.cpp)
add_dependencies({name} {name}_kernel)
target_compile_features({name} PRIVATE cxx_std_17)
target_include_directories({name} PRIVATE ${{CANN}}/include)
target_link_directories({name} PRIVATE ${{CANN}}/lib64)
target_link_libraries({name} PRIVATE ${{CMAKE_BINARY_DIR}}/lib{name}.so ascendcl)
"""

_README = """\
# {name} for {target}

Compiled by tilus. On a machine with CANN, whose `set_env.sh` has been sourced:

    bisheng {flags} {name}_start.cpp -o lib{name}.so -L$ASCEND_HOME_PATH/lib64 {libraries}

or, with the example, `cmake -B build && cmake --build build && ./build/{name}`.

| file | what it is |
|---|---|
| `{name}.cpp` | {kernels} in Ascend C |
| `{name}_start.cpp` | puts launches into streams; what `bisheng` compiles |
| `{name}.h` | `{name}_launch(…)` for C and C++: checks its arguments, works out grid{workspaces} and scalars |
| `main.cpp`, `arrays.h` | an example; `./{name} FOLDER` reads `FOLDER/NAME.npy`, compares with `NAME.expected.npy` |
| `CMakeLists.txt` | builds all of it |
"""


def project_files(compiled: CompiledForAscend) -> dict[str, bytes]:
    """The files of the folder, by name.

    Raises:
        UnsupportedError: E0507, the launch function or a dimension has no form in C.
    """
    name = c_name(compiled.name)
    header = c_header(compiled)
    words = {"name": name, "target": compiled.target, "flags": " ".join(_flags(compiled)),
             "libraries": " ".join(LIBRARIES),
             "kernels": ", ".join(f"`{kernel}`" for kernel in compiled.metadata["kernels"]),
             "workspaces": ", workspaces" if f"{name}_workspace_bytes(" in header else ""}
    texts = {
        f"{name}.cpp": compiled.ascendc, f"{name}_start.cpp": start_source(compiled), f"{name}.h": header,
        "main.cpp": _MAIN.format(name=name, body="\n".join(f"  {line}" if line else "" for line in
                                                           _main(compiled, name, words["workspaces"] != ""))),
        "arrays.h": ARRAYS, "CMakeLists.txt": _CMAKE.format(**words), "README.md": _README.format(**words),
    }
    return {file: text.encode() for file, text in texts.items()}


def _flags(compiled: CompiledForAscend) -> Iterator[str]:
    yield from FLAGS
    if "TPipe pipe;" not in compiled.ascendc:  # no call that needs the library's part of the unified buffer
        yield "--cce-disable-asc-reserved-ubuf"


class _Argument(NamedTuple):
    value: Value
    parameter: Parameter
    name: str
    variable: str
    written: bool


def _arguments(compiled: CompiledForAscend) -> Iterator[_Argument]:
    launch = compiled.launch_module.launch
    assert launch is not None
    names: list[str] = []
    for value, parameter in zip(launch.body.args, launch.parameters, strict=True):
        own = parameter_name(value.name or "", names, OWN_NAMES)
        names.append(own)
        variable = parameter_name(own, (), EXAMPLE_NAMES)
        yield _Argument(value, parameter, own, variable, parameter.written)


def _main(compiled: CompiledForAscend, name: str, with_workspace: bool) -> Iterator[str]:
    """The lines of the example's main function."""
    arguments = list(_arguments(compiled))
    arrays = [a for a in arguments if isinstance(a.value.type, ViewType)]
    yield "const std::string folder = count > 1 ? words[1] : \"\";"
    yield "CHECK(aclInit(nullptr));"
    yield "CHECK(aclrtSetDevice(0));"
    yield "aclrtStream stream = nullptr;"
    yield "CHECK(aclrtCreateStream(&stream));"
    yield ""
    extents = _Extents(compiled, arrays)
    yield from extents.definitions()
    for a in arguments:
        if isinstance(a.value.type, ViewType):
            yield (f"Array {a.variable} = Given(folder, {_text(a.parameter.name)}, {_kind(a.value.type.dtype)}, "
                   f"{{{', '.join(extents.of(a))}}});")
        else:
            type_ = c_type(a.value.tile.dtype)
            yield (f"const {type_} {a.variable} = GivenNumber<{type_}>(folder, {_text(a.parameter.name)}, "
                   f"{_kind(a.value.tile.dtype)});")
    passed = []
    for a in arguments:
        passed.append(a.variable)
        if isinstance(a.value.type, ViewType):
            rest = ", {}, {}" if a.value.type.rank else ""
            yield f"{name}_{a.name} {a.variable}Argument = {{{a.variable}.device{rest}}};"
            if rest:
                yield f"Describe({a.variable}, {a.variable}Argument.shape, {a.variable}Argument.strides);"
            passed[-1] = f"{a.variable}Argument"
    yield ""
    if with_workspace:
        yield "size_t bytes = 0;"
        yield f"CHECK({name}_workspace_bytes({', '.join([*passed, '&bytes'])}));"
        yield "void *workspace = nullptr;"
        yield "if (bytes > 0) CHECK(aclrtMalloc(&workspace, bytes, ACL_MEM_MALLOC_HUGE_FIRST));"
        passed += ["workspace", "bytes"]
    yield f"CHECK({name}_launch({', '.join([*passed, 'stream'])}));"
    yield "CHECK(aclrtSynchronizeStream(stream));"
    yield "bool wrong = false;"
    for a in arrays:
        if a.written:
            yield f"wrong |= Differs({a.variable}, folder, {_text(a.parameter.name)});"
    yield ""
    if with_workspace:
        yield "if (workspace != nullptr) CHECK(aclrtFree(workspace));"
    for a in arrays:
        yield f"Release({a.variable});"
    yield "CHECK(aclrtDestroyStream(stream));"
    yield "CHECK(aclrtResetDevice(0));"
    yield "CHECK(aclFinalize());"
    yield "return wrong ? 1 : 0;"


class _Extents:
    """Extents of the example's arrays: dimensions of one name are one constant."""

    def __init__(self, compiled: CompiledForAscend, arrays: list[_Argument]) -> None:
        self.constants = {n: v for n, v in compiled.specialisation.constants.items() if isinstance(v, int)}
        self.known: dict[str, int] = {}
        most = max((len(a.parameter.dims) for a in arrays), default=0)
        example = EXAMPLE_EXTENTS[min(most, len(EXAMPLE_EXTENTS) - 1)]
        for a in arrays:
            for dim, extent in zip(a.parameter.dims, a.parameter.shape, strict=True):
                if isinstance(dim, str) and dim.isidentifier() and dim not in self.constants:
                    self.known.setdefault(dim, example)
                    if extent is not None:
                        self.known[dim] = extent
        self.names = {dim: f"extent{dim}" for dim in self.known}

    def definitions(self) -> Iterator[str]:
        for dim, name in self.names.items():
            yield f"const int64_t {name} = {self.known[dim]};"

    def of(self, a: _Argument) -> Iterator[str]:
        for dim, extent in zip(a.parameter.dims, a.parameter.shape, strict=True):
            yield str(extent) if extent is not None else str(dim) if isinstance(dim, int) else self.text(dim)

    def text(self, dim: str) -> str:
        """A dimension in C++."""
        return self._expression(ast.parse(dim, mode="eval").body, dim)

    def _expression(self, node: ast.expr, dim: str) -> str:
        signs = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "/"}
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return str(node.value)
        if isinstance(node, ast.Name):
            return str(self.constants[node.id]) if node.id in self.constants else self.names[node.id]
        if isinstance(node, ast.BinOp) and type(node.op) in signs:
            return f"({self._expression(node.left, dim)} {signs[type(node.op)]} {self._expression(node.right, dim)})"
        raise UnsupportedError.at("E0507", f"the dimension {dim!r} has no form in C++")


def _kind(dtype: DType) -> str:
    """The element type as ``arrays.h`` calls it."""
    if dtype.is_bool:
        return "Kind::BOOL"
    if dtype.name not in _KINDS and (not dtype.is_int or dtype.bits not in (8, 16, 32, 64)):
        raise UnsupportedError.at("E0507", f"arrays of {dtype} are not those of a program in C++",
                                  help="write another stage, or one file: -o kernel.cpp")
    return f"Kind::{_KINDS.get(dtype.name, f'{dtype.kind.upper()}{dtype.bits}')}"


def _text(name: str) -> str:
    return f'"{name}"'


__all__ = ["project_files"]
