"""Generates ``tilus/lowering/math/tables.py``: polynomial coefficients of the elementary functions.

Each polynomial interpolates its function, in 60 digits, at the Chebyshev nodes of its interval, which comes within
a small factor of the minimax error. Run ``python tools/fit_math.py > tilus/lowering/math/tables.py``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import mpmath as mp

mp.mp.dps = 60


def fit(g: Callable[[mp.mpf], mp.mpf], low: float, high: float, degree: int) -> list[float]:
    """Coefficients of the interpolating polynomial, the constant first."""
    a, b, n = mp.mpf(low), mp.mpf(high), degree + 1
    nodes = [(a + b) / 2 + (b - a) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * n)) for i in range(n)]
    matrix = mp.matrix(n, n)
    for i, x in enumerate(nodes):
        for j in range(n):
            matrix[i, j] = x**j
    solution = mp.lu_solve(matrix, mp.matrix([g(x) for x in nodes]))
    return [float(c) for c in solution]


def fit_weighted(g: Callable[[mp.mpf], mp.mpf], low: float, high: float, degree: int,
                 weight: Callable[[mp.mpf], mp.mpf]) -> list[float]:
    """Coefficients of the polynomial whose error times ``weight`` has the least squares, the constant first."""
    a, b, n = mp.mpf(low), mp.mpf(high), 10 * degree
    nodes = [(a + b) / 2 + (b - a) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * n)) for i in range(n)]
    matrix = mp.matrix([[weight(x) * x**j for j in range(degree + 1)] for x in nodes])
    return [float(c) for c in mp.lu_solve(matrix, mp.matrix([weight(x) * g(x) for x in nodes]))]


def near_zero(g: Callable[[mp.mpf], mp.mpf], limit: mp.mpf) -> Callable[[mp.mpf], mp.mpf]:
    """``g``, with the singularity at 0 removed: close to it the value at ``limit`` is meant."""
    return lambda x: g(x if abs(x) > mp.mpf(10) ** -25 else limit)


TINY = mp.mpf(10) ** -20


def exp_tail(r: mp.mpf) -> mp.mpf:
    """(exp(r) - 1 - r) / r²"""
    return (mp.exp(r) - 1 - r) / r**2


def exp2_tail(r: mp.mpf) -> mp.mpf:
    """(2^r - 1) / r"""
    return (mp.mpf(2) ** r - 1) / r


def log_tail(z: mp.mpf) -> mp.mpf:
    """(log((1+s)/(1-s)) - 2s) / s³ with z = s²"""
    s = mp.sqrt(z)
    return (mp.log((1 + s) / (1 - s)) - 2 * s) / s**3


def log_tail5(z: mp.mpf) -> mp.mpf:
    """(log((1+s)/(1-s)) - 2s - 2s³/3) / s⁵ with z = s²"""
    s = mp.sqrt(z)
    return (mp.log((1 + s) / (1 - s)) - 2 * s - 2 * s**3 / 3) / s**5


def sin_tail(z: mp.mpf) -> mp.mpf:
    """(sin(r) - r) / r³ with z = r²"""
    r = mp.sqrt(z)
    return (mp.sin(r) - r) / r**3


def cos_tail(z: mp.mpf) -> mp.mpf:
    """(cos(r) - 1 + r²/2) / r⁴ with z = r²"""
    r = mp.sqrt(z)
    return (mp.cos(r) - 1 + z / 2) / z**2


def atan_tail(z: mp.mpf) -> mp.mpf:
    """(atan(t) - t) / t³ with z = t²"""
    t = mp.sqrt(z)
    return (mp.atan(t) - t) / t**3


def asin_tail(z: mp.mpf) -> mp.mpf:
    """(asin(t) - t) / t³ with z = t²"""
    t = mp.sqrt(z)
    return (mp.asin(t) - t) / t**3


def erf_tail(z: mp.mpf) -> mp.mpf:
    """erf(x) / x - 2/√π with z = x², divided by z"""
    x = mp.sqrt(z)
    return (mp.erf(x) / x - 2 / mp.sqrt(mp.pi)) / z


def erfc_exponent(x: mp.mpf) -> mp.mpf:
    """log₂ erfc(x)"""
    return mp.log(mp.erfc(x), 2)


def erfc_scaled(scale: float) -> Callable[[mp.mpf], mp.mpf]:
    """(1 + 2x) exp(x²) erfc(x) as a function of t = (x - scale) / (x + scale)."""
    def g(t: mp.mpf) -> mp.mpf:
        x = mp.mpf(scale) * (1 + t) / (1 - t)
        return (1 + 2 * x) * mp.exp(x * x) * mp.erfc(x)

    return g


def erfc_of_reciprocal(t: mp.mpf) -> mp.mpf:
    """exp(x²) erfc(x) / t with t = 1 / (1 + x/2)"""
    x = 2 * (1 / t - 1)
    return mp.exp(x * x) * mp.erfc(x) / t


def log1p_quotient(f: mp.mpf) -> mp.mpf:
    """log(1 + f) / f"""
    return mp.log1p(f) / f


def table() -> dict[str, list[float]]:
    half_ln2 = float(mp.log(2) / 2) * 1.0001
    s2 = float(((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2) * 1.0001
    quarter = float((mp.pi / 4) ** 2) * 1.0001
    eighth = float(mp.tan(mp.pi / 8) ** 2) * 1.0001
    out: dict[str, list[float]] = {}
    for name, g, low, high, (single, double) in (
        ("EXP", near_zero(exp_tail, TINY), -half_ln2, half_ln2, (4, 10)),
        ("EXP2", near_zero(exp2_tail, TINY), -0.5001, 0.5001, (5, 12)),
        ("LOG", near_zero(log_tail, TINY), 0, s2, (3, 7)),
        ("LOG5", near_zero(log_tail5, TINY), 0, s2, (2, 7)),
        ("SIN", near_zero(sin_tail, TINY), 0, quarter, (2, 5)),
        ("COS", near_zero(cos_tail, TINY), 0, quarter, (2, 5)),
        ("ATAN", near_zero(atan_tail, TINY), 0, eighth, (4, 10)),
        ("ASIN", near_zero(asin_tail, TINY), 0, 0.2501, (4, 12)),
        ("ERF", near_zero(erf_tail, TINY), 0, 1.0001, (6, 13)),
    ):
        out[f"{name}_F32"] = fit(g, low, high, single)
        out[f"{name}_F64"] = fit(g, low, high, double)
    out["EXP_F32"] = fit_weighted(near_zero(exp_tail, TINY), -half_ln2, half_ln2, 4,
                                  lambda r: abs(r) ** 1.5 / mp.exp(r))  # so that exp stays below one ulp
    out["EXP2_APPROXIMATE_F32"] = fit_weighted(near_zero(exp2_tail, TINY), -0.5001, 0.5001, 4,
                                               lambda r: abs(r) / mp.mpf(2) ** r)
    for name, scale, top, degree in (("ERFC_F32", 2.0, 10.6, 11), ("ERFC_F64", 4.0, 27.5, 23)):
        out[name] = fit(erfc_scaled(scale), -1, (top - scale) / (top + scale), degree)
    out["ERFC_EXPONENT_F32"] = fit_weighted(erfc_exponent, 1, 4, 6, mp.erfc)
    out["ERFC_HALF"] = fit(erfc_of_reciprocal, 1 / 6.1, 1, 6)
    out["ERF_HALF"] = fit(near_zero(erf_tail, TINY), 0, 0.2501, 2)
    out["LOG1P_HALF"] = fit(near_zero(log1p_quotient, TINY), -0.1251, 0.1251, 5)
    return out


def single(x: mp.mpf) -> float:
    """The nearest f32."""
    return float(struct.unpack("f", struct.pack("f", float(x)))[0])


def centre_near(g: Callable[[mp.mpf], mp.mpf], x: float, tries: int = 400) -> float:
    """An f32 close to ``x`` at which the function is all but an f32 (Gal, 1986)."""
    first = struct.unpack("I", struct.pack("f", x))[0]
    found = [float(struct.unpack("f", struct.pack("I", first + i))[0]) for i in range(tries)]
    return min(found, key=lambda c: abs(g(mp.mpf(c)) - single(g(mp.mpf(c)))))


def pieces(g: Callable[[mp.mpf], mp.mpf], at_0: float, rest: float | None, width: float, count: int,
           degree: int) -> list[list[float]]:
    """Polynomials of an odd function about ``count`` multiples of ``width``: the centres, values there, slopes, and the
    coefficients of the rest of the quotient of differences. Either the slopes are all ``at_0``, that at 0 as an f32, or
    the constant coefficients of the rests are ``rest``, what that lacks."""
    def tail(z: mp.mpf) -> mp.mpf:
        x = mp.sqrt(z)
        return g(x) / x - at_0

    half = mp.mpf(width) / 2 * 1.01
    even = fit(near_zero(tail, TINY), 0, half**2, (degree - 1) // 2)
    rows = [[0.0, 0.0, at_0, *(even[k // 2] if k % 2 == 0 else 0.0 for k in range(degree))]]
    for i in range(1, count):
        c = mp.mpf(centre_near(g, i * width))
        slope = at_0 if rest is None else single(mp.diff(g, c) - rest)

        def quotient(d: mp.mpf, c: mp.mpf = c, slope: float = slope) -> mp.mpf:
            return (g(c + d) - g(c)) / d - slope

        rows.append([float(c), float(g(c)), slope, *fit(near_zero(quotient, TINY), -half, half, degree - 1)])
    for row in rows:
        row[3] = row[3] if rest is None else rest
    return [list(column) for column in zip(*rows, strict=True)]


def words_of_two_over_pi(count: int) -> list[int]:
    """The bits of 2/π after the point, in words of 64."""
    mp.mp.prec = 64 * count + 128
    scaled = int(mp.floor(mp.ldexp(2 / mp.pi, 64 * count)))
    return [(scaled >> (64 * (count - 1 - i))) & ((1 << 64) - 1) for i in range(count)]


def main() -> None:
    print('"""Coefficients of the elementary functions, the constant term first. Generated by tools/fit_math.py, which')
    print('says what each polynomial approximates."""')
    print("\nfrom __future__ import annotations\n")
    for name, values in table().items():
        print(f"{name} = (")
        for value in values:
            print(f"    {value!r},")
        print(")")
    slope = single(2 / mp.sqrt(mp.pi))
    for name, g, at_0, rest, top, count in (
        ("ERF", mp.erf, slope, float(2 / mp.sqrt(mp.pi) - slope), 3.95, 16), ("TANH", mp.tanh, 1.0, None, 9.1, 32),
    ):
        width = top / (count - 0.51)
        print(f"{name}_TOP, {name}_WIDTH = {top}, {width}")
        print(f"{name}_PIECES = (")
        for row in pieces(g, at_0, rest, width, count, 6):
            print("    (")
            for i in range(0, count, 4):
                print("        " + " ".join(f"{single(mp.mpf(value))!r}," for value in row[i : i + 4]))
            print("    ),")
        print(")")
        print(f'"""f32 in {count} intervals: rows of centres, values, slopes, and coefficients of the rest."""')
    print("TWO_OVER_PI = (")
    for word in words_of_two_over_pi(20):
        print(f"    0x{word:016X},")
    print(")")
    print('"""The bits of 2/π after the point, in words of 64."""')


if __name__ == "__main__":
    main()
