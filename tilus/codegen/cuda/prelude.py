"""Device functions of generated CUDA C that are no PTX instructions; only those that a kernel calls are printed.

NVRTC comes without headers. Two f16 or bf16 values share a 32-bit register.
"""

from __future__ import annotations

PRELUDE_FILE = "/tilus/prelude.cu"
"""What line information calls the file of these functions and of those of instructions."""

FUNCTIONS: dict[str, str] = {
    "pack_f16": """\
__device__ __forceinline__ unsigned pack_f16(float lo, float hi) {
  unsigned r;
  asm("{ .reg .b16 a, b; cvt.rn.f16.f32 a, %1; cvt.rn.f16.f32 b, %2; mov.b32 %0, {a, b}; }"
      : "=r"(r) : "f"(lo), "f"(hi));
  return r;
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
    "pinned_end": """\
// The end of a loop, which the compiler does not compute once more in each iteration.
__device__ __forceinline__ int pinned_end(int x) {
  asm volatile("" : "+r"(x));
  return x;
}""",
    "at_byte": """\
template <class T> __device__ __forceinline__ T* at_byte(T* p, long long offset) {
  return (T*)((const char*)p + offset);
}""",
}
