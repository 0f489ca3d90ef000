// matmul for sm_80, made by tilus
namespace ptx {
__device__ __forceinline__ unsigned read_ctaid_x() {
  unsigned result;
  asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(result));
  return result;
}
__device__ __forceinline__ unsigned read_ctaid_z() {
  unsigned result;
  asm volatile("mov.u32 %0, %%ctaid.z;" : "=r"(result));
  return result;
}
template <int AT>
__device__ __forceinline__ void cp_async_16_if(unsigned destination, const void* source, bool predicate) {
  asm volatile("{ .reg .pred predicate; setp.eq.b32 predicate, %3, 0; cp.async.cg.shared.global [%0 + %1], [%2], 16, predicate; }"
               :: "r"(destination), "n"(AT), "l"(__cvta_generic_to_global(source)), "r"((unsigned)predicate) : "memory");
}
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int PENDING>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" :: "n"(PENDING) : "memory");
}
template <int AT>
__device__ __forceinline__ void ldmatrix_x4(unsigned& result0, unsigned& result1, unsigned& result2, unsigned& result3, unsigned pointer) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4 + %5];"
               : "=r"(result0), "=r"(result1), "=r"(result2), "=r"(result3) : "r"(pointer), "n"(AT) : "memory");
}
template <int AT>
__device__ __forceinline__ void ldmatrix_x4_trans(unsigned& result0, unsigned& result1, unsigned& result2, unsigned& result3, unsigned pointer) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4 + %5];"
               : "=r"(result0), "=r"(result1), "=r"(result2), "=r"(result3) : "r"(pointer), "n"(AT) : "memory");
}
__device__ __forceinline__ void mma_m16n8k16_row_col_f16_f16_f32(float& result0, float& result1, float& result2, float& result3, unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(result0), "+f"(result1), "+f"(result2), "+f"(result3) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
__device__ __forceinline__ unsigned read_tid_x() {
  unsigned result;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(result));
  return result;
}
__device__ __forceinline__ unsigned pack_f16(float high, float low) {
  unsigned result;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  return result;
}
template <int AT>
__device__ __forceinline__ void st_shared_b32(unsigned pointer, unsigned value) {
  asm volatile("st.shared.b32 [%0 + %1], %2;" :: "r"(pointer), "n"(AT), "r"(value) : "memory");
}
template <int AT>
__device__ __forceinline__ void ld_shared_v4_b32(unsigned& result0, unsigned& result1, unsigned& result2, unsigned& result3, unsigned pointer) {
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4 + %5];"
               : "=r"(result0), "=r"(result1), "=r"(result2), "=r"(result3) : "r"(pointer), "n"(AT) : "memory");
}
__device__ __forceinline__ void st_global_v4_b32(void* pointer, unsigned value0, unsigned value1, unsigned value2, unsigned value3) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};"
               :: "l"(__cvta_generic_to_global(pointer)), "r"(value0), "r"(value1), "r"(value2), "r"(value3) : "memory");
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

