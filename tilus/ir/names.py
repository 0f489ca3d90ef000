"""Names of users in generated code: what C++ and PTX accept."""

from __future__ import annotations

import re

CPP_WORDS = frozenset((
    "alignas", "alignof", "and", "and_eq", "asm", "auto", "bitand", "bitor", "bool", "break", "case", "catch",
    "char", "char16_t", "char32_t", "char8_t", "class", "co_await", "co_return", "co_yield", "compl", "concept",
    "const", "const_cast", "consteval", "constexpr", "constinit", "continue", "decltype", "default", "delete", "do",
    "double", "dynamic_cast", "else", "enum", "explicit", "export", "extern", "false", "float", "for", "friend",
    "goto", "if", "inline", "int", "long", "mutable", "namespace", "new", "noexcept", "not", "not_eq", "nullptr",
    "operator", "or", "or_eq", "private", "protected", "public", "register", "reinterpret_cast", "requires",
    "return", "short", "signed", "sizeof", "static", "static_assert", "static_cast", "struct", "switch", "template",
    "this", "thread_local", "throw", "true", "try", "typedef", "typeid", "typename", "union", "unsigned", "using",
    "virtual", "void", "volatile", "wchar_t", "while", "xor", "xor_eq",
))
"""The words of C++ that are no names."""

C_WORDS = frozenset((
    "EOF", "I", "INFINITY", "NAN", "NULL", "assert", "complex", "constexpr", "errno", "i386", "imaginary", "linux",
    "noreturn", "offsetof", "restrict", "stderr", "stdin", "stdout", "typeof", "typeof_unqual", "unix",
))
"""Words of C beyond those of C++, and macros of its usual headers and of compilers."""

_VECTORS = tuple(
    f"{make}{stem}{count}" for make in ("", "make_") for count in range(1, 5)
    for stem in ("char", "uchar", "short", "ushort", "int", "uint", "longlong", "ulonglong", "float", "double"))
DEVICE_NAMES = frozenset((
    *_VECTORS, "ceilf", "copysign", "copysignf", "fabsf", "floorf", "fmax", "fmaxf", "fmin", "fminf", "rintf", "truncf",
    "abs", "atan2", "barrier", "blockDim", "blockIdx", "ceil", "cos", "exp", "exp2", "fabs", "floor", "fma", "fmod",
    "gridDim", "half", "log", "log2", "main", "malloc", "max", "memcpy", "memset", "min", "pow", "printf", "ptx",
    "rint", "round", "rsqrt", "shared_base", "shared_memory", "sin", "sqrt", "tan", "tanh", "threadIdx", "trunc",
    "warpSize",
))
"""What means something else in CUDA C, or in the code that is generated."""

_BOTH_WIDTHS = (
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "copysign", "cos", "cosh", "cospi",
    "cyl_bessel_i0", "cyl_bessel_i1", "erf", "erfc", "erfcinv", "erfcx", "erfinv", "exp", "exp10", "exp2", "expm1",
    "fabs", "fdim", "fdivide", "floor", "fma", "fmax", "fmin", "fmod", "frexp", "hypot", "ilogb", "j0", "j1", "jn",
    "ldexp", "lgamma", "llrint", "llround", "log", "log10", "log1p", "log2", "logb", "lrint", "lround", "modf", "nan",
    "nearbyint", "nextafter", "norm", "norm3d", "norm4d", "normcdf", "normcdfinv", "pow", "rcbrt", "remainder",
    "remquo", "rhypot", "rint", "rnorm", "rnorm3d", "rnorm4d", "round", "rsqrt", "scalbln", "scalbn", "sin", "sincos",
    "sincospi", "sinh", "sinpi", "sqrt", "tan", "tanh", "tgamma", "trunc", "y0", "y1", "yn",
)
CUDA_FUNCTIONS = frozenset((
    *_BOTH_WIDTHS, *(f"{name}f" for name in _BOTH_WIDTHS), "clock", "clock64", "free", "isfinite", "isinf",
    "isnan", "labs", "llabs", "llmax", "llmin", "ptrdiff_t", "signbit", "size_t", "ullmax", "ullmin", "umax", "umin",
    "va_arg", "va_copy", "va_end", "va_start",
))
"""What CUDA C declares before any header: a kernel cannot have these names, a variable that hides them can."""


def c_name(name: str) -> str:
    """A name of Python as a variable of C or C++."""
    spelled = re.sub(r"[^0-9A-Za-z_]", "_", name)
    return f"{spelled}_" if spelled in CPP_WORDS else spelled


def kernel_symbol(name: str) -> str:
    """The symbol of a kernel that the user calls ``name``."""
    symbol = c_name(name)
    return f"{symbol}_" if symbol in DEVICE_NAMES or symbol in CUDA_FUNCTIONS else symbol
