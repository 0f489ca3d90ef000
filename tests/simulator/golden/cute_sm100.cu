// Prints CuTe's layouts of tensor-memory loads, 8-bit ldmatrix and stmatrix, sparse metadata and UMMA atoms as JSON.
#include <cute/tensor.hpp>
#include <cute/atom/copy_traits_sm100.hpp>
#include <cute/atom/mma_traits_sm100.hpp>
#include <cute/atom/mma_traits_sm120_sparse.hpp>
#include <cstdio>
using namespace cute;
// [lane, column] of each register of each thread
template <class Op> void tensor(const char* name) {
  using T = Copy_Traits<Op>; typename T::DstLayout dst; typename T::ValID id; int n = int(size<1>(dst)) / 32;
  printf(" \"%s\": [", name);
  for (int t = 0; t < 32; ++t) for (int v = 0; v < n; ++v) { unsigned long long bit = (unsigned long long)id(int(dst(t, 32 * v)));
    printf("%s[%d,%d,%d]", t + v ? "," : "", t, int(bit / (unsigned long long)TMEM::DP_b{}), int(bit % (unsigned long long)TMEM::DP_b{} / 32)); }
  printf("],\n");
}
template <class L> void bytes(const char* key, L layout, const char* end) {
  printf("  \"%s\": [", key);
  for (int t = 0; t < int(size<0>(layout)); ++t) { printf("%s[", t ? "," : "");
    for (int v = 0; v < int(size<1>(layout)); v += 8) printf("%s%d", v ? "," : "", int(layout(t, v)) / 8); printf("]"); }
  printf("]%s\n", end);
}
template <class Op> void copy8(const char* name) {
  using T = Copy_Traits<Op>; printf(" \"%s\": {\n", name); bytes("src", typename T::SrcLayout{}, ","); bytes("dst", typename T::DstLayout{}, "},");
}
template <class L> void metadata(const char* name, L layout) {
  printf(" \"%s\": [", name);
  for (int t = 0; t < 32; ++t) { printf("%s[", t ? "," : ""); for (int v = 0; v < int(size<1>(layout)); ++v) printf("%s%d", v ? "," : "", int(layout(t, v))); printf("]"); }
  printf("],\n");
}
template <class L> void shared(const char* name, L layout) {
  printf(" \"%s\": {\"rows\": %d, \"columns\": %d, \"offset\": [", name, int(size<0>(layout)), int(size<1>(layout)));
  for (int i = 0; i < int(size<0>(layout)); ++i) for (int j = 0; j < int(size<1>(layout)); ++j) printf("%s%d", i + j ? "," : "", int(layout(i, j)));
  printf("]},\n");
}
#define X(x) tensor<SM100_TMEM_LOAD_##x>(#x)
#define S(x) shared(#x, as_position_independent_swizzle_layout(UMMA::Layout_##x##_Atom<cutlass::half_t>{}))
int main() {
  printf("{\n");
  X(32dp32b1x); X(32dp32b2x); X(32dp32b8x); X(16dp64b1x); X(16dp64b2x); X(16dp64b8x); X(16dp128b1x); X(16dp128b2x); X(16dp128b8x); X(16dp256b1x); X(16dp256b2x); X(16dp256b8x);
  X(16dp32b1x); X(16dp32b2x); X(16dp32b8x); X(32dp32b2x_16b); X(16dp64b2x_16b); X(16dp128b2x_16b); X(16dp256b2x_16b);
  copy8<SM100_U8x8_LDSM_T>("U8x8_LDSM_T"); copy8<SM100_U8x16_LDSM_T>("U8x16_LDSM_T");
  copy8<SM100_U8x4_STSM_T>("U8x4_STSM_T"); copy8<SM100_U8x8_STSM_T>("U8x8_STSM_T"); copy8<SM100_U8x16_STSM_T>("U8x16_STSM_T");
  metadata("sparse_m16n8k64", typename MMA_Traits<SM120::SPARSE::SM120_SPARSE_16x8x64_TN<float_e4m3_t, float_e4m3_t, float>>::ELayout{});
  S(K_INTER); S(K_SW32); S(K_SW64); S(K_SW128); S(MN_INTER); S(MN_SW32); S(MN_SW64); S(MN_SW128);
  printf(" \"source\": \"nvidia-cutlass 4.2.0, cute/atom\"\n}\n");
}
