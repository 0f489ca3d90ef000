"""A C header that calls the kernel in an object file: arguments checked and packed, and what the failed checks mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tilus.ir.core import Function, Value
from tilus.ir.dtypes import DType
from tilus.ir.types import ViewType
from tilus.runtime.cpu.entry_ir import OUT_OF_MEMORY
from tilus.runtime.cpu.wait_ir import DEADLOCK
from tilus.runtime.header import c_string, c_type, format_lines, parameter_name, struct
from tilus.runtime.header_checks import Checks, helpers

_OWN_NAMES = ("parallel", "entry", "launch", "message", "messages", "floordiv", "words", "status", "is_small",
              "is_contiguous", "tilus_parallel")
_FAILURES = {DEADLOCK: "a block waits for what never comes",
             OUT_OF_MEMORY: "there is no memory for the blocks to work in"}
"""What statuses below 0 mean, of those that the entry gives."""

_HEAD = """\
/* {name}, compiled by tilus for {cpu} ({triple}): link {file}, and -lm.
   Strides count elements; f16 and bf16 numbers are passed as their bits.
   {name}_launch gives 0, or the number of a check that failed; {name}_message says which one that is. Arrays that are
   not what the kernel was compiled for fail at the checks at its beginning, before anything is done. What those cannot
   see is up to the caller: that the arrays lie where they say, and that no array which the kernel writes overlaps
   another one. Any number of threads may call it at once. */
#ifndef {guard}
#define {guard}
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifndef TILUS_PARALLEL
#define TILUS_PARALLEL
/* How a launch runs its blocks on several threads. run() calls body(data, i) once for each i from 0 to count - 1, on
   whatever threads, and returns when all of these calls have; context is what the program likes. threads is how many
   run at once, and count is no more than that, and less where there is little to do: each call takes blocks until none
   is left. */
typedef struct {{
  void (*run)(void *context, void (*body)(void *data, int64_t i), void *data, int64_t count);
  void *context;
  int64_t threads;
}} tilus_parallel;
#endif

#ifdef __cplusplus
extern "C" {{
#endif
int {name}_entry(const int64_t *words, const tilus_parallel *parallel);
#ifdef __cplusplus
}}
#endif

{helpers}
"""


def c_header(facts: Mapping[str, Any], file: str, launch: Function, constants: Mapping[str, Any]) -> str:
    """The header of the object file called ``file``.

    Args:
        facts: the object's metadata (``objects.py``).
        launch: the launch function of its module.
        constants: the compile-time parameters.

    Raises:
        UnsupportedError: E0507, a dimension has no form in C.
    """
    name = facts["name"]
    head = _HEAD.format(name=name, cpu=facts["cpu"], triple=facts["triple"], file=file, guard=f"TILUS_{name}_H",
                        helpers=helpers(name))
    return f"{head}{_Writer(facts, launch, constants).text()}\n#endif\n"


class _Writer:
    def __init__(self, facts: Mapping[str, Any], launch: Function, constants: Mapping[str, Any]) -> None:
        self.facts, self.launch, self.constants = facts, launch, constants
        self.name = facts["name"]
        self.names: dict[Value, str] = {}

    def text(self) -> str:
        types, parameters, packing, arrays, formats = [], ["const tilus_parallel *parallel"], [], [], []
        slot = 0
        for value, parameter in zip(self.launch.body.args, self.launch.parameters, strict=True):
            own = self.names[value] = parameter_name(value.name or "", self.names.values(), _OWN_NAMES)
            if not isinstance(value.type, ViewType):
                parameters.append(f"{c_type(value.tile.dtype)} {own}")
                packing.append(f"memcpy(&words[{slot}], &{own}, sizeof {own});")
                slot += 1
                continue
            view = value.type
            arrays.append((own, parameter, view.dtype))
            types.append(struct(f"{self.name}_{own}", self.pointer(value.name or "", view.dtype), view.rank))
            parameters.append(f"{self.name}_{own} {own}")
            words = [f"(int64_t)(intptr_t){own}.data", *(f"{own}.shape[{d}]" for d in range(view.rank)),
                     *(f"{own}.strides[{d}]" for d in range(view.rank))]
            packing += [f"words[{slot + i}] = {word};" for i, word in enumerate(words)]
            slot += len(words)
            if value.name in self.facts["formats"]:
                formats += format_lines(value.name or "", f"{self.name}_{own}", self.facts["formats"][value.name],
                                        view.rank)
        checks = Checks(self.name, arrays, self.constants, 1).found()
        lines = [
            f"static inline int {self.name}_launch({', '.join(parameters)}) {{",
            *(f"  if ({condition}) return {i}; /* {why} */" for i, (condition, why) in enumerate(checks, 1)),
            f"  int64_t words[{max(1, slot)}] = {{0}};", *(f"  {line}" for line in packing),
            f"  int status = {self.name}_entry(words, parallel);", *self.result(len(checks)), "}",
        ]
        note = "/* parallel may be NULL: all blocks run on the calling thread then. */"
        if self.facts["waits"]:
            note = "/* Blocks wait for earlier ones: they run on the calling thread, whatever parallel is. */"
        return "\n".join([*types, *formats, "", *self.messages([why for _, why in checks]), "", note, *lines])

    def pointer(self, name: str, dtype: DType) -> str:
        """The type of a pointer to the elements; bytes where those fill none."""
        element = c_type(dtype) if dtype.is_bool or dtype.bits in (8, 16, 32, 64) else "uint8_t"
        return f"{'' if name in self.facts['written'] else 'const '}{element} *"

    def result(self, checked: int) -> list[str]:
        """The statements that make the function's result of the entry's."""
        after = checked + len(self.facts["messages"])
        failures = [f"  if (status == {status}) return {i};" for i, status in enumerate(_FAILURES, after + 1)]
        return [*failures, f"  return status ? status + {checked} : 0;"]

    def messages(self, checks: Sequence[str]) -> list[str]:
        """The function that says what a status means."""
        texts = ["no check has failed", *(f"does not hold: {why}" for why in checks), *self.facts["messages"],
                 *_FAILURES.values()]
        return [
            f"static inline const char *{self.name}_message(int status) {{",
            "  static const char *const messages[] = {", *(f"    {c_string(text)}," for text in texts), "  };",
            f"  return status >= 0 && status < {len(texts)} ? messages[status] : \"no such status\";", "}",
        ]


__all__ = ["c_header"]
