"""Device functions that generated CUDA C uses; only those that a kernel calls are printed.

Everything is built on inline PTX, since NVRTC comes without headers. Two f16 or bf16 values share a 32-bit register.
"""

from __future__ import annotations

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


def _packed_arithmetic() -> dict[str, str]:
    out = {}
    for name in ("add", "sub", "mul"):
        out[f"f16x2_{name}"] = (f"{_D} unsigned f16x2_{name}(unsigned a, unsigned b) {{ unsigned r; asm(\"{name}.rn.f16x2 "
                                "%0, %1, %2;\" : \"=r\"(r) : \"r\"(a), \"r\"(b)); return r; }")
    out["f16x2_fma"] = (f"{_D} unsigned f16x2_fma(unsigned a, unsigned b, unsigned c) {{ unsigned r; asm(\"fma.rn.f16x2 %0, "
                        "%1, %2, %3;\" : \"=r\"(r) : \"r\"(a), \"r\"(b), \"r\"(c)); return r; }")
    return out


def _shared_access() -> dict[str, str]:
    out = {}
    for suffix, ctype, constraint, width in (("u8", "unsigned", "r", "u8"), ("u16", "unsigned short", "h", "u16"),
                                             ("u32", "unsigned", "r", "u32"), ("f32", "float", "f", "f32"),
                                             ("u64", "unsigned long long", "l", "u64"), ("f64", "double", "d", "f64")):
        out[f"lds_{suffix}"] = (f"{_D} {ctype} lds_{suffix}(unsigned a) {{ {ctype} r; asm volatile(\"ld.shared.{width} %0, [%1];\" "
                                f": \"={constraint}\"(r) : \"r\"(a) : \"memory\"); return r; }}")
        out[f"sts_{suffix}"] = (f"{_D} void sts_{suffix}(unsigned a, {ctype} x) {{ asm volatile(\"st.shared.{width} [%0], %1;\" "
                                f":: \"r\"(a), \"{constraint}\"(x) : \"memory\"); }}")
    out["lds_v2"] = (f"{_D} uint2 lds_v2(unsigned a) {{ uint2 r; asm volatile(\"ld.shared.v2.u32 {{%0, %1}}, [%2];\" : "
                     "\"=r\"(r.x), \"=r\"(r.y) : \"r\"(a) : \"memory\"); return r; }")
    out["lds_v4"] = (f"{_D} uint4 lds_v4(unsigned a) {{ uint4 r; asm volatile(\"ld.shared.v4.u32 {{%0, %1, %2, %3}}, [%4];\" "
                     ": \"=r\"(r.x), \"=r\"(r.y), \"=r\"(r.z), \"=r\"(r.w) : \"r\"(a) : \"memory\"); return r; }")
    out["sts_v2"] = (f"{_D} void sts_v2(unsigned a, unsigned x, unsigned y) {{ asm volatile(\"st.shared.v2.u32 [%0], {{%1, %2}};\" "
                     ":: \"r\"(a), \"r\"(x), \"r\"(y) : \"memory\"); }")
    out["sts_v4"] = (f"{_D} void sts_v4(unsigned a, unsigned x, unsigned y, unsigned z, unsigned w) {{ asm volatile("
                     "\"st.shared.v4.u32 [%0], {%1, %2, %3, %4};\" :: \"r\"(a), \"r\"(x), \"r\"(y), \"r\"(z), \"r\"(w) : "
                     "\"memory\"); }")
    out["stg_v2"] = (f"{_D} void stg_v2(void* a, unsigned x, unsigned y) {{ asm volatile(\"st.global.v2.u32 [%0], {{%1, %2}};\" "
                     ":: \"l\"(__cvta_generic_to_global(a)), \"r\"(x), \"r\"(y) : \"memory\"); }")
    out["stg_v4"] = (f"{_D} void stg_v4(void* a, unsigned x, unsigned y, unsigned z, unsigned w) {{ asm volatile("
                     "\"st.global.v4.u32 [%0], {%1, %2, %3, %4};\" :: \"l\"(__cvta_generic_to_global(a)), \"r\"(x), "
                     "\"r\"(y), \"r\"(z), \"r\"(w) : \"memory\"); }")
    return out


def _matrices() -> dict[str, str]:
    out = {}
    for trans in ("", "_trans"):
        dot = ".trans" if trans else ""
        out[f"ldmatrix_x1{trans}"] = (f"{_D} void ldmatrix_x1{trans}(unsigned& a, unsigned p) {{ asm volatile(\"ldmatrix.sync."
                                      f"aligned.m8n8.x1{dot}.shared.b16 {{%0}}, [%1];\" : \"=r\"(a) : \"r\"(p) : \"memory\"); }}")
        out[f"ldmatrix_x2{trans}"] = (f"{_D} void ldmatrix_x2{trans}(unsigned& a, unsigned& b, unsigned p) {{ asm volatile("
                                      f"\"ldmatrix.sync.aligned.m8n8.x2{dot}.shared.b16 {{%0, %1}}, [%2];\" : \"=r\"(a), "
                                      "\"=r\"(b) : \"r\"(p) : \"memory\"); }")
        out[f"ldmatrix_x4{trans}"] = (f"{_D} void ldmatrix_x4{trans}(unsigned& a, unsigned& b, unsigned& c, unsigned& d, "
                                      f"unsigned p) {{ asm volatile(\"ldmatrix.sync.aligned.m8n8.x4{dot}.shared.b16 {{%0, %1, "
                                      "%2, %3}, [%4];\" : \"=r\"(a), \"=r\"(b), \"=r\"(c), \"=r\"(d) : \"r\"(p) : \"memory\"); }")
    return out