extern "C" __global__ void __launch_bounds__(64, 1)
matmul(const unsigned short* __restrict__ a, int a_shape0, int a_shape1, const unsigned short* __restrict__ b, int b_shape1, unsigned short* __restrict__ c, int grid_x) {
  extern __shared__ __align__(128) unsigned char shared_memory[];
  const unsigned shared_base = __cvta_generic_to_shared(shared_memory);
  // tl.store(c, (i * BM, j * BN), acc.to(c.dtype))
  const int ctaid_x = ptx::read_ctaid_x();
  const int ctaid_z = ptx::read_ctaid_z();
  const int nctaid_x = gridDim.x;
  if (ctaid_z * nctaid_x + ctaid_x >= grid_x) return;
  // i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
  const int ctaid_x_1 = blockIdx.x;
  const int ctaid_z_1 = blockIdx.z;
  const int nctaid_x_1 = gridDim.x;
  const int i = ctaid_z_1 * nctaid_x_1 + ctaid_x_1;
  const int ctaid_y = blockIdx.y;
  // x = tl.load(a, (i * BM, k), (BM, BK))
  const unsigned x_ring = shared_base;
  // y = tl.load(b, (k, j * BN), (BK, BN))
  const unsigned y_ring = shared_base + 2048;
  // x = tl.load(a, (i * BM, k), (BM, BK))
  const int tid = threadIdx.x;
  const int x_index = tid >> 1;
  const int x_index_1 = (tid & 1) * 8;
  const int x_index_2 = x_index * 16 + x_index_1;
  const unsigned x_ring_at = pinned(x_ring + (x_index_2 ^ ((x_index_2 >> 3) & 8)) * 2);
  // y = tl.load(b, (k, j * BN), (BK, BN))
  const int y_index = tid >> 2;
  const int y_index_1 = (tid & 3) * 8;
  const int y_index_2 = y_index * 32 + y_index_1;
  const unsigned y_ring_at = pinned(y_ring + (y_index_2 ^ ((y_index_2 >> 3) & 24)) * 2);
  // acc = tl.dot(x, y, acc)
  const int acc_index = tid & 15;
  const int acc_index_1 = ((tid >> 4) & 1) * 8;
  const int acc_index_2 = ((tid >> 5) * 16 + acc_index) * 16 + acc_index_1;
  const unsigned x_ring_at_1 = pinned(x_ring + (acc_index_2 ^ ((acc_index_2 >> 3) & 8)) * 2);
  const int acc_index_3 = acc_index * 32 + acc_index_1;
  const int acc_index_4 = acc_index_3 ^ ((acc_index_3 >> 3) & 24);
  const unsigned y_ring_at_1 = pinned(y_ring + acc_index_4 * 2);
  const unsigned y_ring_at_2 = pinned(y_ring + (acc_index_4 ^ 16) * 2);
  // x = tl.load(a, (i * BM, k), (BM, BK))
  const int x_index_3 = i * 32;
  // y = tl.load(b, (k, j * BN), (BK, BN))
  const int y_index_3 = ctaid_y * 32;
  // x = tl.load(a, (i * BM, k), (BM, BK))
  const int x_index_4 = x_index + x_index_3;
  const long long bytes = pinned((long long)(x_index_4 * a_shape1 + x_index_1) * 2);
  auto a_ptr = pinned(at_byte(a, bytes));
  const bool x_ok = x_index_4 < a_shape0;
  ptx::cp_async_16_if<0>(x_ring_at, a_ptr, x_ok & (x_index_1 < a_shape1));
  // y = tl.load(b, (k, j * BN), (BK, BN))
  const int y_index_4 = y_index * b_shape1;
  const int y_index_5 = y_index_1 + y_index_3;
  const long long bytes_1 = pinned((long long)(y_index_4 + y_index_5) * 2);
  auto b_ptr = pinned(at_byte(b, bytes_1));
  const bool y_ok = y_index_5 < b_shape1;
  ptx::cp_async_16_if<0>(y_ring_at, b_ptr, (y_index < a_shape1) & y_ok);
  // for k in tl.range(0, K, BK, stages=stages):
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  __syncthreads();
  // x = tl.load(a, (i * BM, k), (BM, BK))
  const long long bytes_2 = pinned((long long)(x_index * a_shape1) * 2);
  auto a_ptr_1 = pinned(at_byte(a, bytes_2));
  const long long bytes_3 = pinned((long long)x_index_1 * 2);
  auto a_ptr_2 = pinned(at_byte(a_ptr_1, bytes_3));
  const int x_index_5 = x_index_3 * a_shape1;
  const long long bytes_4 = pinned((long long)x_index_5 * 2);
  auto a_ptr_3 = pinned(at_byte(a_ptr_2, bytes_4));
  // y = tl.load(b, (k, j * BN), (BK, BN))
  const long long bytes_5 = pinned((long long)y_index_4 * 2);
  auto b_ptr_1 = pinned(at_byte(b, bytes_5));
  const long long bytes_6 = pinned((long long)y_index_1 * 2);
  auto b_ptr_2 = pinned(at_byte(b_ptr_1, bytes_6));
  // for k in tl.range(0, K, BK, stages=stages):
  const long long index = b_shape1;
  const long long index_1 = (unsigned long long)index * 16LL;
  const long long index_2 = (unsigned long long)(long long)ctaid_y * 32LL;
  const long long bytes_7 = pinned((long long)((unsigned long long)index_1 + index_2) * 2);
  auto b_ptr_3 = pinned(at_byte(b_ptr_2, bytes_7));
  int v_1 = 0;
  int slot = 0;
  float acc[16];
  #pragma unroll
  for (int i = 0; i < 16; ++i) acc[i] = 0.0f;
  auto a_ptr_4 = a_ptr_3;
  auto b_ptr_4 = b_ptr_3;
  const int stop = a_shape1 - 32 + 1;
  #pragma unroll 1
  for (int k = 0; k < stop; k += 16) {
    // for k in tl.range(0, K, BK, stages=stages):
    const int index_3 = (slot + 1) & 1;
    const int index_4 = (slot - 1) & 1;
    const int index_5 = k + 16;
    ptx::cp_async_wait<0>();
    __syncthreads();
    const int index_6 = index_4 * 512;
    // x = tl.load(a, (i * BM, k), (BM, BK))
    const unsigned x_ring_at_2 = x_ring_at + index_6 * 2;
    ptx::cp_async_16_if<0>(x_ring_at_2, a_ptr_4 + 16, x_ok);
    // y = tl.load(b, (k, j * BN), (BK, BN))
    const unsigned y_ring_at_3 = y_ring_at + index_6 * 2;
    ptx::cp_async_16_if<0>(y_ring_at_3, b_ptr_4, y_ok);
    // for k in tl.range(0, K, BK, stages=stages):
    ptx::cp_async_commit();
    const int index_7 = slot * 512;
    // acc = tl.dot(x, y, acc)
    const unsigned x_ring_at_3 = x_ring_at_1 + index_7 * 2;
    unsigned m[4];
    ptx::ldmatrix_x4<0>(m[0], m[1], m[2], m[3], x_ring_at_3);
    const unsigned y_ring_at_4 = y_ring_at_1 + index_7 * 2;
    unsigned m_1[4];
    ptx::ldmatrix_x4_trans<0>(m_1[0], m_1[1], m_1[2], m_1[3], y_ring_at_4);
    ptx::mma_m16n8k16_row_col_f16_f16_f32(acc[0], acc[1], acc[2], acc[3], m[0], m[1], m[2], m[3], m_1[0], m_1[1]);
    ptx::mma_m16n8k16_row_col_f16_f16_f32(acc[4], acc[5], acc[6], acc[7], m[0], m[1], m[2], m[3], m_1[2], m_1[3]);
    const unsigned y_ring_at_5 = y_ring_at_2 + index_7 * 2;
    unsigned m_2[4];
    ptx::ldmatrix_x4_trans<0>(m_2[0], m_2[1], m_2[2], m_2[3], y_ring_at_5);
    ptx::mma_m16n8k16_row_col_f16_f16_f32(acc[8], acc[9], acc[10], acc[11], m[0], m[1], m[2], m[3], m_2[0], m_2[1]);
    ptx::mma_m16n8k16_row_col_f16_f16_f32(acc[12], acc[13], acc[14], acc[15], m[0], m[1], m[2], m[3], m_2[2], m_2[3]);
    // for k in tl.range(0, K, BK, stages=stages):
    auto b_ptr_5 = b_ptr_4 + index_1;
    asm volatile("" : "+l"(a_ptr_4));
    v_1 = index_5;
    slot = index_3;
    a_ptr_4 = a_ptr_4 + 16;
    b_ptr_4 = b_ptr_5;
  }
  // x = tl.load(a, (i * BM, k), (BM, BK))
  const int tid_1 = ptx::read_tid_x();
  const int x_index_6 = tid_1 >> 1;
  const int x_index_7 = (tid_1 & 1) * 8;
  const int x_index_8 = x_index_6 * 16 + x_index_7;
  const unsigned x_ring_at_4 = pinned(x_ring + (x_index_8 ^ ((x_index_8 >> 3) & 8)) * 2);
  // y = tl.load(b, (k, j * BN), (BK, BN))
  const int y_index_6 = tid_1 >> 2;
  const int y_index_7 = (tid_1 & 3) * 8;
  const int y_index_8 = y_index_6 * 32 + y_index_7;
  const unsigned y_ring_at_6 = pinned(y_ring + (y_index_8 ^ ((y_index_8 >> 3) & 24)) * 2);
  // acc = tl.dot(x, y, acc)
  const int acc_index_5 = tid_1 & 15;
  const int acc_index_6 = ((tid_1 >> 4) & 1) * 8;
  const int acc_index_7 = ((tid_1 >> 5) * 16 + acc_index_5) * 16 + acc_index_6;
  const unsigned x_ring_at_5 = pinned(x_ring + (acc_index_7 ^ ((acc_index_7 >> 3) & 8)) * 2);
  const int acc_index_8 = acc_index_5 * 32 + acc_index_6;
  const int acc_index_9 = acc_index_8 ^ ((acc_index_8 >> 3) & 24);
  const unsigned y_ring_at_7 = pinned(y_ring + acc_index_9 * 2);
  const unsigned y_ring_at_8 = pinned(y_ring + (acc_index_9 ^ 16) * 2);
  // x = tl.load(a, (i * BM, k), (BM, BK))
  const long long bytes_8 = pinned((long long)(x_index_6 * a_shape1) * 2);
  auto a_ptr_5 = pinned(at_byte(a, bytes_8));
  const long long bytes_9 = pinned((long long)x_index_7 * 2);
  auto a_ptr_6 = pinned(at_byte(a_ptr_5, bytes_9));
  auto a_ptr_7 = pinned(at_byte(a_ptr_6, bytes_4));
  const bool x_ok_1 = x_index_6 + x_index_3 < a_shape0;
  // y = tl.load(b, (k, j * BN), (BK, BN))
  const long long bytes_10 = pinned((long long)(y_index_6 * b_shape1) * 2);
  auto b_ptr_6 = pinned(at_byte(b, bytes_10));
  const long long bytes_11 = pinned((long long)y_index_7 * 2);
  auto b_ptr_7 = pinned(at_byte(b_ptr_6, bytes_11));
  const bool y_ok_1 = y_index_7 + y_index_3 < b_shape1;
  // for k in tl.range(0, K, BK, stages=stages):
  const long long index_8 = v_1;
  const long long bytes_12 = pinned((long long)index_8 * 2);
  auto a_ptr_8 = pinned(at_byte(a_ptr_7, bytes_12));
  const long long index_9 = (unsigned long long)index_1 + (long long)((unsigned long long)index * index_8);
  const long long bytes_13 = pinned((long long)((unsigned long long)index_9 + index_2) * 2);
  auto b_ptr_8 = pinned(at_byte(b_ptr_7, bytes_13));
  int slot_1 = slot;
  float acc_1[16];
  #pragma unroll
  for (int i = 0; i < 16; ++i) acc_1[i] = acc[i];
  auto a_ptr_9 = a_ptr_8;
  auto b_ptr_9 = b_ptr_8;
  #pragma unroll 1
  for (int k_1 = v_1; k_1 < a_shape1; k_1 += 16) {
    // for k in tl.range(0, K, BK, stages=stages):
    const int index_10 = k_1 + 16;
    const int index_11 = (slot_1 + 1) & 1;
    const int index_12 = (slot_1 - 1) & 1;
    ptx::cp_async_wait<0>();
    __syncthreads();
    const int index_13 = index_12 * 512;
    // x = tl.load(a, (i * BM, k), (BM, BK))
    const unsigned x_ring_at_6 = x_ring_at_4 + index_13 * 2;
    ptx::cp_async_16_if<0>(x_ring_at_6, a_ptr_9 + 16, x_ok_1 & (x_index_7 + index_10 < a_shape1));
    // y = tl.load(b, (k, j * BN), (BK, BN))
    const unsigned y_ring_at_9 = y_ring_at_6 + index_13 * 2;
    ptx::cp_async_16_if<0>(y_ring_at_9, b_ptr_9, (y_index_6 + index_10 < a_shape1) & y_ok_1);
    // for k in tl.range(0, K, BK, stages=stages):
    ptx::cp_async_commit();
    const int index_14 = slot_1 * 512;
    // acc = tl.dot(x, y, acc)
    const unsigned x_ring_at_7 = x_ring_at_5 + index_14 * 2;
    unsigned m_3[4];
    ptx::ldmatrix_x4<0>(m_3[0], m_3[1], m_3[2], m_3[3], x_ring_at_7);
    const unsigned y_ring_at_10 = y_ring_at_7 + index_14 * 2;
    unsigned m_4[4];
    ptx::ldmatrix_x4_trans<0>(m_4[0], m_4[1], m_4[2], m_4[3], y_ring_at_10);
    ptx::mma_m16n8k16_row_col_f16_f16_f32(acc_1[0], acc_1[1], acc_1[2], acc_1[3], m_3[0], m_3[1], m_3[2], m_3[3], m_4[0], m_4[1]);
    ptx::mma_m16n8k16_row_col_f16_f16_f32(acc_1[4], acc_1[5], acc_1[6], acc_1[7], m_3[0], m_3[1], m_3[2], m_3[3], m_4[2], m_4[3]);
    const unsigned y_ring_at_11 = y_ring_at_8 + index_14 * 2;
    unsigned m_5[4];
    ptx::ldmatrix_x4_trans<0>(m_5[0], m_5[1], m_5[2], m_5[3], y_ring_at_11);
    ptx::mma_m16n8k16_row_col_f16_f16_f32(acc_1[8], acc_1[9], acc_1[10], acc_1[11], m_3[0], m_3[1], m_3[2], m_3[3], m_5[0], m_5[1]);
    ptx::mma_m16n8k16_row_col_f16_f16_f32(acc_1[12], acc_1[13], acc_1[14], acc_1[15], m_3[0], m_3[1], m_3[2], m_3[3], m_5[2], m_5[3]);
    // for k in tl.range(0, K, BK, stages=stages):
    auto b_ptr_10 = b_ptr_9 + index_1;
    asm volatile("" : "+l"(a_ptr_9));
    slot_1 = index_11;
    a_ptr_9 = a_ptr_9 + 16;
    b_ptr_9 = b_ptr_10;
  }
  ptx::cp_async_wait<0>();
  // tl.store(c, (i * BM, j * BN), acc.to(c.dtype))
  unsigned v_2[8];
  v_2[0] = ptx::pack_f16(acc_1[1], acc_1[0]);
  v_2[1] = ptx::pack_f16(acc_1[3], acc_1[2]);
  v_2[2] = ptx::pack_f16(acc_1[5], acc_1[4]);
  v_2[3] = ptx::pack_f16(acc_1[7], acc_1[6]);
  v_2[4] = ptx::pack_f16(acc_1[9], acc_1[8]);
  v_2[5] = ptx::pack_f16(acc_1[11], acc_1[10]);
  v_2[6] = ptx::pack_f16(acc_1[13], acc_1[12]);
  v_2[7] = ptx::pack_f16(acc_1[15], acc_1[14]);
  __syncthreads();
  const int tid_2 = ptx::read_tid_x();
  const int index_15 = tid_2 >> 2;
  const int index_16 = tid_2 & 3;
  const int index_17 = ((tid_2 >> 5) * 16 + (index_15 & 7)) * 32 + index_16 * 2;
  const int index_18 = index_17 ^ ((index_17 >> 3) & 24);
  const unsigned x_ring_at_8 = pinned(x_ring + index_18 * 2);
  ptx::st_shared_b32<0>(x_ring_at_8, v_2[0]);
  ptx::st_shared_b32<512>(x_ring_at_8, v_2[1]);
  const unsigned x_ring_at_9 = pinned(x_ring + (index_18 ^ 8) * 2);
  ptx::st_shared_b32<0>(x_ring_at_9, v_2[2]);
  ptx::st_shared_b32<512>(x_ring_at_9, v_2[3]);
  const unsigned x_ring_at_10 = pinned(x_ring + (index_18 ^ 16) * 2);
  ptx::st_shared_b32<0>(x_ring_at_10, v_2[4]);
  ptx::st_shared_b32<512>(x_ring_at_10, v_2[5]);
  const unsigned x_ring_at_11 = pinned(x_ring + (index_18 ^ 24) * 2);
  ptx::st_shared_b32<0>(x_ring_at_11, v_2[6]);
  ptx::st_shared_b32<512>(x_ring_at_11, v_2[7]);
  __syncthreads();
  const int index_19 = index_16 * 8;
  const int index_20 = index_15 * 32 + index_19;
  const unsigned x_ring_at_12 = pinned(x_ring + (index_20 ^ ((index_20 >> 3) & 24)) * 2);
  unsigned v_3[8];
  ptx::ld_shared_v4_b32<0>(v_3[0], v_3[1], v_3[2], v_3[3], x_ring_at_12);
  ptx::ld_shared_v4_b32<1024>(v_3[4], v_3[5], v_3[6], v_3[7], x_ring_at_12);
  const int index_21 = index_15 + x_index_3;
  const int index_22 = index_19 + y_index_3;
  const long long bytes_14 = pinned((long long)(index_21 * b_shape1 + index_22) * 2);
  auto c_ptr = pinned(at_byte(c, bytes_14));
  const bool ok = index_22 < b_shape1;
  if ((index_21 < a_shape0) & ok) ptx::st_global_v4_b32(c_ptr, v_3[0], v_3[1], v_3[2], v_3[3]);
  const long long bytes_15 = pinned((long long)(b_shape1 * 16) * 2);
  auto c_ptr_1 = pinned(at_byte(c_ptr, bytes_15));
  if ((index_21 + 16 < a_shape0) & ok) ptx::st_global_v4_b32(c_ptr_1, v_3[4], v_3[5], v_3[6], v_3[7]);
}
