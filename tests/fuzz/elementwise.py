"""Elementwise statements: arithmetic, functions, comparisons, conversions, and what simplifiers look for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tests.fuzz.generator import MOST, Generator, Statement, broadcast
from tests.fuzz.program import (
    FINEST,
    FLOATS,
    GREATEST,
    INTEGERS,
    PRECISION,
    SUBNORMAL,
    Shape,
    Value,
    bits_of,
    spelled,
)
from tilus.ir import functions

ULPS = {name: max((functions.UNARY | functions.BINARY)[name].ulps or ()) for name in (
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "rsqrt", "sin", "cos", "tanh", "sigmoid", "erf", "atan",
    "erfc", "sinh", "asinh", "atan2", "pow",
)}
"""The bounds of docs/functions.md, the larger of f32's and f64's; the interpreter is within half a unit."""


def common_grid(*values: Value) -> int | None:
    grids = [v.grid for v in values]
    return None if None in grids else min(g for g in grids if g is not None)


def binary(g: Generator) -> None:
    x = g.pick(lambda v: v.dtype != "bool")
    y = g.partner(x) if x else None
    if x is None or y is None:
        return
    if x.is_int:
        integer_binary(g, x, y)
    elif x.is_float:
        float_binary(g, x, y)


def integer_binary(g: Generator, x: Value, y: Value) -> None:
    op = g.random.choice(("+", "-", "*", "//", "%", "&", "|", "^", "<<", ">>", "min", "max"))
    text = f"tl.{op}imum({x.name}, {y.name})" if op in ("min", "max") else f"{x.name} {op} {y.name}"
    g.count(f"int {op}")
    g.made(text, x.dtype, broadcast(x.shape, y.shape))


def float_binary(g: Generator, x: Value, y: Value) -> None:
    op = g.random.choice(("+", "-", "*", "min", "max", "/", "copysign", "mod"))
    shape = broadcast(x.shape, y.shape)
    grid = common_grid(x, y)
    zeros = x.zeros and y.zeros
    both = x.determined and y.determined
    g.count(f"float {op}")
    if op in ("min", "max"):
        name = {"min": "minimum", "max": "maximum"}[op]
        g.new(f"tl.{name}({x.name}, {y.name})", Value("", x.dtype, shape, max(x.bound, y.bound), grid,
                                                      max(x.error, y.error), x.product or y.product, False))
    elif op in ("+", "-"):
        _sum(g, f"{x.name} {op} {y.name}", x, y, shape, grid, zeros)
    elif op == "*":
        product = None if x.grid is None or y.grid is None else x.grid + y.grid
        bound = x.bound * y.bound if x.finite and y.finite else math.inf
        if both:
            g.rounded(f"{x.name} * {y.name}", x.dtype, shape, bound, product, product=True, zeros=zeros)
        elif bound < math.inf:
            g.inexact(f"{x.name} * {y.name}", x.dtype, shape, bound,
                      x.bound * y.error + y.bound * x.error + x.error * y.error)
    elif op == "/" and both and zeros:
        g.rounded(f"{x.name} / {y.name}", x.dtype, shape, math.inf)
    elif op == "/" and x.finite and y.finite:
        g.inexact(f"{x.name} / (tl.abs({y.name}) + 1)", x.dtype, shape, x.bound,
                  x.error + x.bound * (y.error + 2.0 ** -PRECISION[x.dtype] * (y.bound + 1)), 0.5)
    elif op == "copysign" and both and zeros and y.finite:  # the sign of a NaN made by arithmetic is nobody's
        g.rounded(f"tl.copysign({x.name}, {y.name})", x.dtype, shape, x.bound, x.grid, product=x.product)
    elif op == "mod" and both and x.finite and y.finite:
        kind = g.random.choice(("%", "//", "fmod"))
        if kind == "//":
            g.rounded(f"tl.where({y.name} == 0, {x.name} * 0, {x.name}) // (tl.abs({y.name}) + 0.25)", x.dtype, shape,
                      math.inf, zeros=False)
            return
        text = f"tl.fmod({x.name}, {y.name})" if kind == "fmod" else f"{x.name} % {y.name}"
        g.rounded(text, x.dtype, shape, math.inf, zeros=False)


def _sum(g: Generator, text: str, x: Value, y: Value, shape: tuple[int, ...], grid: int | None, zeros: bool) -> None:
    bound = x.bound + y.bound
    if x.determined and y.determined and not (x.product or y.product):
        g.rounded(text, x.dtype, shape, bound, grid, zeros=zeros)
    elif bound < math.inf:
        unit = 2.0 ** -PRECISION[x.dtype]
        swallowed = sum(unit * v.bound for v in (x, y) if v.product)
        g.inexact(text, x.dtype, shape, bound, x.error + y.error + swallowed)


def fma(g: Generator) -> None:
    x = g.pick(lambda v: v.is_float and v.determined)
    y = g.pick(lambda v: x is not None and v.dtype == x.dtype and v.shape == x.shape and v.determined)
    z = g.pick(lambda v: x is not None and v.dtype == x.dtype and v.shape == x.shape and v.determined)
    if x is None or y is None or z is None:
        return
    g.count("fma")
    grids = (x.grid, y.grid, z.grid)
    grid = None if None in grids else min(x.grid + y.grid, z.grid)  # type: ignore[operator,type-var]
    finite = x.finite and y.finite and z.finite
    g.rounded(f"tl.fma({x.name}, {y.name}, {z.name})", x.dtype, x.shape,
              x.bound * y.bound + z.bound if finite else math.inf, grid, zeros=x.zeros and y.zeros and z.zeros)


FORMS = ("{x} * {y} + {z}", "{z} + {x} * {y}", "{x} * {y} - {z}", "{z} - {x} * {y}", "{z} - {x} * {y} - {x}",
         "{x} * {y} - {z} * {x}", "{x} + ({y} - {x}) * {z}", "({x} * {y} + {z}) * {x} - {y}", "{z} - {x} * {x}")
"""Scaling with an offset, differences of products, interpolation, polynomials, residuals."""


def multiply_add(g: Generator) -> None:
    """A formula of products and sums, which a compiler may contract to multiply-adds."""
    x = g.pick(lambda v: v.is_float and v.finite)
    y, z = (g.partner(x, lambda v: v.finite) if x else None for _ in range(2))
    if x is None or y is None or z is None:
        return
    shapes = broadcast(broadcast(x.shape, y.shape), x.shape), broadcast(x.shape, z.shape)
    if any(m != n and 1 not in (m, n) for m, n in zip(shapes[0][::-1], shapes[1][::-1], strict=False)):
        return
    names = {"x": x.name, "y": y.name, "z": z.name}
    form = g.random.choice(FORMS)
    result = formula(form, {"x": x, "y": y, "z": z}, broadcast(*shapes))
    if math.prod(result.shape) <= 2 * MOST and result.bound <= GREATEST[x.dtype] / 4:
        g.count("multiply-add")
        g.new(form.format(**names), result)


def formula(form: str, values: dict[str, Value], shape: Shape) -> Value:
    """What is known of a formula's value, every multiply-add of it contracted or not."""
    terms: dict[str, object] = {name: _Term.of(v) for name, v in values.items()}
    term: _Term = eval(form.replace("{", "").replace("}", ""), {}, terms)
    return Value("", term.dtype, shape, term.bound, term.grid, term.error, False, False)


