"""The table of diagnostic codes: one entry per kind of mistake.

Ranges: 01xx Python front end · 02xx types and shapes · 03xx memory and arrays · 04xx layouts · 05xx targets
and resources · 06xx calls and arguments · 07xx synchronisation and checks · 08xx textual IR and command line ·
09xx toolchains, cache and internal errors · 10xx PTX and its simulator ·
11xx tuning.
"""

from __future__ import annotations

CODES: dict[str, str] = {
    # front end
    "E0101": "unsupported Python construct",
    "E0102": "undefined name",
    "E0103": "missing return path",
    "E0104": "carried value changes type or shape",
    "E0105": "value must be a compile-time constant",
    "E0106": "misplaced statement",
    "E0107": "wrong arguments of a call",
    "E0108": "static assertion failed",
    "E0109": "bad annotation",
    "E0110": "name is not defined on every path",
    "E0111": "source of the kernel is not available",
    "E0112": "inlining does not end",
    "E0113": "run-time value used as a Python value",
    "E0114": "unknown attribute or method",
    "E0115": "not available in a fused function",
    # types and shapes
    "E0201": "type mismatch",
    "E0202": "shape mismatch",
    "E0203": "operation not defined for this type",
    "E0204": "bad axis or shape",
    "E0205": "literal does not fit the type",
    "E0206": "unsupported operand types of dot",
    # memory and arrays
    "E0301": "bad offsets or indices of a memory access",
    "E0302": "bad mask or other value",
    "E0303": "write to something read-only",
    "E0304": "bad view",
    "E0305": "bad access to a prepacked array",
    # layouts
    "E0401": "conflicting layouts",
    "E0402": "malformed layout expression",
    "E0403": "layout does not fit",
    "E0404": "layout operation is undefined",
    # targets and resources
    "E0501": "unknown target",
    "E0502": "the target lacks this instruction",
    "E0503": "too much shared memory",
    "E0504": "too many threads",
    "W0505": "registers are spilled",
    "E0506": "unknown engine",
    "E0507": "not supported by this engine",
    "E0508": "too many registers",
    # calls and arguments
    "E0601": "wrong argument type",
    "E0602": "inconsistent dimensions",
    "E0603": "overlapping arguments",
    "E0604": "missing or unknown argument",
    "W0605": "many specialisations by value",
    "E0606": "launch is not possible",
    "W0607": "operators left to torch",
    # synchronisation and checks
    "E0701": "race",
    "E0702": "read of uninitialised memory",
    "E0703": "out-of-bounds access",
    "E0704": "device assertion failed",
    "E0705": "deadlock or barrier mismatch",
    "E0706": "asynchronous result used before its wait",
    "W0707": "missing barrier",
    "W0708": "missing wait for an asynchronous copy",
    # textual IR and command line
    "E0801": "malformed IR text",
    "E0802": "IR verification failed",
    "E0803": "unknown pass or stage",
    "E0804": "bad command-line argument",
    # toolchains, cache, internal
    "E0901": "toolchain not found",
    "E0902": "toolchain failed",
    "E0903": "cache is not usable",
    "E0904": "driver failed",
    "E0999": "internal error",
    # PTX and its simulator
    "E1001": "malformed PTX",
    "E1002": "unknown PTX instruction",
    "E1003": "bad launch",
    "E1004": "simulation fault",
    # tuning
    "E1101": "malformed constraint",
    "E1102": "unknown name in a constraint",
    "E1103": "bad parameter of a space",
    "E1104": "the constraints leave nothing",
    "E1105": "variable without a bound",
    "E1106": "a constraint's function failed",
    "E1107": "bad tuning key",
    "E1108": "not a kernel that can be tuned",
    "E1109": "cannot be measured here",
    "E1110": "bad option of tuning",
    "E1111": "malformed results of tuning",
    "E1112": "no variant works",
    "W1113": "executor lost",
    "W1114": "a model has failed",
}
