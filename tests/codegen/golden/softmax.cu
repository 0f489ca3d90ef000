// softmax for sm_80, made by tilus
namespace ptx {
template <int AT>
__device__ __forceinline__ void st_shared_f32(unsigned pointer, float value) {
  asm volatile("st.shared.b32 [%0 + %1], %2;" :: "r"(pointer), "n"(AT), "f"(value) : "memory");
}
template <int AT>
__device__ __forceinline__ void ld_shared_v4_f32(float& result0, float& result1, float& result2, float& result3,
    unsigned pointer) {
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4 + %5];"
               : "=f"(result0), "=f"(result1), "=f"(result2), "=f"(result3) : "r"(pointer), "n"(AT) : "memory");
}
__device__ __forceinline__ float approx_ex2_ftz(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
__device__ __forceinline__ float approx_rcp_ftz(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
__device__ __forceinline__ void st_global_v4_f32(void* pointer, float value0, float value1, float value2,
    float value3) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};"
               :: "l"(__cvta_generic_to_global(pointer)), "f"(value0), "f"(value1), "f"(value2), "f"(value3) : "memory");
}
}  // namespace ptx
// The value, which the compiler does not compute once more where it is used.
template <class T> __device__ __forceinline__ T pinned(T x) {
  asm("" : "+l"(x));
  return x;
}
__device__ __forceinline__ unsigned pinned(unsigned x) {
  asm volatile("" : "+r"(x));
  return x;
}
template <class T> __device__ __forceinline__ T* at_byte(T* p, long long offset) {
  return (T*)((const char*)p + offset);
}

extern "C" __global__ void __launch_bounds__(128, 1)
softmax(const float* __restrict__ x, int x_shape0, int x_shape1, float* __restrict__ y) {
  extern __shared__ __align__(128) unsigned char shared_memory[];
  const unsigned shared_base = __cvta_generic_to_shared(shared_memory);
  // i = tl.grid(tl.cdiv(M, BM)) * BM
  const int ctaid_x = blockIdx.x;
  // row = tl.load(x, (i, 0), (BM, BN), other=-float("inf")).to(tl.f32)
  const int tid = threadIdx.x;
  const int row_index = tid * 4;
  // e = tl.exp(row - tl.max(row, axis=1, keepdims=True), approximate=True)
  const unsigned scratch = shared_base;
  // row = tl.load(x, (i, 0), (BM, BN), other=-float("inf")).to(tl.f32)
  const int row_index_1 = ctaid_x * x_shape1 + row_index;
  const long long bytes = pinned((long long)row_index_1 * 4);
  auto x_ptr = pinned(at_byte(x, bytes));
  const bool row_ok = ctaid_x < x_shape0;
  const bool row_ok_1 = row_ok & (row_index < x_shape1);
  float4 x_1 = make_float4(-__int_as_float(0x7f800000), -__int_as_float(0x7f800000), -__int_as_float(0x7f800000),
      -__int_as_float(0x7f800000));
  if (row_ok_1) x_1 = __ldg((const float4*)x_ptr);
  const bool row_ok_2 = row_ok & (row_index + 512 < x_shape1);
  float4 x_2 = make_float4(-__int_as_float(0x7f800000), -__int_as_float(0x7f800000), -__int_as_float(0x7f800000),
      -__int_as_float(0x7f800000));
  if (row_ok_2) x_2 = __ldg((const float4*)(x_ptr + 512));
  // e = tl.exp(row - tl.max(row, axis=1, keepdims=True), approximate=True)
  const float e_1 = fmaxf(fmaxf(fmaxf(x_1.x, x_1.y), fmaxf(x_1.z, x_1.w)), fmaxf(fmaxf(x_2.x, x_2.y), fmaxf(x_2.z,
      x_2.w)));
  const float e_2 = __shfl_xor_sync(0xffffffffu, e_1, 1);
  const float e_3 = fmaxf(e_1, e_2);
  const float e_4 = __shfl_xor_sync(0xffffffffu, e_3, 2);
  const float e_5 = fmaxf(e_3, e_4);
  const float e_6 = __shfl_xor_sync(0xffffffffu, e_5, 4);
  const float e_7 = fmaxf(e_5, e_6);
  const float e_8 = __shfl_xor_sync(0xffffffffu, e_7, 8);
  const float e_9 = fmaxf(e_7, e_8);
  const float e_10 = __shfl_xor_sync(0xffffffffu, e_9, 16);
  const bool e_ok = (tid & 31) == 0;
  const unsigned scratch_at = pinned(scratch + (tid >> 5) * 4);
  if (e_ok) ptx::st_shared_f32<0>(scratch_at, fmaxf(e_9, e_10));
  __syncthreads();
  float x_3[4];
  ptx::ld_shared_v4_f32<0>(x_3[0], x_3[1], x_3[2], x_3[3], scratch);
  const float e_11 = fmaxf(fmaxf(fmaxf(x_3[0], x_3[1]), x_3[2]), x_3[3]);
  float e_12[8];
  e_12[0] = x_1.x - e_11; e_12[1] = x_1.y - e_11; e_12[2] = x_1.z - e_11; e_12[3] = x_1.w - e_11;
  e_12[4] = x_2.x - e_11; e_12[5] = x_2.y - e_11; e_12[6] = x_2.z - e_11; e_12[7] = x_2.w - e_11;
  float e_13[8];
  #pragma unroll
  for (int i = 0; i < 8; ++i) e_13[i] = e_12[i] * 1.4426950216293335f;
  float e[8];
  #pragma unroll
  for (int i = 0; i < 8; ++i) e[i] = ptx::approx_ex2_ftz(e_13[i]);
  // scale = tl.rcp(tl.sum(e, axis=1, keepdims=True), approximate=True)
  const float scale_1 = e[0] + e[1] + (e[2] + e[3]) + (e[4] + e[5] + (e[6] + e[7]));
  const float scale_2 = __shfl_xor_sync(0xffffffffu, scale_1, 1);
  const float scale_3 = scale_1 + scale_2;
  const float scale_4 = __shfl_xor_sync(0xffffffffu, scale_3, 2);
  const float scale_5 = scale_3 + scale_4;
  const float scale_6 = __shfl_xor_sync(0xffffffffu, scale_5, 4);
  const float scale_7 = scale_5 + scale_6;
  const float scale_8 = __shfl_xor_sync(0xffffffffu, scale_7, 8);
  const float scale_9 = scale_7 + scale_8;
  const float scale_10 = __shfl_xor_sync(0xffffffffu, scale_9, 16);
  const float scale_11 = scale_9 + scale_10;
  __syncthreads();
  if (e_ok) ptx::st_shared_f32<0>(scratch_at, scale_11);
  __syncthreads();
  float x_4[4];
  ptx::ld_shared_v4_f32<0>(x_4[0], x_4[1], x_4[2], x_4[3], scratch);
  const float scale = ptx::approx_rcp_ftz(x_4[0] + x_4[1] + x_4[2] + x_4[3]);
  // tl.store(y, (i, 0), (e * scale).to(y.dtype))
  auto y_ptr = pinned(at_byte(y, bytes));
  float v_1[8];
  #pragma unroll
  for (int i = 0; i < 8; ++i) v_1[i] = e[i] * scale;
  if (row_ok_1) ptx::st_global_v4_f32(y_ptr, v_1[0], v_1[1], v_1[2], v_1[3]);
  if (row_ok_2) ptx::st_global_v4_f32(y_ptr + 512, v_1[4], v_1[5], v_1[6], v_1[7]);
}