@dataclass(frozen=True)
class _Term:
    """An intermediate value that has no name: exact on its grid, or within ``error``."""

    bound: float
    grid: int | None
    error: float
    dtype: str

    @staticmethod
    def of(x: Value) -> _Term:
        """A product's own rounding may be left out where it is added to."""
        swallowed = 2.0 ** -PRECISION[x.dtype] * x.bound if x.product else 0.0
        return _Term(x.bound, None if swallowed else x.grid, x.error + swallowed, x.dtype)

    def _rounded(self, bound: float, grid: int | None, error: float) -> _Term:
        """After a rounding, unless nothing is rounded."""
        fits = grid is not None and bound <= 2.0 ** (grid + PRECISION[self.dtype]) and grid >= FINEST[self.dtype]
        if fits and error == 0.0:
            return _Term(bound, grid, 0.0, self.dtype)
        unit = 2.0 ** -PRECISION[self.dtype]
        return _Term(bound, None, error + unit * (bound + error) + SUBNORMAL[self.dtype], self.dtype)

    def __mul__(self, other: _Term) -> _Term:
        grid = None if self.grid is None or other.grid is None else self.grid + other.grid
        return self._rounded(self.bound * other.bound, grid, self.bound * other.error + other.bound * self.error +
                             self.error * other.error)

    def __add__(self, other: _Term) -> _Term:
        grid = None if self.grid is None or other.grid is None else min(self.grid, other.grid)
        return self._rounded(self.bound + other.bound, grid, self.error + other.error)

    __sub__ = __add__


