"""Calls of kernels by C programs: any call that Python makes, on the same bytes."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tilus.backends import Linked, Options
from tilus.runtime.arrays import ArrayArgument
from tilus.runtime.compile import compile_specialisation
from tilus.runtime.scalars import scalar_bits

_MAIN = """\
#include "kernel.h"
#include <stdio.h>
#include <stdlib.h>
static char *contents(const char *path, long offset) {
  FILE *file = fopen(path, "rb");
  fseek(file, 0, SEEK_END); long size = ftell(file); rewind(file);
  char *data = (char *)aligned_alloc(64, (size + offset + 127) / 64 * 64) + offset;
  if (fread(data, 1, size, file) != (size_t)size) exit(9);
  fclose(file);
  return data;
}
static void keep(const char *path, const char *data, long size) {
  FILE *file = fopen(path, "wb"); fwrite(data, 1, size, file); fclose(file);
}
"""


def call_linked(kernel: Any, arguments: Sequence[Any], constants: dict[str, Any], directory: Path, cpu: str | None,
                triple: str | None, compiler: Sequence[str], runner: Sequence[str] = ()) -> None:
    """Call a kernel on the arguments of a call, which it changes, from a C program in ``directory``.

    Args:
        compiler: the C compiler and its options.
        runner: what the program is started by.
    """
    prepared = kernel.prepared("cpu", tuple(arguments), constants)
    compiled = compile_specialisation(prepared.specialisation, "cpu", None, Options(linked=Linked(cpu, triple, "k")))
    header = compiled.files("kernel.o")[".h"].decode()
    (directory / "kernel.o").write_bytes(compiled.object)
    (directory / "kernel.h").write_text(header)
    signature = re.search(r"int k_launch\((.*)\) \{", header)
    assert signature is not None
    types = [parameter.rsplit(" ", 1)[0] for parameter in signature[1].split(", ")[1:]]
    values = compiled.launch_module.launch.body.args
    before, after = "", ""
    for i, (type_, argument) in enumerate(zip(types, prepared.call.arguments, strict=True)):
        if isinstance(argument, ArrayArgument):
            low, high = argument.extent_bytes()
            place, size = argument.address + low, high - low
            (directory / f"{i}").write_bytes(ctypes.string_at(place, size))
            sizes = ", ".join(f"{{{', '.join(map(str, x))}}}" for x in (argument.shape, argument.strides) if x)
            before += f'  char *d{i} = contents("{i}", {place % 64});\n'
            before += f"  {type_} x{i} = {{(void *)(d{i} - {low}){', ' if sizes else ''}{sizes}}};\n"
            after += f'  keep("{i}", d{i}, {size});\n'
        else:
            bits = scalar_bits(argument, values[i].tile.dtype) & (1 << 64) - 1
            before += f"  uint64_t b{i} = UINT64_C({bits}); {type_} x{i}; memcpy(&x{i}, &b{i}, sizeof x{i});\n"
    names = ", ".join(f"x{i}" for i in range(len(types)))
    main = f"{before}  int status = k_launch(NULL, {names});\n{after}  if (status) puts(k_message(status));\n"
    (directory / "main.c").write_text(f"{_MAIN}int main(void) {{\n{main}  return status;\n}}\n")
    subprocess.run([*compiler, "main.c", "kernel.o", "-lm", "-o", "main"], cwd=directory, check=True)
    subprocess.run([*runner, "./main"], cwd=directory, check=True)
    for i, argument in enumerate(prepared.call.arguments):
        if isinstance(argument, ArrayArgument) and argument.writable:
            low, high = argument.extent_bytes()
            ctypes.memmove(argument.address + low, (directory / f"{i}").read_bytes(), high - low)