def _copies() -> dict[str, str]:
    out = {}
    for size in (4, 8, 16):
        cache = "cg" if size == 16 else "ca"
        out[f"cp_async_{size}"] = (f"{_D} void cp_async_{size}(unsigned d, const void* s) {{ asm volatile(\"cp.async.{cache}."
                                   f"shared.global [%0], [%1], {size};\" :: \"r\"(d), \"l\"(__cvta_generic_to_global(s)) : "
                                   "\"memory\"); }")
        out[f"cp_async_{size}_if"] = (
            f"{_D} void cp_async_{size}_if(unsigned d, const void* s, bool p) {{ asm volatile(\"{{ .reg .pred q; setp.eq.u32 q, "
            f"%2, 0; cp.async.{cache}.shared.global [%0], [%1], {size}, q; }}\" :: \"r\"(d), \"l\"(__cvta_generic_to_global(s))"
            ", \"r\"((unsigned)p) : \"memory\"); }")
    out["cp_async_commit"] = f"{_D} void cp_async_commit() {{ asm volatile(\"cp.async.commit_group;\" ::: \"memory\"); }}"
    out["cp_async_wait"] = (f"template <int N> {_D} void cp_async_wait() {{ asm volatile(\"cp.async.wait_group %0;\" :: \"n\"(N)"
                            " : \"memory\"); }")
    out["barrier"] = (f"{_D} void barrier(int id, int threads) {{ asm volatile(\"bar.sync %0, %1;\" :: \"r\"(id), "
                      "\"r\"(threads) : \"memory\"); }")
    out["barrier_arrive"] = (f"{_D} void barrier_arrive(int id, int threads) {{ asm volatile(\"bar.arrive %0, %1;\" :: \"r\"(id)"
                             ", \"r\"(threads) : \"memory\"); }")
    return out


def mma_function(name: str, instruction: str, a: int, b: int, c: int, operand: str, accumulator: str) -> str:
    """The wrapper of one mma.sync: ``a``, ``b``, ``c`` are numbers of registers; constraints ``r``, ``f`` or ``d``."""
    ctype = {"r": "unsigned", "f": "float", "d": "double"}
    params = [f"{ctype[accumulator]}& c{i}" for i in range(c)]
    params += [f"{ctype[operand]} a{i}" for i in range(a)] + [f"{ctype[operand]} b{i}" for i in range(b)]
    at = iter(range(100))
    groups = [", ".join(f"%{next(at)}" for _ in range(n)) for n in (c, a, b)]
    again = ", ".join(f"%{i}" for i in range(c))
    outs = ", ".join(f"\"+{accumulator}\"(c{i})" for i in range(c))
    ins = ", ".join([f"\"{operand}\"(a{i})" for i in range(a)] + [f"\"{operand}\"(b{i})" for i in range(b)])
    return (f"{_D} void {name}({', '.join(params)}) {{\n  asm volatile(\"{instruction} {{{groups[0]}}}, {{{groups[1]}}}, "
            f"{{{groups[2]}}}, {{{again}}};\"\n    : {outs}\n    : {ins});\n}}")


FUNCTIONS: dict[str, str] = {
    **_conversions(), **_packed_arithmetic(), **_shared_access(), **_matrices(), **_copies(),
    "approx_ex2": f"{_D} float approx_ex2(float x) {{ float r; asm(\"ex2.approx.f32 %0, %1;\" : \"=f\"(r) : \"f\"(x)); return r; }}",
    "approx_ex2_ftz": f"{_D} float approx_ex2_ftz(float x) {{ float r; asm(\"ex2.approx.ftz.f32 %0, %1;\" : \"=f\"(r) : \"f\"(x)); "
                      "return r; }",
    "approx_lg2": f"{_D} float approx_lg2(float x) {{ float r; asm(\"lg2.approx.f32 %0, %1;\" : \"=f\"(r) : \"f\"(x)); return r; }}",
    "approx_rcp": f"{_D} float approx_rcp(float x) {{ float r; asm(\"rcp.approx.f32 %0, %1;\" : \"=f\"(r) : \"f\"(x)); return r; }}",
    "approx_rsqrt": f"{_D} float approx_rsqrt(float x) {{ float r; asm(\"rsqrt.approx.f32 %0, %1;\" : \"=f\"(r) : \"f\"(x)); "
                    "return r; }",
    "approx_sqrt": f"{_D} float approx_sqrt(float x) {{ float r; asm(\"sqrt.approx.f32 %0, %1;\" : \"=f\"(r) : \"f\"(x)); return r; }}",
    "approx_sin": f"{_D} float approx_sin(float x) {{ float r; asm(\"sin.approx.f32 %0, %1;\" : \"=f\"(r) : \"f\"(x)); return r; }}",
    "approx_cos": f"{_D} float approx_cos(float x) {{ float r; asm(\"cos.approx.f32 %0, %1;\" : \"=f\"(r) : \"f\"(x)); return r; }}",
    "approx_tanh": f"{_D} float approx_tanh(float x) {{ float r; asm(\"tanh.approx.f32 %0, %1;\" : \"=f\"(r) : \"f\"(x)); return r; }}",
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