def literal(g: Generator) -> None:
    """An operation with a constant: what simplifiers look at."""
    x = g.pick(lambda v: v.dtype != "bool")
    if x is None:
        return
    g.count("literal")
    if x.is_int:
        c = g.random.choice((0, 0, 1, 1, 2, 3, 8, 16, 100, 127))
        op = g.random.choice(("+", "-", "*", "//", "%", "&", "|", "^", "<<", ">>"))
        g.made(f"{x.name} {op} {c}" if g.chance(0.6) else f"{c} {op} {x.name}", x.dtype, x.shape)
        return
    if not x.is_float:
        return
    op, c = g.random.choice((("+", 1.0), ("-", 0.0), ("*", 2.0), ("*", 0.5), ("*", 1.0), ("+", 0.0), ("*", -1.0)))
    if op == "*":
        grid = None if x.grid is None else x.grid + int(math.log2(abs(c)))
        if x.determined:
            g.rounded(f"{x.name} * {c}", x.dtype, x.shape, x.bound * abs(c), grid, product=True, zeros=x.zeros)
        elif x.finite:
            g.inexact(f"{x.name} * {c}", x.dtype, x.shape, x.bound * abs(c), x.error * abs(c))
    else:
        y = Value("", x.dtype, (), abs(c), 0)
        _sum(g, f"{x.name} {op} {c}", x, y, x.shape, common_grid(x, y), x.zeros)


def power(g: Generator) -> None:
    x = g.pick(lambda v: v.dtype != "bool" and (v.is_int or (v.is_float and v.determined)))
    if x is None:
        return
    exponent = g.random.choice((0, 1, 2, 3, 5))
    g.count("power")
    if x.is_int:
        g.made(f"{x.name} ** {exponent}", x.dtype, x.shape)
    elif x.is_float:
        bound = x.bound**exponent if x.finite and x.bound < 1e10 else math.inf
        g.rounded(f"{x.name} ** {exponent}", x.dtype, x.shape, max(1.0, bound),
                  None if x.grid is None else x.grid * exponent, product=True, zeros=x.zeros)


def folding(g: Generator) -> None:
    """What a simplifier can fold: constants that wrap, comparisons of indices at their edges, rearrangements of
    rearrangements, selections between constants."""
    x = g.pick_any(lambda v: len(v.shape) >= 2 and 0 not in v.shape)
    if x is None:
        return
    g.count("folding")
    kind = g.random.choice(("constants", "constants", "edge", "edge", "chain", "select", "twice"))
    shape = x.shape
    if kind == "constants":
        dtype = g.random.choice((*INTEGERS, "i8", "i8", "i8", "u8", "u8", "u8"))
        op = g.random.choice(("+", "+", "*", "*", "-", "-", "|", "//", "%", "<<", ">>"))
        a, b = g.random.choice((100, 127, 5)), g.random.choice((0, 1, 3, 100, 120))
        c = g.made(f"tl.full({shape}, {a}, tl.{dtype}) {op} tl.full({shape}, {b}, tl.{dtype})", dtype, shape)
        if dtype in ("u8", "i8", "u16"):
            g.made(f"{c.name}.to(tl.i64) * 3 - 7", "i64", shape)
    elif kind == "edge":
        axis = g.random.randrange(len(shape))
        n = shape[axis]
        limit = g.random.choice((0, 1, n - 3, n - 2, n - 1, n, n + 1, -1))
        op = g.random.choice(("<", "<=", ">", ">=", "==", "!="))
        index = f"tl.iota({shape}, {axis})"
        left = g.random.choice((index, index, f"({index} - {g.random.randint(0, 3)})", f"({n} - {index})",
                                f"({index} + g)", f"({index} // 2 * 2)", f"({index} % 4)", f"tl.minimum({index}, 2)"))
        g.moved(f"tl.where({left} {op} {limit}, {x.name}, tl.zeros({shape}, {spelled(x.dtype)}))", x, shape)
    elif kind == "select":
        a, b = g.random.choice((("True", "False"), ("False", "True")))
        mask = g.made(f"tl.where(tl.full({shape}, {a}, tl.bool) & tl.full({shape}, {b}, tl.bool), "
                      f"tl.iota({shape}, 0) > 1, tl.iota({shape}, 1) > 0)", "bool", shape)
        g.moved(f"tl.where({mask.name} {g.random.choice('&|^')} {a}, {x.name}, {x.name})", x, shape)
    elif kind == "twice" and x.is_int:
        op = g.random.choice(("-", "~"))
        g.made(f"{op}({op}{x.name}) - {x.name} + ({x.name} - ({x.name} & {x.name}))", x.dtype, shape)
    elif kind == "chain":
        first, second = list(range(len(shape))), list(range(len(shape)))
        g.random.shuffle(first)
        g.random.shuffle(second)
        target = tuple(shape[first[p]] for p in second)
        text = f"{x.name}.transpose{tuple(first)}.transpose{tuple(second)}"
        g.moved(f"{text}.reshape(-1).reshape{target}" if g.chance(0.5) else text, x, target)


