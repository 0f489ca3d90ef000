"""Device functions that generated CUDA C uses; only those that a kernel calls are printed.

Everything is built on inline PTX, since NVRTC comes without headers. Two f16 or bf16 values share a 32-bit register.
"""

from __future__ import annotations

PRELUDE_FILE = "/tilus/prelude.cu"
"""What line information calls the file of these functions."""
_D = "__device__ __forceinline__"


def _conversions() -> dict[str, str]:
    return {
        "f16_to_f32": f"{_D} float f16_to_f32(unsigned short x) {{ float r; asm(\"cvt.f32.f16 %0, %1;\" : \"=f\"(r) : "
                      "\"h\"(x)); return r; }",
        "f32_to_f16": f"{_D} unsigned short f32_to_f16(float x) {{ unsigned short r; asm(\"cvt.rn.f16.f32 %0, %1;\" : "
                      "\"=h\"(r) : \"f\"(x)); return r; }",
        "f64_to_f16": f"{_D} unsigned short f64_to_f16(double x) {{ unsigned short r; asm(\"cvt.rn.f16.f64 %0, %1;\" : "
                      "\"=h\"(r) : \"d\"(x)); return r; }",
        "bf16_to_f32": f"{_D} float bf16_to_f32(unsigned short x) {{ return __uint_as_float((unsigned)x << 16); }}",
        "f32_to_bf16": f"""{_D} unsigned short f32_to_bf16(float x) {{
#if __CUDA_ARCH__ >= 800
  unsigned short r; asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(x)); return r;
#else
  unsigned u = __float_as_uint(x);
  if (x != x) return 0x7fff;
  return (unsigned short)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
#endif
}}""",
        "pack_f16": f"""{_D} unsigned pack_f16(float lo, float hi) {{
#if __CUDA_ARCH__ >= 800
  unsigned r; asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo)); return r;
#else
  unsigned r; asm("{{ .reg .b16 a, b; cvt.rn.f16.f32 a, %1; cvt.rn.f16.f32 b, %2; mov.b32 %0, {{a, b}}; }}"
                  : "=r"(r) : "f"(lo), "f"(hi)); return r;
#endif
}}""",
        "pack_bf16": f"""{_D} unsigned pack_bf16(float lo, float hi) {{
#if __CUDA_ARCH__ >= 800
  unsigned r; asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo)); return r;
#else
  return (unsigned)f32_to_bf16(lo) | ((unsigned)f32_to_bf16(hi) << 16);
#endif
}}""",
    }


def _conversions_of_bytes() -> dict[str, str]:
    """8-bit floats, two at a time."""
    out = {}
    for name in ("e4m3", "e5m2"):
        out[f"{name}x2_to_f16x2"] = (
            f"{_D} unsigned {name}x2_to_f16x2(unsigned x) {{ unsigned r; asm(\"cvt.rn.f16x2.{name}x2 %0, %1;\" : "
            "\"=r\"(r) : \"h\"((unsigned short)x)); return r; }")
        out[f"f32_to_{name}x2"] = (
            f"{_D} unsigned f32_to_{name}x2(float lo, float hi) {{ unsigned short r; "
            f"asm(\"cvt.rn.satfinite.{name}x2.f32 %0, %1, %2;\" : \"=h\"(r) : \"f\"(hi), \"f\"(lo)); return r; }}")
    return out


def _packed_arithmetic() -> dict[str, str]:
    out = {}
    for name in ("add", "sub", "mul"):
        out[f"f16x2_{name}"] = (f"{_D} unsigned f16x2_{name}(unsigned a, unsigned b) {{ unsigned r; asm(\"{name}.rn.f16x2 "
                                "%0, %1, %2;\" : \"=r\"(r) : \"r\"(a), \"r\"(b)); return r; }")
    out["f16x2_fma"] = (f"{_D} unsigned f16x2_fma(unsigned a, unsigned b, unsigned c) {{ unsigned r; asm(\"fma.rn.f16x2 %0, "
                        "%1, %2, %3;\" : \"=r\"(r) : \"r\"(a), \"r\"(b), \"r\"(c)); return r; }")
    return out


# Addresses of shared memory are a register and a constant: left to itself, the compiler keeps the sums in registers.

_AT = "template <int AT> "


