#include <cuda_fp16.h>

typedef unsigned u32;
__device__ u32 sa(const void*p){return (u32)__cvta_generic_to_shared(p);}
#define BM 128
#define BN 128
#define BK 32
// A: MxK row, B: KxN row; 128 threads, 4 warps 2x2, 64x64 each; 2 stages
__device__ __forceinline__ int swa(int r,int c){ return r*BK + (((c>>3) ^ ((r>>1)&3))<<3) + (c&7);} 
__device__ __forceinline__ int swb(int r,int c){ return r*BN + (((c>>3) ^ (r&7))<<3) + (c&7);} 
extern "C" __global__ void __launch_bounds__(128) gemm(const half*A,const half*B,float*C,int M,int N,int K){
 __shared__ __align__(128) half As[2][BM*BK]; __shared__ __align__(128) half Bs[2][BK*BN];
 int t=threadIdx.x, lane=t&31, w=t>>5; int wm=(w>>1)*64, wn=(w&1)*64; int bm=blockIdx.y*BM, bn=blockIdx.x*BN;
 float acc[4][8][4]; 
 #pragma unroll
 for(int i=0;i<4;i++)
 #pragma unroll
 for(int j=0;j<8;j++)
 #pragma unroll
 for(int k=0;k<4;k++) acc[i][j][k]=0;
 auto load=[&](int s,int k0){
  #pragma unroll
  for(int i=0;i<4;i++){ int c=t+i*128; int r=c>>2, cc=(c&3)*8; asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"::"r"(sa(&As[s][swa(r,cc)])),"l"(A+(size_t)(bm+r)*K+k0+cc)); }
  #pragma unroll
  for(int i=0;i<4;i++){ int c=t+i*128; int r=c>>4, cc=(c&15)*8; asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"::"r"(sa(&Bs[s][swb(r,cc)])),"l"(B+(size_t)(k0+r)*N+bn+cc)); }
  asm volatile("cp.async.commit_group;");
 };
 load(0,0);
 int T=K/BK;
 for(int it=0;it<T;it++){
  if(it+1<T){ load((it+1)&1,(it+1)*BK); asm volatile("cp.async.wait_group 1;"::: "memory"); } else asm volatile("cp.async.wait_group 0;":::"memory");
  __syncthreads();
  int s=it&1;
  #pragma unroll
  for(int kk=0;kk<BK;kk+=16){
   u32 a[4][4], b[8][2];
   #pragma unroll
   for(int i=0;i<4;i++){ int r=wm+i*16+(lane&15), c=kk+(lane>>4)*8; asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];":"=r"(a[i][0]),"=r"(a[i][1]),"=r"(a[i][2]),"=r"(a[i][3]):"r"(sa(&As[s][swa(r,c)])):"memory"); }
   #pragma unroll
   for(int j=0;j<4;j++){ int r=kk+(lane&15), c=wn+j*16+(lane>>4)*8; asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];":"=r"(b[2*j][0]),"=r"(b[2*j][1]),"=r"(b[2*j+1][0]),"=r"(b[2*j+1][1]):"r"(sa(&Bs[s][swb(r,c)])):"memory"); }
   #pragma unroll
   for(int i=0;i<4;i++)
   #pragma unroll
   for(int j=0;j<8;j++) asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};":"+f"(acc[i][j][0]),"+f"(acc[i][j][1]),"+f"(acc[i][j][2]),"+f"(acc[i][j][3]):"r"(a[i][0]),"r"(a[i][1]),"r"(a[i][2]),"r"(a[i][3]),"r"(b[j][0]),"r"(b[j][1]));
  }
  __syncthreads();
 }
 #pragma unroll
 for(int i=0;i<4;i++)
 #pragma unroll
 for(int j=0;j<8;j++)
 #pragma unroll
 for(int h=0;h<2;h++){ int r=bm+wm+i*16+(lane>>2)+h*8, c=bn+wn+j*8+(lane&3)*2; *(float2*)(C+(size_t)r*N+c)=make_float2(acc[i][j][h*2],acc[i][j][h*2+1]); }
}

// Flash attention forward: 64 queries of one head a block, 4 warps of 16 queries, 64 keys a step, head width 64.
#define LDM4(r, p) asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"((r)[0]), "=r"((r)[1]), "=r"((r)[2]), "=r"((r)[3]) : "r"(sa(p)) : "memory")
#define LDM4T(r, p) asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"((r)[0]), "=r"((r)[1]), "=r"((r)[2]), "=r"((r)[3]) : "r"(sa(p)) : "memory")
#define MMA(c, a, b0, b1) asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" : "+f"((c)[0]), "+f"((c)[1]), "+f"((c)[2]), "+f"((c)[3]) : "r"((a)[0]), "r"((a)[1]), "r"((a)[2]), "r"((a)[3]), "r"(b0), "r"(b1))
__device__ __forceinline__ int swq(int r, int c) { return r * 64 + (((c >> 3) ^ (r & 7)) << 3) + (c & 7); }
__device__ __forceinline__ u32 pack(float x, float y) { __half2 h = __floats2half2_rn(x, y); return *(u32*)&h; }
extern "C" __global__ void __launch_bounds__(128) attention(const half* Q, const half* K, const half* V, float* O, int n) {
  __shared__ __align__(128) half q[64 * 64], k[64 * 64], v[64 * 64];
  int t = threadIdx.x, lane = t & 31, w = t >> 5; size_t head = (size_t)blockIdx.y * n * 64; int first = blockIdx.x * 64;
  auto load = [&](half* s, const half* g, int row) {
    #pragma unroll
    for (int i = 0; i < 4; i++) { int c = t + i * 128, r = c >> 3, cc = (c & 7) * 8;
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(sa(&s[swq(r, cc)])), "l"(g + head + (size_t)(row + r) * 64 + cc) : "memory"); } };
  load(q, Q, first); asm volatile("cp.async.commit_group;\ncp.async.wait_group 0;" ::: "memory"); __syncthreads();
  u32 a[4][4];
  #pragma unroll
  for (int kk = 0; kk < 4; kk++) LDM4(a[kk], &q[swq(w * 16 + (lane & 15), kk * 16 + (lane >> 4) * 8)]);
  float o[8][4], m[2] = {-1e30f, -1e30f}, l[2] = {0, 0};
  #pragma unroll
  for (int j = 0; j < 8; j++)
    #pragma unroll
    for (int i = 0; i < 4; i++) o[j][i] = 0;
  for (int step = 0; step < n; step += 64) {
    load(k, K, step); load(v, V, step); asm volatile("cp.async.commit_group;\ncp.async.wait_group 0;" ::: "memory"); __syncthreads();
    float s[8][4];
    #pragma unroll
    for (int j = 0; j < 8; j++)
      #pragma unroll
      for (int i = 0; i < 4; i++) s[j][i] = 0;
    #pragma unroll
    for (int kk = 0; kk < 4; kk++)
      #pragma unroll
      for (int j = 0; j < 4; j++) { u32 b[4]; LDM4(b, &k[swq(j * 16 + (lane & 15), kk * 16 + (lane >> 4) * 8)]);
        MMA(s[2 * j], a[kk], b[0], b[2]); MMA(s[2 * j + 1], a[kk], b[1], b[3]); }
    #pragma unroll
    for (int h = 0; h < 2; h++) { float x = m[h];
      #pragma unroll
      for (int j = 0; j < 8; j++) x = fmaxf(x, fmaxf(s[j][2 * h], s[j][2 * h + 1]) * 0.18033688f);
      x = fmaxf(x, __shfl_xor_sync(~0u, x, 1)); x = fmaxf(x, __shfl_xor_sync(~0u, x, 2)); float scale = exp2f(m[h] - x), sum = 0; m[h] = x;
      #pragma unroll
      for (int j = 0; j < 8; j++) { s[j][2 * h] = exp2f(s[j][2 * h] * 0.18033688f - x); s[j][2 * h + 1] = exp2f(s[j][2 * h + 1] * 0.18033688f - x);
        sum += s[j][2 * h] + s[j][2 * h + 1]; o[j][2 * h] *= scale; o[j][2 * h + 1] *= scale; }
      sum += __shfl_xor_sync(~0u, sum, 1); sum += __shfl_xor_sync(~0u, sum, 2); l[h] = l[h] * scale + sum; }
    #pragma unroll
    for (int kk = 0; kk < 4; kk++) { u32 p[4] = {pack(s[2 * kk][0], s[2 * kk][1]), pack(s[2 * kk][2], s[2 * kk][3]),
        pack(s[2 * kk + 1][0], s[2 * kk + 1][1]), pack(s[2 * kk + 1][2], s[2 * kk + 1][3])};
      #pragma unroll
      for (int j = 0; j < 4; j++) { u32 b[4]; LDM4T(b, &v[swq(kk * 16 + (lane & 15), j * 16 + (lane >> 4) * 8)]);
        MMA(o[2 * j], p, b[0], b[1]); MMA(o[2 * j + 1], p, b[2], b[3]); } }
    __syncthreads();
  }
  #pragma unroll
  for (int h = 0; h < 2; h++)
    #pragma unroll
    for (int j = 0; j < 8; j++) { int r = first + w * 16 + (lane >> 2) + h * 8, c = j * 8 + (lane & 3) * 2;
      *(float2*)(O + head + (size_t)r * 64 + c) = make_float2(o[j][2 * h] / l[h], o[j][2 * h + 1] / l[h]); }
}