def same_twice(g: Generator) -> None:
    """Two operations that differ in one attribute or the order of operands: not one common subexpression."""
    x = g.pick(lambda v: v.is_int and len(v.shape) >= 1)
    y = g.partner(x) if x else None
    if x is None or y is None:
        return
    g.count("similar pair")
    first, second = g.random.choice((
        (f"{x.name} - {y.name}", f"{y.name} - {x.name}"), (f"{x.name} // {y.name}", f"{y.name} // {x.name}"),
        (f"{x.name} << ({y.name} & 3)", f"({y.name} & 3) << {x.name}"),
        (f"{x.name} & {y.name}", f"{x.name} | {y.name}"),
    ))
    shape = broadcast(x.shape, y.shape)
    a, b = g.made(first, x.dtype, shape), g.made(second, x.dtype, shape)
    g.made(f"tl.where({x.name} < {y.name}, {a.name}, {b.name}) ^ tl.where({y.name} < {x.name}, {a.name}, {b.name})",
           x.dtype, shape)


def unary(g: Generator) -> None:
    x = g.pick()
    if x is None:
        return
    if x.dtype == "bool":
        g.made(f"~{x.name}", "bool", x.shape)
        return
    if x.is_int:
        op = g.random.choice(("-{}", "~{}", "tl.abs({})", "tl.popcount({})", "tl.clz({})"))
        g.count("int unary")
        g.made(op.format(x.name), x.dtype, x.shape)
        return
    if not x.is_float:
        return
    op = g.random.choice(("neg", "abs", "sqrt", "floor", "ceil", "round", "trunc", "isnan", "isinf", "isfinite", *ULPS))
    g.count(f"unary {op}")
    if op in ("neg", "abs"):
        g.moved(f"-{x.name}" if op == "neg" else f"tl.abs({x.name})", x, x.shape)
    elif op in ("floor", "ceil", "round", "trunc"):
        if x.determined:
            g.rounded(f"tl.{op}({x.name})", x.dtype, x.shape, x.bound + 1, 0, zeros=False)
    elif op in ("isnan", "isinf", "isfinite"):
        if x.determined:
            g.made(f"tl.{op}({x.name})", "bool", x.shape)
    elif op == "sqrt" and x.determined:
        g.rounded(f"tl.sqrt({x.name})", x.dtype, x.shape, math.inf, zeros=False)
    elif op in ULPS and x.finite:
        function(g, x, op)


def functions(g: Generator) -> None:
    x = g.pick(lambda v: v.is_float and v.finite)
    if x is not None:
        op = g.random.choice(tuple(ULPS))
        g.count(f"unary {op}")
        function(g, x, op)