def _shared_access() -> dict[str, str]:
    out = {}
    for suffix, ctype, constraint, width in (("u8", "unsigned", "r", "u8"), ("u16", "unsigned short", "h", "u16"),
                                             ("u32", "unsigned", "r", "u32"), ("f32", "float", "f", "f32"),
                                             ("u64", "unsigned long long", "l", "u64"), ("f64", "double", "d", "f64")):
        out[f"lds_{suffix}"] = (f"{_AT}{_D} {ctype} lds_{suffix}(unsigned a) {{ {ctype} r; asm volatile(\"ld.shared.{width} %0, "
                                f"[%1 + %2];\" : \"={constraint}\"(r) : \"r\"(a), \"n\"(AT) : \"memory\"); return r; }}")
        out[f"sts_{suffix}"] = (f"{_AT}{_D} void sts_{suffix}(unsigned a, {ctype} x) {{ asm volatile(\"st.shared.{width} [%0 + %2]"
                                f", %1;\" :: \"r\"(a), \"{constraint}\"(x), \"n\"(AT) : \"memory\"); }}")
    for count in (2, 4):
        parts = "xyzw"[:count]
        places = ", ".join(f"%{n}" for n in range(count))
        results = ", ".join(f"\"=r\"(r.{c})" for c in parts)
        out[f"lds_v{count}"] = (f"{_AT}{_D} uint{count} lds_v{count}(unsigned a) {{ uint{count} r; asm volatile(\"ld.shared.v{count}."
                                f"u32 {{{places}}}, [%{count} + %{count + 1}];\" : {results} : \"r\"(a), \"n\"(AT) : \"memory\");"
                                " return r; }")
        params = ", ".join(f"unsigned {c}" for c in parts)
        places = ", ".join(f"%{n + 2}" for n in range(count))
        values = ", ".join(f"\"r\"({c})" for c in parts)
        out[f"sts_v{count}"] = (f"{_AT}{_D} void sts_v{count}(unsigned a, {params}) {{ asm volatile(\"st.shared.v{count}.u32 [%0 + %1],"
                                f" {{{places}}};\" :: \"r\"(a), \"n\"(AT), {values} : \"memory\"); }}")
        places = ", ".join(f"%{n + 1}" for n in range(count))
        out[f"stg_v{count}"] = (f"{_D} void stg_v{count}(void* a, {params}) {{ asm volatile(\"st.global.v{count}.u32 [%0], "
                                f"{{{places}}};\" :: \"l\"(__cvta_generic_to_global(a)), {values} : \"memory\"); }}")
    return out


def _matrices() -> dict[str, str]:
    out = {}
    for count in (1, 2, 4):
        for trans in ("", "_trans"):
            names = "abcd"[:count]
            params = ", ".join(f"unsigned& {c}" for c in names)
            places = ", ".join(f"%{n}" for n in range(count))
            results = ", ".join(f"\"=r\"({c})" for c in names)
            dot = ".trans" if trans else ""
            out[f"ldmatrix_x{count}{trans}"] = (
                f"{_AT}{_D} void ldmatrix_x{count}{trans}({params}, unsigned p) {{ asm volatile(\"ldmatrix.sync.aligned.m8n8."
                f"x{count}{dot}.shared.b16 {{{places}}}, [%{count} + %{count + 1}];\" : {results} : \"r\"(p), \"n\"(AT) : "
                "\"memory\"); }")
            params = ", ".join(f"unsigned {c}" for c in names)
            places = ", ".join(f"%{n + 2}" for n in range(count))
            values = ", ".join(f"\"r\"({c})" for c in names)
            out[f"stmatrix_x{count}{trans}"] = (
                f"{_AT}{_D} void stmatrix_x{count}{trans}(unsigned p, {params}) {{ asm volatile(\"stmatrix.sync.aligned.m8n8."
                f"x{count}{dot}.shared.b16 [%0 + %1], {{{places}}};\" :: \"r\"(p), \"n\"(AT), {values} : \"memory\"); }}")
    return out


