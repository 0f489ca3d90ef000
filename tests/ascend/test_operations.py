"""Operations on tiles of each type on the twin against the interpreter, all of a type in few kernels; and what is
refused, with its reason."""

from __future__ import annotations

import linecache
import re
import types
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus as tl

ELEMENTS = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "i32": np.int32, "i16": np.int16,
            "i8": np.int8, "u8": np.uint8, "u16": np.uint16, "u32": np.uint32}
FLOATS = ("f32", "f16", "bf16")
QUICK = ("f32", "bf16", "i32", "u8", "u32")
TOLERANCE = {"f32": 2e-6, "f16": 2e-3, "bf16": 1.6e-2}
COMMON = ("a + b", "a - b", "a * b", "-a", "tl.abs(a)", "tl.maximum(a, b)", "tl.minimum(a, b)", "a + 3", "a * 3",
          "tl.where(a < b, a, b)", "a.T", "a[8:24]", "a.reshape(16, 64)", "a + b[0:1]", "tl.sum(a, 0)", "tl.prod(a, 0)")
TRUTHS = ("a < b", "a <= b", "a > b", "a >= b", "a == b", "a != b", "a < 3", "a.to(tl.bool)", "tl.any(a > b, 1)",
          "tl.all(a > b, 0)", "tl.argmax(a, 1)", "tl.argmin(a, 0)")
OF_FLOATS = ("a / b", "tl.exp(a)", "tl.exp2(a)", "tl.log(tl.abs(a) + 1)", "tl.log2(tl.abs(a) + 1)",
             "tl.sqrt(tl.abs(a))", "tl.rsqrt(tl.abs(a) + 1)", "tl.tanh(a)", "tl.erf(a)", "tl.sin(a)", "tl.cos(a)",
             "tl.sigmoid(a)", "tl.gelu(a)", "tl.relu(a)", "tl.silu(a)", "tl.floor(a)", "tl.ceil(a)", "tl.round(a)",
             "tl.trunc(a)", "1 / a", "tl.cummax(a, 0)", "tl.cumsum(a, 1)", "tl.cummax(a, 1, reverse=True)",
             "tl.fma(a, b, a)", "tl.expm1(a)", "tl.log1p(tl.abs(a))", "tl.erfc(a)", "tl.sinh(a)",
             "tl.cosh(a)", "tl.asin(a / 4)", "tl.acos(a / 5)", "tl.atan(a)", "tl.asinh(a)", "tl.acosh(tl.abs(a) + 1)",
             "tl.atanh(a / 5)", "tl.atan2(a, b)", "tl.copysign(a, b)", "tl.tan(a / 4)", "tl.pow(tl.abs(a), b)",
             "tl.sum(a, 1)", "tl.max(a, 1)", "tl.min(a, 0)", "tl.mean(a, 1)")
OF_INTEGERS = ("tl.cumsum(a, 0)", "tl.cumsum(a, 1, reverse=True)", "a & b", "a | b", "a ^ b", "~a", "a << 2",
               "a >> 2", "a // 4", "a % 4", "a << b", "a >> (b & 31)", "tl.sum(a, 1)", "tl.max(a, 1)", "tl.max(a, 0)",
               "tl.prod(a, 1)")
OF_SMALL_INTEGERS = ("a // 7", "a % 7", "a // b", "a % b")
Output = tuple[str, str, tuple[int, ...]]


def outputs_of(element: str) -> list[Output]:
    """Expressions, with the types and shapes that they are stored as."""
    texts = [*COMMON, *(OF_FLOATS if element in FLOATS else OF_INTEGERS)]
    if element in ("i16", "i8", "u8", "u16"):
        texts += OF_SMALL_INTEGERS
    found = [(text, element, shape_of(text)) for text in texts]
    found += [(text, "i32", shape_of(text)) for text in TRUTHS]
    return found + [(f"a.to(tl.{to})", to, (32, 32)) for to in ELEMENTS if to != element]