def function(g: Generator, x: Value, op: str) -> None:
    """An elementary function of arguments that it is well conditioned on."""
    unit = 2.0 ** (1 - PRECISION[x.dtype])
    name, dtype, shape, error = x.name, x.dtype, x.shape, x.error
    ulps = ULPS[op] + 0.5  # two engines, each within its bound; the interpreter's is half a unit
    if dtype in ("f16", "bf16"):
        ulps = 1.0  # computed in f32 and rounded
    if op in ("exp", "exp2", "sinh", "expm1"):
        g.inexact(f"tl.{op}(tl.clamp({name}, -4.0, 4.0))", dtype, shape, 55.0, 55.0 * math.expm1(min(error, 8.0)), ulps)
    elif op in ("log", "log2", "log10", "rsqrt"):
        bound = {"log": math.log(x.bound + 2), "log2": math.log2(x.bound + 2), "log10": math.log10(x.bound + 2),
                 "rsqrt": 1.0}[op]
        g.inexact(f"tl.{op}(tl.abs({name}) + 1)", dtype, shape, bound, 1.5 * (error + unit * (x.bound + 1)), ulps)
    elif op == "log1p":
        g.inexact(f"tl.log1p(tl.abs({name}))", dtype, shape, math.log(x.bound + 2), error, ulps)
    elif op == "asinh":
        g.inexact(f"tl.asinh({name})", dtype, shape, math.log(2 * x.bound + 2), error, ulps)
    elif op in ("sin", "cos"):
        if x.bound < 1e4:
            g.inexact(f"tl.{op}({name})", dtype, shape, 1.0, error, ulps)
    elif op == "pow":
        g.inexact(f"tl.pow(tl.minimum(tl.abs({name}), 3) + 1, tl.full({shape}, 1.5, tl.{dtype}))", dtype, shape, 8.0,
                  3.0 * (error + 4 * unit), ulps)
    elif op == "atan2":
        g.inexact(f"tl.atan2({name}, tl.abs({name}) + 1)", dtype, shape, 1.0, 2 * error + unit * (x.bound + 1), ulps)
    else:
        g.inexact(f"tl.{op}({name})", dtype, shape, 2.0, 1.2 * error, ulps)


def cast(g: Generator) -> None:
    x = g.pick()
    if x is None:
        return
    to = g.random.choice((*g.dtypes, *g.dtypes, *FLOATS, *INTEGERS, "bool"))
    rounding = g.random.choice(("", "", "", "rz", "rm", "rp")) if x.is_float and to != "bool" else ""
    extra = f', rounding="{rounding}"' if rounding else ""
    g.count(f"cast {x.dtype if not x.is_int else 'int'} to {to if to not in INTEGERS else 'int'} {rounding}".rstrip())
    text = f"{x.name}.to(tl.{to}{extra})"
    if to in (*INTEGERS, "bool"):
        if x.determined:
            g.made(text, to, x.shape)
    elif x.is_float:
        if x.determined:
            g.rounded(text, to, x.shape, x.bound, x.grid, zeros=x.zeros)
        elif x.finite:
            g.inexact(text, to, x.shape, x.bound, x.error, 1.0)
    elif x.is_int:
        g.rounded(text, to, x.shape, 2.0 ** bits_of(x.dtype), 0)
    elif x.dtype == "bool":
        g.rounded(text, to, x.shape, 1.0, 0)


def storage(g: Generator) -> None:
    """To a narrow type and back: the conversions of storage types."""
    x = g.pick(lambda v: v.dtype != "bool" and v.determined)
    if x is None:
        return
    if x.is_float:
        narrow = g.random.choice((*g.stored, "f8e4m3fn", "f8e5m2", "f6e3m2", "f6e2m3", "f4e2m1", "tf32", "i4", "u3",
                                  "i7"))
        if narrow == "tf32" and x.dtype != "f32":
            return
    else:
        narrow = g.random.choice((*g.stored, "i4", "u3", "i7", "u1", "i2", "u5"))
    back = x.dtype if x.is_float or g.chance(0.7) else g.random.choice(FLOATS[:3])
    g.count(f"storage {narrow}")
    text = f"{x.name}.to({spelled(narrow)}).to(tl.{back})"
    if back in FLOATS:
        g.rounded(text, back, x.shape, math.inf, zeros=False)
    else:
        g.made(text, back, x.shape)


def bitcast(g: Generator) -> None:
    x = g.pick(lambda v: v.is_int or (v.is_float and v.determined and v.finite and v.zeros))
    if x is None:
        return
    bits = bits_of(x.dtype)
    to = g.random.choice([t for t in (*INTEGERS, *FLOATS) if bits_of(t) == bits and t != x.dtype])
    g.count("bitcast")
    g.new(f"{x.name}.bitcast(tl.{to})", Value("", to, x.shape, zeros=False))


