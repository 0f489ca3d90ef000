"""Device functions of generated CUDA C that are no PTX instructions; only those that a kernel calls are printed.

NVRTC comes without headers. Two f16 or bf16 values share a 32-bit register.
"""

from __future__ import annotations

PRELUDE_FILE = "/tilus/prelude.cu"
"""What line information calls the file of these functions and of those of instructions."""

FUNCTIONS: dict[str, str] = {
    "bf16_to_f32": """\
__device__ __forceinline__ float bf16_to_f32(unsigned short x) {
  return __uint_as_float((unsigned)x << 16);
}""",
    "f32_to_bf16": """\
__device__ __forceinline__ unsigned short f32_to_bf16(float x) {
  unsigned u = __float_as_uint(x);
  if (x != x) return 0x7fff;
  return (unsigned short)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}""",
    "pack_f16": """\
__device__ __forceinline__ unsigned pack_f16(float lo, float hi) {
  unsigned r;
  asm("{ .reg .b16 a, b; cvt.rn.f16.f32 a, %1; cvt.rn.f16.f32 b, %2; mov.b32 %0, {a, b}; }"
      : "=r"(r) : "f"(lo), "f"(hi));
  return r;
}""",
    "pack_bf16": """\
__device__ __forceinline__ unsigned pack_bf16(float lo, float hi) {
  return (unsigned)f32_to_bf16(lo) | ((unsigned)f32_to_bf16(hi) << 16);
}""",
    "pinned": """\
// The value, which the compiler does not compute once more where it is used.
template <class T> __device__ __forceinline__ T pinned(T x) {
  asm("" : "+l"(x));
  return x;
}
__device__ __forceinline__ unsigned pinned(unsigned x) {
  asm volatile("" : "+r"(x));
  return x;
}""",
    "at_byte": """\
template <class T> __device__ __forceinline__ T* at_byte(T* p, long long offset) {
  return (T*)((const char*)p + offset);
}""",
    "floordiv": """\
template <class T> __device__ __forceinline__ T floordiv(T a, T b) {
  if (b == 0) return 0;
  if (b == (T)-1 && (T)-1 < 0) return (T)(0 - (unsigned long long)a);
  T q = a / b;
  return q - ((a % b != 0) & ((a < 0) != (b < 0)));
}""",
    "floormod": """\
template <class T> __device__ __forceinline__ T floormod(T a, T b) {
  if (b == 0) return a;
  if (b == (T)-1 && (T)-1 < 0) return 0;
  T r = a % b;
  return r + (((r != 0) & ((r < 0) != (b < 0))) ? b : 0);
}""",
    "shift_left": """\
template <class T> __device__ __forceinline__ T shift_left(T a, T b) {
  return (unsigned long long)b >= 8 * sizeof(T) ? T(0) : T((unsigned long long)a << b);
}""",
    "shift_right": """\
template <class T> __device__ __forceinline__ T shift_right(T a, T b) {
  return (unsigned long long)b >= 8 * sizeof(T) ? T(a < 0 ? -1 : 0) : T(a >> b);
}""",
    "philox": """\
__device__ __forceinline__ uint4 philox(unsigned long long seed, unsigned long long offset) {
  unsigned k0 = (unsigned)seed, k1 = (unsigned)(seed >> 32);
  uint4 c = make_uint4((unsigned)offset, (unsigned)(offset >> 32), 0u, 0u);
#pragma unroll
  for (int r = 0; r < 10; ++r) {
    unsigned h0 = __umulhi(0xD2511F53u, c.x), l0 = 0xD2511F53u * c.x;
    unsigned h1 = __umulhi(0xCD9E8D57u, c.z), l1 = 0xCD9E8D57u * c.z;
    c = make_uint4(h1 ^ c.y ^ k0, l1, h0 ^ c.w ^ k1, l0);
    k0 += 0x9E3779B9u; k1 += 0xBB67AE85u;
  }
  return c;
}""",
}

DEPENDENCIES = {"pack_bf16": ("f32_to_bf16",)}