def shape_of(text: str) -> tuple[int, ...]:
    if re.match(r"tl\.(sum|max|min|prod|mean|any|all|argmax|argmin)\(", text):
        return (32,)
    return {"a[8:24]": (16, 32), "a.reshape(16, 64)": (16, 64)}.get(text, (32, 32))


def kernel_of(element: str, outputs: list[Output]) -> Any:
    arguments = ", ".join(f"o{n}: tl.{of}[{', '.join(map(str, shape))}]" for n, (_, of, shape) in enumerate(outputs))
    lines = ["import tilus as tl", "@tl.jit",
             f"def kernel(x: tl.{element}[32, 32], y: tl.{element}[32, 32], {arguments}):", "    tl.grid(1)",
             "    a, b = tl.load(x, (0, 0), (32, 32)), tl.load(y, (0, 0), (32, 32))"]
    lines += [f"    tl.store(o{n}, ({'0, ' * len(shape)}), ({text}).to(tl.{of}))"
              for n, (text, of, shape) in enumerate(outputs)]
    source, name = "\n".join(lines) + "\n", f"<operations {element} {outputs[0][0]}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    module = types.ModuleType("operations")
    exec(compile(source, name, "exec"), module.__dict__)
    return module.__dict__["kernel"]


def numbers(element: str) -> np.ndarray[Any, Any]:
    """Small numbers; of integers also any others."""
    random = np.random.default_rng(list(ELEMENTS).index(element))
    shape = (2, 32, 32)
    if element in FLOATS:
        found = random.integers(-32, 33, shape) / 8
        return np.where(found == 0, 1, found).astype(ELEMENTS[element])
    info = np.iinfo(ELEMENTS[element])
    small, any_of_them = random.integers(max(info.min, -20), 21, shape), random.integers(info.min, info.max + 1, shape)
    return np.where(random.integers(0, 2, shape), small, any_of_them).astype(ELEMENTS[element])


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("element", [pytest.param(e, marks=() if e in QUICK else pytest.mark.slow) for e in ELEMENTS])
def test_operations(element: str) -> None:
    a, b = numbers(element)
    outputs = outputs_of(element)
    for begin in range(0, len(outputs), 12):
        part = outputs[begin:begin + 12]
        kernel = kernel_of(element, part)
        results = []
        for engine in ("interpret", "ascend910b:random:1"):
            arrays = [np.zeros(shape, ELEMENTS[of]) for _, of, shape in part]
            with np.errstate(all="ignore"):
                kernel.on(engine)(a, b, *arrays)
            results.append(arrays)
        for (text, of, _), want, got in zip(part, *results, strict=True):
            x, y = want.astype(np.float64), got.astype(np.float64)
            with np.errstate(invalid="ignore"):
                near = np.abs(x - y) <= TOLERANCE.get(of, 0) * np.maximum(np.abs(x), 1e-2)
            wrong = ~(near | (x == y))
            assert not wrong.any(), f"{text} of {element}: {y[wrong][0]} instead of {x[wrong][0]}"


REFUSALS = {
    ("i32", "a // b"): "ascend910b's vectors divide integers by constant powers of two, and others where operands are "
                       "known to be at most 4,194,304",
    ("f32", "tl.fmod(a, b)"): "fmod of tiles is not lowered for ascend910b",
}


@pytest.mark.parametrize(("element", "text"), REFUSALS, ids=str)
def test_refusals(element: str, text: str) -> None:
    """At the line, with the reason."""
    kernel = kernel_of(element, [(text, "i32", shape_of(text))])
    a, b = numbers(element)
    with pytest.raises(tl.UserError) as found:
        kernel.on("ascend910b")(a, b, np.zeros(shape_of(text), np.int32))
    lines = str(found.value).splitlines()
    assert lines[0] == f"error[E0507]: {REFUSALS[element, text]}"
    assert "(0, " in lines[2]
    assert text in lines[2]