def _copies() -> dict[str, str]:
    out = {}
    for size in (4, 8, 16):
        cache = "cg" if size == 16 else "ca"
        out[f"cp_async_{size}"] = (f"{_AT}{_D} void cp_async_{size}(unsigned d, const void* s) {{ asm volatile(\"cp.async.{cache}."
                                   f"shared.global [%0 + %2], [%1], {size};\" :: \"r\"(d), \"l\"(__cvta_generic_to_global(s)), "
                                   "\"n\"(AT) : \"memory\"); }")
        out[f"cp_async_{size}_if"] = (
            f"{_AT}{_D} void cp_async_{size}_if(unsigned d, const void* s, bool p) {{ asm volatile(\"{{ .reg .pred q; setp.eq.u32 q, "
            f"%2, 0; cp.async.{cache}.shared.global [%0 + %3], [%1], {size}, q; }}\" :: \"r\"(d), "
            "\"l\"(__cvta_generic_to_global(s)), \"r\"((unsigned)p), \"n\"(AT) : \"memory\"); }")
    out["cp_async_commit"] = f"{_D} void cp_async_commit() {{ asm volatile(\"cp.async.commit_group;\" ::: \"memory\"); }}"
    out["cp_async_wait"] = (f"template <int N> {_D} void cp_async_wait() {{ asm volatile(\"cp.async.wait_group %0;\" :: \"n\"(N)"
                            " : \"memory\"); }")
    out["barrier"] = (f"{_D} void barrier(int id, int threads) {{ asm volatile(\"bar.sync %0, %1;\" :: \"r\"(id), "
                      "\"r\"(threads) : \"memory\"); }")
    out["barrier_arrive"] = (f"{_D} void barrier_arrive(int id, int threads) {{ asm volatile(\"bar.arrive %0, %1;\" :: \"r\"(id)"
                             ", \"r\"(threads) : \"memory\"); }")
    return out


def mma_function(name: str, instruction: str, a: int, b: int, c: int, operand: str, accumulator: str, held: str) -> str:
    """The wrapper of one mma.sync: ``a``, ``b``, ``c`` are numbers of registers; constraints ``r``, ``f`` or ``d``;
    ``held`` the C type of an accumulator. The accumulator is changed in place: NVRTC takes long over more operands."""
    ctype = {"r": "unsigned", "f": "float", "d": "double"}
    params = [f"{held}& c{i}" for i in range(c)]
    params += [f"{ctype[operand]} a{i}" for i in range(a)] + [f"{ctype[operand]} b{i}" for i in range(b)]
    at = iter(range(100))
    groups = [", ".join(f"%{next(at)}" for _ in range(n)) for n in (c, a, b)]
    outs = ", ".join(f"\"+{accumulator}\"(c{i})" for i in range(c))
    ins = ", ".join([f"\"{operand}\"(a{i})" for i in range(a)] + [f"\"{operand}\"(b{i})" for i in range(b)])
    return (f"{_D} void {name}({', '.join(params)}) {{\n  asm volatile(\"{instruction} {{{groups[0]}}}, {{{groups[1]}}}, "
            f"{{{groups[2]}}}, {{{groups[0]}}};\"\n    : {outs}\n    : {ins});\n}}")


def _approximations() -> dict[str, str]:
    found = {}
    for kind in ("ex2", "lg2", "rcp", "rsqrt", "sqrt", "sin", "cos", "tanh"):
        for ftz in ("", "_ftz") if kind != "tanh" else ("",):
            name, instruction = f"approx_{kind}{ftz}", f"{kind}.approx{ftz.replace('_', '.')}.f32"
            found[name] = (f"{_D} float {name}(float x) {{ float r; asm(\"{instruction} %0, %1;\" : \"=f\"(r) : "
                           "\"f\"(x)); return r; }")
    return found


FUNCTIONS: dict[str, str] = {
    **_conversions(), **_conversions_of_bytes(), **_packed_arithmetic(), **_shared_access(), **_matrices(), **_copies(), **_approximations(),
    "at_byte": "template <class T> " + _D + " T* at_byte(T* p, long long offset) { return (T*)((const char*)p + offset); }",
    "floordiv": "template <class T> " + _D + " T floordiv(T a, T b) { if (b == 0) return 0; if (b == (T)-1 && (T)-1 < 0) return "
                "(T)(0 - (unsigned long long)a); T q = a / b; return q - ((a % b != 0) & ((a < 0) != (b < 0))); }",
    "floormod": "template <class T> " + _D + " T floormod(T a, T b) { if (b == 0) return a; if (b == (T)-1 && (T)-1 < 0) return 0; "
                "T r = a % b; return r + (((r != 0) & ((r < 0) != (b < 0))) ? b : 0); }",
    "shift_left": "template <class T> " + _D + " T shift_left(T a, T b) { return (unsigned long long)b >= 8 * sizeof(T) ? T(0) : "
                  "T((unsigned long long)a << b); }",
    "shift_right": "template <class T> " + _D + " T shift_right(T a, T b) { return (unsigned long long)b >= 8 * sizeof(T) ? T(a < 0 ? "
                   "-1 : 0) : T(a >> b); }",
}

DEPENDENCIES = {"pack_bf16": ("f32_to_bf16",)}