def compare(g: Generator) -> None:
    x = g.pick_any(lambda v: v.determined)
    y = g.partner(x, lambda v: v.determined) if x else None
    if x is None or y is None:
        return
    op = g.random.choice(("<", "<=", "==", "!=", ">", ">=") if x.is_int or x.is_float else ("==", "!="))
    g.count("compare")
    right = y.name if g.chance(0.8) or not x.is_int else str(g.random.choice((0, 1, 5)))
    shape = broadcast(x.shape, y.shape) if right == y.name else x.shape
    g.made(f"{x.name} {op} {right}", "bool", shape)


def logic(g: Generator) -> None:
    x = g.pick(lambda v: v.dtype == "bool")
    y = g.partner(x) if x else None
    if x is None or y is None:
        return
    g.count("logic")
    g.made(f"{x.name} {g.random.choice('&|^')} {y.name}", "bool", broadcast(x.shape, y.shape))


def where(g: Generator) -> None:
    condition = g.pick(lambda v: v.dtype == "bool")
    if condition is None:
        compare(g)
        return
    x = g.pick_any(lambda v: v.shape == condition.shape) or g.pick_any(lambda v: v.dtype != "bool" and v.shape == ())
    y = g.partner(x, lambda v: broadcast(v.shape, condition.shape) == condition.shape) if x else None
    if x is None or y is None:
        return
    shape = broadcast(broadcast(condition.shape, x.shape), y.shape)
    g.count("where")
    g.new(f"tl.where({condition.name}, {x.name}, {y.name})",
          Value("", x.dtype, shape, max(x.bound, y.bound), common_grid(x, y), max(x.error, y.error),
                x.product or y.product, x.zeros and y.zeros))


def mixed(g: Generator) -> None:
    """Operands of two types, which meet by promotion."""
    x = g.pick(lambda v: v.is_int)
    y = g.pick(lambda v: x is not None and v.is_int and v.shape == x.shape and v.dtype != x.dtype)
    if x is None or y is None or "u64" in (x.dtype, y.dtype):
        return
    wide = promoted(x.dtype, y.dtype)
    if wide is None:
        return
    g.count("promotion")
    op = g.random.choice(("+", "-", "*", "&", "//", "/"))
    if op == "/":
        g.rounded(f"{x.name} / {y.name}", "f32", x.shape, math.inf, zeros=False)
    else:
        g.made(f"{x.name} {op} {y.name}", wide, x.shape)


def promoted(a: str, b: str) -> str | None:
    """The type that two integer types meet in."""
    if a[0] == b[0]:
        return a if bits_of(a) > bits_of(b) else b
    signed, unsigned = (a, b) if a[0] == "i" else (b, a)
    if bits_of(signed) > bits_of(unsigned):
        return signed
    return f"i{2 * bits_of(unsigned)}" if bits_of(unsigned) < 64 else None


def philox(g: Generator) -> None:
    x = g.pick(lambda v: v.is_int and v.shape != ())
    if x is None:
        return
    g.count("philox")
    seed = g.random.choice(("7", "n", "m", "g"))
    kind = g.random.choice(("bits", "rand", "randint"))
    if kind == "rand":
        g.rounded(f"tl.random.rand({seed}, {x.name})", "f32", x.shape, 1.0, -24)
    elif kind == "bits":
        g.made(f"tl.random.bits({seed}, {x.name})", "u32", x.shape)
    else:
        g.made(f"tl.random.randint({seed}, {x.name}, -5, 100)", "i32", x.shape)


def limits(g: Generator) -> None:
    """Values that reach the ends of their type: where narrowing of integers goes wrong."""
    x = g.pick(lambda v: v.is_int and v.shape != () and 0 not in v.shape)
    if x is None:
        return
    g.count("limits")
    scale = g.random.choice(("m", "1000003", "(n + 1) * 1000000007"))
    g.made(f"(tl.iota({x.shape}, 0) * {scale} + g) // {g.random.choice((1, 3, -7, 16, 1 << 20))} "
           f"% {g.random.choice((5, 64, -9, 1 << 33))}", "i64", x.shape)


assert all(t in GREATEST for t in FLOATS)
STATEMENTS: list[tuple[Statement, float]] = [
    (binary, 10), (multiply_add, 2), (fma, 1), (literal, 3), (power, 0.5), (folding, 4), (same_twice, 0.7), (unary, 3),
    (functions, 2), (cast, 3), (storage, 1), (bitcast, 0.7), (compare, 2), (logic, 1), (where, 3), (mixed, 1),
    (philox, 0.3), (limits, 0.5),
]
