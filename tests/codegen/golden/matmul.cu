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
__device__ __forceinline__ void ldmatrix_x4(unsigned& result0, unsigned& result1, unsigned& result2, unsigned& result3,
    unsigned pointer) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4 + %5];"
               : "=r"(result0), "=r"(result1), "=r"(result2), "=r"(result3) : "r"(pointer), "n"(AT) : "memory");
}
template <int AT>
__device__ __forceinline__ void ldmatrix_x4_trans(unsigned& result0, unsigned& result1, unsigned& result2,
    unsigned& result3, unsigned pointer) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4 + %5];"
               : "=r"(result0), "=r"(result1), "=r"(result2), "=r"(result3) : "r"(pointer), "n"(AT) : "memory");
}
__device__ __forceinline__ void mma_m16n8k16_row_col_f16_f16_f32(float& result0, float& result1, float& result2,
    float& result3, unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
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
__device__ __forceinline__ void ld_shared_v4_b32(unsigned& result0, unsigned& result1, unsigned& result2,
    unsigned& result3, unsigned pointer) {
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4 + %5];"
               : "=r"(result0), "=r"(result1), "=r"(result2), "=r"(result3) : "r"(pointer), "n"(AT) : "memory");
}
__device__ __forceinline__ unsigned read_ctaid_y() {
  unsigned result;
  asm volatile("mov.u32 %0, %%ctaid.y;" : "=r"(result));
  return result;
}
__device__ __forceinline__ void st_global_v4_b32(void* pointer, unsigned value0, unsigned value1, unsigned value2,
    unsigned value3) {
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
matmul(const unsigned short* __restrict__ a, int a_shape0, int a_shape1, const unsigned short* __restrict__ b,
    int b_shape1, unsigned short* __restrict__ c, int grid_x) {
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
  const unsigned y_ring = shared_base + 8192;
  // x = tl.load(a, (i * BM, k), (BM, BK))
  const int tid = threadIdx.x;
  const int x_index = tid >> 2;
  const int x_index_1 = (tid & 3) * 8;
  const int x_index_2 = x_index * 32 + x_index_1;
  const int x_index_3 = x_index_2 ^ ((x_index_2 >> 3) & 24);
  const unsigned x_ring_at = pinned(x_ring + x_index_3 * 2);
  // y = tl.load(b, (k, j * BN), (BK, BN))
  const unsigned y_ring_at = pinned(y_ring + x_index_3 * 2);
  // x = tl.load(a, (i * BM, k), (BM, BK))
  const int x_index_4 = tid & 15;
  const int x_index_5 = ((tid >> 4) & 1) * 8;
  const int x_index_6 = ((tid >> 5) * 32 + x_index_4) * 32 + x_index_5;
  const unsigned x_ring_at_1 = pinned(x_ring + (x_index_6 ^ ((x_index_6 >> 3) & 24)) * 2);
  // y = tl.load(b, (k, j * BN), (BK, BN))
  const int y_index = x_index_4 * 32 + x_index_5;
  const int y_index_1 = y_index ^ ((y_index >> 3) & 24);
  const unsigned y_ring_at_1 = pinned(y_ring + y_index_1 * 2);
  const unsigned y_ring_at_2 = pinned(y_ring + (y_index_1 ^ 16) * 2);
  // x = tl.load(a, (i * BM, k), (BM, BK))
  const int x_index_7 = x_index_6 + 16;
  const unsigned x_ring_at_2 = pinned(x_ring + (x_index_7 ^ ((x_index_7 >> 3) & 24)) * 2);
  const int x_index_8 = i * 64;
  // y = tl.load(b, (k, j * BN), (BK, BN))
  const int y_index_2 = ctaid_y * 32;
  // x = tl.load(a, (i * BM, k), (BM, BK))
  const int x_index_9 = x_index + x_index_8;
  const long long bytes = pinned((long long)(x_index_9 * a_shape1 + x_index_1) * 2);
  auto a_ptr = pinned(at_byte(a, bytes));
  const bool x_ok = x_index_9 < a_shape0;
  const bool x_ok_1 = x_index_1 < a_shape1;
  ptx::cp_async_16_if<0>(x_ring_at, a_ptr, x_ok & x_ok_1);
  const bool x_ok_2 = x_index_9 + 16 < a_shape0;
  const long long bytes_1 = pinned((long long)(a_shape1 * 16) * 2);
  auto a_ptr_1 = pinned(at_byte(a_ptr, bytes_1));
  ptx::cp_async_16_if<1024>(x_ring_at, a_ptr_1, x_ok_2 & x_ok_1);
  const bool x_ok_3 = x_index_9 + 32 < a_shape0;
  const long long bytes_2 = pinned((long long)(a_shape1 * 32) * 2);
  auto a_ptr_2 = pinned(at_byte(a_ptr, bytes_2));
  ptx::cp_async_16_if<2048>(x_ring_at, a_ptr_2, x_ok_3 & x_ok_1);
  const bool x_ok_4 = x_index_9 + 48 < a_shape0;
  const long long bytes_3 = pinned((long long)(a_shape1 * 48) * 2);
  auto a_ptr_3 = pinned(at_byte(a_ptr, bytes_3));
  ptx::cp_async_16_if<3072>(x_ring_at, a_ptr_3, x_ok_4 & x_ok_1);
  // y = tl.load(b, (k, j * BN), (BK, BN))
  const int y_index_3 = x_index * b_shape1;
  const int y_index_4 = x_index_1 + y_index_2;
  const long long bytes_4 = pinned((long long)(y_index_3 + y_index_4) * 2);
  auto b_ptr = pinned(at_byte(b, bytes_4));
  const bool y_ok = y_index_4 < b_shape1;
  ptx::cp_async_16_if<0>(y_ring_at, b_ptr, (x_index < a_shape1) & y_ok);
  const int y_index_5 = b_shape1 * 16;
  const long long bytes_5 = pinned((long long)y_index_5 * 2);
  auto b_ptr_1 = pinned(at_byte(b_ptr, bytes_5));
  ptx::cp_async_16_if<1024>(y_ring_at, b_ptr_1, (x_index + 16 < a_shape1) & y_ok);
  // for k in tl.range(0, K, BK, stages=stages):
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  __syncthreads();
  // x = tl.load(a, (i * BM, k), (BM, BK))
  unsigned x[8];
  ptx::ldmatrix_x4<0>(x[0], x[1], x[2], x[3], x_ring_at_1);
  ptx::ldmatrix_x4<1024>(x[4], x[5], x[6], x[7], x_ring_at_1);
  // y = tl.load(b, (k, j * BN), (BK, BN))
  unsigned y[8];
  ptx::ldmatrix_x4_trans<0>(y[0], y[1], y[2], y[3], y_ring_at_1);
  ptx::ldmatrix_x4_trans<0>(y[4], y[5], y[6], y[7], y_ring_at_2);
  // x = tl.load(a, (i * BM, k), (BM, BK))
  const long long bytes_6 = pinned((long long)(x_index * a_shape1) * 2);
  auto a_ptr_4 = pinned(at_byte(a, bytes_6));
  const long long bytes_7 = pinned((long long)x_index_1 * 2);
  auto a_ptr_5 = pinned(at_byte(a_ptr_4, bytes_7));
  const int x_index_10 = x_index_8 * a_shape1;
  const long long bytes_8 = pinned((long long)x_index_10 * 2);
  auto a_ptr_6 = pinned(at_byte(a_ptr_5, bytes_8));
  // y = tl.load(b, (k, j * BN), (BK, BN))
  const long long bytes_9 = pinned((long long)y_index_3 * 2);
  auto b_ptr_2 = pinned(at_byte(b, bytes_9));
  auto b_ptr_3 = pinned(at_byte(b_ptr_2, bytes_7));
  // for k in tl.range(0, K, BK, stages=stages):
  const long long index = b_shape1;
  const long long index_1 = (unsigned long long)index * 32LL;
  const long long index_2 = a_shape1;
  const long long index_3 = (unsigned long long)index_2 * 16LL;
  const long long bytes_10 = pinned((long long)index_3 * 2);
  auto a_ptr_7 = pinned(at_byte(a_ptr_6, bytes_10));
  const long long index_4 = (unsigned long long)index_2 * 32LL;
  const long long bytes_11 = pinned((long long)index_4 * 2);
  auto a_ptr_8 = pinned(at_byte(a_ptr_6, bytes_11));
  const long long index_5 = (unsigned long long)index_2 * 48LL;
  const long long bytes_12 = pinned((long long)index_5 * 2);
  auto a_ptr_9 = pinned(at_byte(a_ptr_6, bytes_12));
  const long long index_6 = (unsigned long long)(long long)ctaid_y * 32LL;
  const long long bytes_13 = pinned((long long)((unsigned long long)index_1 + index_6) * 2);
  auto b_ptr_4 = pinned(at_byte(b_ptr_3, bytes_13));
  const long long bytes_14 = pinned((long long)((unsigned long long)index * 48LL + index_6) * 2);
  auto b_ptr_5 = pinned(at_byte(b_ptr_3, bytes_14));
  int v_1 = 0;
  int slot = 0;
  float acc[32];
  #pragma unroll
  for (int i = 0; i < 32; ++i) acc[i] = 0.0f;
  unsigned x_1[8];
  #pragma unroll
  for (int i = 0; i < 8; ++i) x_1[i] = x[i];
  unsigned y_1[8];
  #pragma unroll
  for (int i = 0; i < 8; ++i) y_1[i] = y[i];
  auto a_ptr_10 = a_ptr_6;
  auto a_ptr_11 = a_ptr_7;
  auto a_ptr_12 = a_ptr_8;
  auto a_ptr_13 = a_ptr_9;
  auto b_ptr_6 = b_ptr_4;
  auto b_ptr_7 = b_ptr_5;
  const int stop = a_shape1 - 96 + 1;
  #pragma unroll 1
  for (int k = 0; k < stop; k += 64) {
    // x = tl.load(a, (i * BM, k), (BM, BK))
    unsigned x_2[8];
    ptx::ldmatrix_x4<0>(x_2[0], x_2[1], x_2[2], x_2[3], x_ring_at_2);
    ptx::ldmatrix_x4<1024>(x_2[4], x_2[5], x_2[6], x_2[7], x_ring_at_2);
    // y = tl.load(b, (k, j * BN), (BK, BN))
    unsigned y_2[8];
    ptx::ldmatrix_x4_trans<1024>(y_2[0], y_2[1], y_2[2], y_2[3], y_ring_at_1);
    ptx::ldmatrix_x4_trans<1024>(y_2[4], y_2[5], y_2[6], y_2[7], y_ring_at_2);
    // x = tl.load(a, (i * BM, k), (BM, BK))
    ptx::cp_async_16_if<4096>(x_ring_at, a_ptr_10 + 32, x_ok);
    ptx::cp_async_16_if<5120>(x_ring_at, a_ptr_11 + 32, x_ok_2);
    ptx::cp_async_16_if<6144>(x_ring_at, a_ptr_12 + 32, x_ok_3);
    ptx::cp_async_16_if<7168>(x_ring_at, a_ptr_13 + 32, x_ok_4);
    // y = tl.load(b, (k, j * BN), (BK, BN))
    ptx::cp_async_16_if<2048>(y_ring_at, b_ptr_6, y_ok);
    ptx::cp_async_16_if<3072>(y_ring_at, b_ptr_7, y_ok);
    // for k in tl.range(0, K, BK, stages=stages):
    ptx::cp_async_commit();
    // acc = tl.dot(x, y, acc)
    #pragma unroll
    for (int i = 0; i < 2; ++i) {
      #pragma unroll
      for (int j = 0; j < 4; ++j) {
        ptx::mma_m16n8k16_row_col_f16_f16_f32(acc[16 * i + 4 * j], acc[16 * i + 4 * j + 1], acc[16 * i + 4 * j + 2],
            acc[16 * i + 4 * j + 3], x_1[4 * i], x_1[4 * i + 1], x_1[4 * i + 2], x_1[4 * i + 3], y_1[2 * j],
            y_1[2 * j + 1]);
      }
    }
    // for k in tl.range(0, K, BK, stages=stages):
    ptx::cp_async_wait<0>();
    __syncthreads();
    // x = tl.load(a, (i * BM, k), (BM, BK))
    unsigned x_3[8];
    ptx::ldmatrix_x4<4096>(x_3[0], x_3[1], x_3[2], x_3[3], x_ring_at_1);
    ptx::ldmatrix_x4<5120>(x_3[4], x_3[5], x_3[6], x_3[7], x_ring_at_1);
    // y = tl.load(b, (k, j * BN), (BK, BN))
    unsigned y_3[8];
    ptx::ldmatrix_x4_trans<2048>(y_3[0], y_3[1], y_3[2], y_3[3], y_ring_at_1);
    ptx::ldmatrix_x4_trans<2048>(y_3[4], y_3[5], y_3[6], y_3[7], y_ring_at_2);
    // acc = tl.dot(x, y, acc)
    #pragma unroll
    for (int i = 0; i < 2; ++i) {
      #pragma unroll
      for (int j = 0; j < 4; ++j) {
        ptx::mma_m16n8k16_row_col_f16_f16_f32(acc[16 * i + 4 * j], acc[16 * i + 4 * j + 1], acc[16 * i + 4 * j + 2],
            acc[16 * i + 4 * j + 3], x_2[4 * i], x_2[4 * i + 1], x_2[4 * i + 2], x_2[4 * i + 3], y_2[2 * j],
            y_2[2 * j + 1]);
      }
    }
    // x = tl.load(a, (i * BM, k), (BM, BK))
    unsigned x_4[8];
    ptx::ldmatrix_x4<4096>(x_4[0], x_4[1], x_4[2], x_4[3], x_ring_at_2);
    ptx::ldmatrix_x4<5120>(x_4[4], x_4[5], x_4[6], x_4[7], x_ring_at_2);
    // y = tl.load(b, (k, j * BN), (BK, BN))
    unsigned y_4[8];
    ptx::ldmatrix_x4_trans<3072>(y_4[0], y_4[1], y_4[2], y_4[3], y_ring_at_1);
    ptx::ldmatrix_x4_trans<3072>(y_4[4], y_4[5], y_4[6], y_4[7], y_ring_at_2);
    // x = tl.load(a, (i * BM, k), (BM, BK))
    ptx::cp_async_16_if<0>(x_ring_at, a_ptr_10 + 64, x_ok);
    ptx::cp_async_16_if<1024>(x_ring_at, a_ptr_11 + 64, x_ok_2);
    ptx::cp_async_16_if<2048>(x_ring_at, a_ptr_12 + 64, x_ok_3);
    ptx::cp_async_16_if<3072>(x_ring_at, a_ptr_13 + 64, x_ok_4);
    // for k in tl.range(0, K, BK, stages=stages):
    auto b_ptr_8 = b_ptr_6 + index_1;
    // y = tl.load(b, (k, j * BN), (BK, BN))
    ptx::cp_async_16_if<0>(y_ring_at, b_ptr_8, y_ok);
    // for k in tl.range(0, K, BK, stages=stages):
    auto b_ptr_9 = b_ptr_7 + index_1;
    // y = tl.load(b, (k, j * BN), (BK, BN))
    ptx::cp_async_16_if<1024>(y_ring_at, b_ptr_9, y_ok);
    // for k in tl.range(0, K, BK, stages=stages):
    ptx::cp_async_commit();
    // acc = tl.dot(x, y, acc)
    #pragma unroll
    for (int i = 0; i < 2; ++i) {
      #pragma unroll
      for (int j = 0; j < 4; ++j) {
        ptx::mma_m16n8k16_row_col_f16_f16_f32(acc[16 * i + 4 * j], acc[16 * i + 4 * j + 1], acc[16 * i + 4 * j + 2],
            acc[16 * i + 4 * j + 3], x_3[4 * i], x_3[4 * i + 1], x_3[4 * i + 2], x_3[4 * i + 3], y_3[2 * j],
            y_3[2 * j + 1]);
      }
    }
    // for k in tl.range(0, K, BK, stages=stages):
    ptx::cp_async_wait<0>();
    __syncthreads();
    // x = tl.load(a, (i * BM, k), (BM, BK))
    unsigned x_5[8];
    ptx::ldmatrix_x4<0>(x_5[0], x_5[1], x_5[2], x_5[3], x_ring_at_1);
    ptx::ldmatrix_x4<1024>(x_5[4], x_5[5], x_5[6], x_5[7], x_ring_at_1);
    // y = tl.load(b, (k, j * BN), (BK, BN))
    unsigned y_5[8];
    ptx::ldmatrix_x4_trans<0>(y_5[0], y_5[1], y_5[2], y_5[3], y_ring_at_1);
    ptx::ldmatrix_x4_trans<0>(y_5[4], y_5[5], y_5[6], y_5[7], y_ring_at_2);
    // acc = tl.dot(x, y, acc)
    #pragma unroll
    for (int i = 0; i < 2; ++i) {
      #pragma unroll
      for (int j = 0; j < 4; ++j) {
        ptx::mma_m16n8k16_row_col_f16_f16_f32(acc[16 * i + 4 * j], acc[16 * i + 4 * j + 1], acc[16 * i + 4 * j + 2],
            acc[16 * i + 4 * j + 3], x_4[4 * i], x_4[4 * i + 1], x_4[4 * i + 2], x_4[4 * i + 3], y_4[2 * j],
            y_4[2 * j + 1]);
      }
    }
    // for k in tl.range(0, K, BK, stages=stages):
    auto b_ptr_10 = b_ptr_8 + index_1;
    auto b_ptr_11 = b_ptr_9 + index_1;
    asm volatile("" : "+l"(a_ptr_10));
    asm volatile("" : "+l"(a_ptr_11));
    asm volatile("" : "+l"(a_ptr_12));
    asm volatile("" : "+l"(a_ptr_13));
    v_1 = k + 64;
    x_1[0] = x_5[0]; x_1[1] = x_5[1]; x_1[2] = x_5[2]; x_1[3] = x_5[3]; x_1[4] = x_5[4]; x_1[5] = x_5[5];
    x_1[6] = x_5[6]; x_1[7] = x_5[7];
    y_1[0] = y_5[0]; y_1[1] = y_5[1]; y_1[2] = y_5[2]; y_1[3] = y_5[3]; y_1[4] = y_5[4]; y_1[5] = y_5[5];
    y_1[6] = y_5[6]; y_1[7] = y_5[7];
    a_ptr_10 = a_ptr_10 + 64;
    a_ptr_11 = a_ptr_11 + 64;
    a_ptr_12 = a_ptr_12 + 64;
    a_ptr_13 = a_ptr_13 + 64;
    b_ptr_6 = b_ptr_10;
    b_ptr_7 = b_ptr_11;
  }
  // x = tl.load(a, (i * BM, k), (BM, BK))
  const int tid_1 = ptx::read_tid_x();
  const int x_index_11 = tid_1 & 15;
  const int x_index_12 = ((tid_1 >> 4) & 1) * 8;
  const int x_index_13 = ((tid_1 >> 5) * 32 + x_index_11) * 32 + x_index_12;
  const int x_index_14 = x_index_13 + 16;
  const unsigned x_ring_at_3 = pinned(x_ring + (x_index_14 ^ ((x_index_14 >> 3) & 24)) * 2);
  // y = tl.load(b, (k, j * BN), (BK, BN))
  const int y_index_6 = x_index_11 * 32 + x_index_12;
  const int y_index_7 = y_index_6 ^ ((y_index_6 >> 3) & 24);
  const unsigned y_ring_at_3 = pinned(y_ring + y_index_7 * 2);
  const unsigned y_ring_at_4 = pinned(y_ring + (y_index_7 ^ 16) * 2);
  // x = tl.load(a, (i * BM, k), (BM, BK))
  const int x_index_15 = tid_1 >> 2;
  const int x_index_16 = (tid_1 & 3) * 8;
  const int x_index_17 = x_index_15 * 32 + x_index_16;
  const int x_index_18 = x_index_17 ^ ((x_index_17 >> 3) & 24);
  const unsigned x_ring_at_4 = pinned(x_ring + x_index_18 * 2);
  // y = tl.load(b, (k, j * BN), (BK, BN))
  const unsigned y_ring_at_5 = pinned(y_ring + x_index_18 * 2);
  // x = tl.load(a, (i * BM, k), (BM, BK))
  const unsigned x_ring_at_5 = pinned(x_ring + (x_index_13 ^ ((x_index_13 >> 3) & 24)) * 2);
  const long long bytes_15 = pinned((long long)(x_index_15 * a_shape1) * 2);
  auto a_ptr_14 = pinned(at_byte(a, bytes_15));
  const long long bytes_16 = pinned((long long)x_index_16 * 2);
  auto a_ptr_15 = pinned(at_byte(a_ptr_14, bytes_16));
  auto a_ptr_16 = pinned(at_byte(a_ptr_15, bytes_8));
  const int x_index_19 = x_index_15 + x_index_8;
  const bool x_ok_5 = x_index_19 < a_shape0;
  const bool x_ok_6 = x_index_19 + 16 < a_shape0;
  const bool x_ok_7 = x_index_19 + 32 < a_shape0;
  const bool x_ok_8 = x_index_19 + 48 < a_shape0;
  // y = tl.load(b, (k, j * BN), (BK, BN))
  const long long bytes_17 = pinned((long long)(x_index_15 * b_shape1) * 2);
  auto b_ptr_12 = pinned(at_byte(b, bytes_17));
  auto b_ptr_13 = pinned(at_byte(b_ptr_12, bytes_16));
  const bool y_ok_1 = x_index_16 + y_index_2 < b_shape1;
  // for k in tl.range(0, K, BK, stages=stages):
  const long long index_7 = (unsigned long long)index * 16LL;
  const long long index_8 = v_1;
  const long long bytes_18 = pinned((long long)index_8 * 2);
  auto a_ptr_17 = pinned(at_byte(a_ptr_16, bytes_18));
  const long long index_9 = (unsigned long long)index_1 + (long long)((unsigned long long)index * index_8);
  const long long bytes_19 = pinned((long long)((unsigned long long)index_9 + index_6) * 2);
  auto b_ptr_14 = pinned(at_byte(b_ptr_13, bytes_19));
  int slot_1 = 0;
  float acc_1[32];
  #pragma unroll
  for (int i = 0; i < 32; ++i) acc_1[i] = acc[i];
  unsigned x_6[8];
  #pragma unroll
  for (int i = 0; i < 8; ++i) x_6[i] = x_1[i];
  unsigned y_6[8];
  #pragma unroll
  for (int i = 0; i < 8; ++i) y_6[i] = y_1[i];
  int slot_offset = 0;
  int slot_offset_1 = 0;
  auto a_ptr_18 = a_ptr_17;
  auto b_ptr_15 = b_ptr_14;
  #pragma unroll 1
  for (int k_1 = v_1; k_1 < a_shape1; k_1 += 32) {
    // for k in tl.range(0, K, BK, stages=stages):
    const int index_10 = (slot_offset_1 + 2048) & 2048;
    const int index_11 = (slot_offset + 4096) & 4096;
    const int index_12 = k_1 + 32;
    // x = tl.load(a, (i * BM, k), (BM, BK))
    const unsigned x_ring_at_6 = x_ring_at_3 + slot_offset;
    unsigned x_7[8];
    ptx::ldmatrix_x4<0>(x_7[0], x_7[1], x_7[2], x_7[3], x_ring_at_6);
    ptx::ldmatrix_x4<1024>(x_7[4], x_7[5], x_7[6], x_7[7], x_ring_at_6);
    // y = tl.load(b, (k, j * BN), (BK, BN))
    const unsigned y_ring_at_6 = y_ring_at_3 + slot_offset_1;
    unsigned y_7[8];
    ptx::ldmatrix_x4_trans<1024>(y_7[0], y_7[1], y_7[2], y_7[3], y_ring_at_6);
    const unsigned y_ring_at_7 = y_ring_at_4 + slot_offset_1;
    ptx::ldmatrix_x4_trans<1024>(y_7[4], y_7[5], y_7[6], y_7[7], y_ring_at_7);
    // x = tl.load(a, (i * BM, k), (BM, BK))
    const bool x_ok_9 = x_index_16 + index_12 < a_shape1;
    const unsigned x_ring_at_7 = x_ring_at_4 + ((slot_offset - 4096) & 4096);
    ptx::cp_async_16_if<0>(x_ring_at_7, a_ptr_18 + 32, x_ok_5 & x_ok_9);
    // for k in tl.range(0, K, BK, stages=stages):
    auto a_ptr_19 = a_ptr_18 + index_3;
    // x = tl.load(a, (i * BM, k), (BM, BK))
    ptx::cp_async_16_if<1024>(x_ring_at_7, a_ptr_19 + 32, x_ok_6 & x_ok_9);
    // for k in tl.range(0, K, BK, stages=stages):
    auto a_ptr_20 = a_ptr_18 + index_4;
    // x = tl.load(a, (i * BM, k), (BM, BK))
    ptx::cp_async_16_if<2048>(x_ring_at_7, a_ptr_20 + 32, x_ok_7 & x_ok_9);
    // for k in tl.range(0, K, BK, stages=stages):
    auto a_ptr_21 = a_ptr_18 + index_5;
    // x = tl.load(a, (i * BM, k), (BM, BK))
    ptx::cp_async_16_if<3072>(x_ring_at_7, a_ptr_21 + 32, x_ok_8 & x_ok_9);
    // y = tl.load(b, (k, j * BN), (BK, BN))
    const int y_index_8 = x_index_15 + index_12;
    const unsigned y_ring_at_8 = y_ring_at_5 + ((slot_offset_1 - 2048) & 2048);
    ptx::cp_async_16_if<0>(y_ring_at_8, b_ptr_15, (y_index_8 < a_shape1) & y_ok_1);
    // for k in tl.range(0, K, BK, stages=stages):
    auto b_ptr_16 = b_ptr_15 + index_7;
    // y = tl.load(b, (k, j * BN), (BK, BN))
    ptx::cp_async_16_if<1024>(y_ring_at_8, b_ptr_16, (y_index_8 + 16 < a_shape1) & y_ok_1);
    // for k in tl.range(0, K, BK, stages=stages):
    ptx::cp_async_commit();
    // acc = tl.dot(x, y, acc)
    #pragma unroll
    for (int i = 0; i < 2; ++i) {
      #pragma unroll
      for (int j = 0; j < 4; ++j) {
        ptx::mma_m16n8k16_row_col_f16_f16_f32(acc_1[16 * i + 4 * j], acc_1[16 * i + 4 * j + 1],
            acc_1[16 * i + 4 * j + 2], acc_1[16 * i + 4 * j + 3], x_6[4 * i], x_6[4 * i + 1], x_6[4 * i + 2],
            x_6[4 * i + 3], y_6[2 * j], y_6[2 * j + 1]);
      }
    }
    // for k in tl.range(0, K, BK, stages=stages):
    const int index_13 = (slot_1 + 1) & 1;
    ptx::cp_async_wait<0>();
    __syncthreads();
    // x = tl.load(a, (i * BM, k), (BM, BK))
    const unsigned x_ring_at_8 = x_ring_at_5 + index_11;
    unsigned x_8[8];
    ptx::ldmatrix_x4<0>(x_8[0], x_8[1], x_8[2], x_8[3], x_ring_at_8);
    ptx::ldmatrix_x4<1024>(x_8[4], x_8[5], x_8[6], x_8[7], x_ring_at_8);
    // y = tl.load(b, (k, j * BN), (BK, BN))
    const unsigned y_ring_at_9 = y_ring_at_3 + index_10;
    unsigned y_8[8];
    ptx::ldmatrix_x4_trans<0>(y_8[0], y_8[1], y_8[2], y_8[3], y_ring_at_9);
    const unsigned y_ring_at_10 = y_ring_at_4 + index_10;
    ptx::ldmatrix_x4_trans<0>(y_8[4], y_8[5], y_8[6], y_8[7], y_ring_at_10);
    // acc = tl.dot(x, y, acc)
    #pragma unroll
    for (int i = 0; i < 2; ++i) {
      #pragma unroll
      for (int j = 0; j < 4; ++j) {
        ptx::mma_m16n8k16_row_col_f16_f16_f32(acc_1[16 * i + 4 * j], acc_1[16 * i + 4 * j + 1],
            acc_1[16 * i + 4 * j + 2], acc_1[16 * i + 4 * j + 3], x_7[4 * i], x_7[4 * i + 1], x_7[4 * i + 2],
            x_7[4 * i + 3], y_7[2 * j], y_7[2 * j + 1]);
      }
    }
    // for k in tl.range(0, K, BK, stages=stages):
    auto b_ptr_17 = b_ptr_15 + index_1;
    asm volatile("" : "+l"(a_ptr_18));
    slot_1 = index_13;
    x_6[0] = x_8[0]; x_6[1] = x_8[1]; x_6[2] = x_8[2]; x_6[3] = x_8[3]; x_6[4] = x_8[4]; x_6[5] = x_8[5];
    x_6[6] = x_8[6]; x_6[7] = x_8[7];
    y_6[0] = y_8[0]; y_6[1] = y_8[1]; y_6[2] = y_8[2]; y_6[3] = y_8[3]; y_6[4] = y_8[4]; y_6[5] = y_8[5];
    y_6[6] = y_8[6]; y_6[7] = y_8[7];
    slot_offset = index_11;
    slot_offset_1 = index_10;
    a_ptr_18 = a_ptr_18 + 32;
    b_ptr_15 = b_ptr_17;
  }
  ptx::cp_async_wait<0>();
  // tl.store(c, (i * BM, j * BN), acc.to(c.dtype))
  unsigned v_2[16];
  v_2[0] = ptx::pack_f16(acc_1[1], acc_1[0]);
  v_2[1] = ptx::pack_f16(acc_1[3], acc_1[2]);
  v_2[2] = ptx::pack_f16(acc_1[5], acc_1[4]);
  v_2[3] = ptx::pack_f16(acc_1[7], acc_1[6]);
  v_2[4] = ptx::pack_f16(acc_1[9], acc_1[8]);
  v_2[5] = ptx::pack_f16(acc_1[11], acc_1[10]);
  v_2[6] = ptx::pack_f16(acc_1[13], acc_1[12]);
  v_2[7] = ptx::pack_f16(acc_1[15], acc_1[14]);
  v_2[8] = ptx::pack_f16(acc_1[17], acc_1[16]);
  v_2[9] = ptx::pack_f16(acc_1[19], acc_1[18]);
  v_2[10] = ptx::pack_f16(acc_1[21], acc_1[20]);
  v_2[11] = ptx::pack_f16(acc_1[23], acc_1[22]);
  v_2[12] = ptx::pack_f16(acc_1[25], acc_1[24]);
  v_2[13] = ptx::pack_f16(acc_1[27], acc_1[26]);
  v_2[14] = ptx::pack_f16(acc_1[29], acc_1[28]);
  v_2[15] = ptx::pack_f16(acc_1[31], acc_1[30]);
  __syncthreads();
  const int tid_2 = ptx::read_tid_x();
  const int index_14 = tid_2 >> 2;
  const int index_15 = tid_2 & 3;
  const int index_16 = ((tid_2 >> 5) * 32 + (index_14 & 7)) * 32 + index_15 * 2;
  const int index_17 = index_16 ^ ((index_16 >> 3) & 24);
  const unsigned x_ring_at_9 = pinned(x_ring + index_17 * 2);
  ptx::st_shared_b32<0>(x_ring_at_9, v_2[0]);
  ptx::st_shared_b32<512>(x_ring_at_9, v_2[1]);
  const unsigned x_ring_at_10 = pinned(x_ring + (index_17 ^ 8) * 2);
  ptx::st_shared_b32<0>(x_ring_at_10, v_2[2]);
  ptx::st_shared_b32<512>(x_ring_at_10, v_2[3]);
  const unsigned x_ring_at_11 = pinned(x_ring + (index_17 ^ 16) * 2);
  ptx::st_shared_b32<0>(x_ring_at_11, v_2[4]);
  ptx::st_shared_b32<512>(x_ring_at_11, v_2[5]);
  const unsigned x_ring_at_12 = pinned(x_ring + (index_17 ^ 24) * 2);
  ptx::st_shared_b32<0>(x_ring_at_12, v_2[6]);
  ptx::st_shared_b32<512>(x_ring_at_12, v_2[7]);
  ptx::st_shared_b32<1024>(x_ring_at_9, v_2[8]);
  ptx::st_shared_b32<1536>(x_ring_at_9, v_2[9]);
  ptx::st_shared_b32<1024>(x_ring_at_10, v_2[10]);
  ptx::st_shared_b32<1536>(x_ring_at_10, v_2[11]);
  ptx::st_shared_b32<1024>(x_ring_at_11, v_2[12]);
  ptx::st_shared_b32<1536>(x_ring_at_11, v_2[13]);
  ptx::st_shared_b32<1024>(x_ring_at_12, v_2[14]);
  ptx::st_shared_b32<1536>(x_ring_at_12, v_2[15]);
  __syncthreads();
  const int index_18 = index_15 * 8;
  const int index_19 = index_14 * 32 + index_18;
  const unsigned x_ring_at_13 = pinned(x_ring + (index_19 ^ ((index_19 >> 3) & 24)) * 2);
  unsigned v_3[16];
  ptx::ld_shared_v4_b32<0>(v_3[0], v_3[1], v_3[2], v_3[3], x_ring_at_13);
  ptx::ld_shared_v4_b32<1024>(v_3[4], v_3[5], v_3[6], v_3[7], x_ring_at_13);
  ptx::ld_shared_v4_b32<2048>(v_3[8], v_3[9], v_3[10], v_3[11], x_ring_at_13);
  ptx::ld_shared_v4_b32<3072>(v_3[12], v_3[13], v_3[14], v_3[15], x_ring_at_13);
  // x = tl.load(a, (i * BM, k), (BM, BK))
  const int ctaid_x_2 = ptx::read_ctaid_x();
  const int ctaid_z_2 = ptx::read_ctaid_z();
  const int nctaid_x_2 = gridDim.x;
  // y = tl.load(b, (k, j * BN), (BK, BN))
  const int ctaid_y_1 = ptx::read_ctaid_y();
  // tl.store(c, (i * BM, j * BN), acc.to(c.dtype))
  const int index_20 = index_14 + (ctaid_z_2 * nctaid_x_2 + ctaid_x_2) * 64;
  const int index_21 = index_18 + ctaid_y_1 * 32;
  const long long bytes_20 = pinned((long long)(index_20 * b_shape1 + index_21) * 2);
  auto c_ptr = pinned(at_byte(c, bytes_20));
  const bool ok = index_21 < b_shape1;
  if ((index_20 < a_shape0) & ok) ptx::st_global_v4_b32(c_ptr, v_3[0], v_3[1], v_3[2], v_3[3]);
  auto c_ptr_1 = pinned(at_byte(c_ptr, bytes_5));
  if ((index_20 + 16 < a_shape0) & ok) ptx::st_global_v4_b32(c_ptr_1, v_3[4], v_3[5], v_3[6], v_3[7]);
  const long long bytes_21 = pinned((long long)(b_shape1 * 32) * 2);
  auto c_ptr_2 = pinned(at_byte(c_ptr, bytes_21));
  if ((index_20 + 32 < a_shape0) & ok) ptx::st_global_v4_b32(c_ptr_2, v_3[8], v_3[9], v_3[10], v_3[11]);
  const long long bytes_22 = pinned((long long)(b_shape1 * 48) * 2);
  auto c_ptr_3 = pinned(at_byte(c_ptr, bytes_22));
  if ((index_20 + 48 < a_shape0) & ok) ptx::st_global_v4_b32(c_ptr_3, v_3[12], v_3[13], v_3[14], v_3[15]);
}
