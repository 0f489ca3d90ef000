// Prints the (thread, value) layouts of CuTe's MMA and copy atoms and the shared-memory layouts of GMMA as JSON.
#include <cute/tensor.hpp>
#include <cute/atom/mma_traits_sm70.hpp>
#include <cute/atom/mma_traits_sm75.hpp>
#include <cute/atom/mma_traits_sm80.hpp>
#include <cute/atom/mma_traits_sm89.hpp>
#include <cute/atom/mma_traits_sm90.hpp>
#include <cute/atom/mma_traits_sm90_gmma.hpp>
#include <cute/atom/copy_traits_sm75.hpp>
#include <cute/atom/copy_traits_sm90.hpp>
#include <cstdio>
using namespace cute;
template <class L> void table(const char* key, L layout, bool last = false) {
  printf("  \"%s\": [", key);
  for (int t = 0; t < int(size<0>(layout)); ++t) { printf("%s[", t ? "," : "");
    for (int v = 0; v < int(size<1>(layout)); ++v) printf("%s%d", v ? "," : "", int(layout(t, v)));
    printf("]"); }
  printf("]%s\n", last ? "" : ",");
}
template <class Op> void atom(const char* name) {
  using T = MMA_Traits<Op>; typename T::Shape_MNK s;
  printf(" \"%s\": {\n  \"shape\": [%d,%d,%d],\n", name, int(get<0>(s)), int(get<1>(s)), int(get<2>(s)));
  printf("  \"threads\": ["); typename T::ThrID id; for (int i = 0; i < int(size(id)); ++i) printf("%s%d", i ? "," : "", int(id(i))); printf("],\n");
  table("a", typename T::ALayout{}); table("b", typename T::BLayout{}); table("c", typename T::CLayout{}, true); printf(" },\n");
}
template <class Op> void accumulator(const char* name) {
  using T = MMA_Traits<Op>; typename T::Shape_MNK s;
  printf(" \"%s\": {\n  \"shape\": [%d,%d,%d],\n", name, int(get<0>(s)), int(get<1>(s)), int(get<2>(s)));
  table("c", typename T::CLayout{}, true); printf(" },\n");
}
template <class Op> void copy(const char* name) {
  using T = Copy_Traits<Op>; printf(" \"%s\": {\n", name); table("src", typename T::SrcLayout{}); table("dst", typename T::DstLayout{}, true); printf(" },\n");
}
template <class L> void shared(const char* name, L layout) {
  printf(" \"%s\": {\"rows\": %d, \"columns\": %d, \"offset\": [", name, int(size<0>(layout)), int(size<1>(layout)));
  for (int i = 0; i < int(size<0>(layout)); ++i) for (int j = 0; j < int(size<1>(layout)); ++j) printf("%s%d", i + j ? "," : "", int(layout(i, j)));
  printf("]},\n");
}
#define A(x) atom<x>(#x)
#define C(x) copy<x>(#x)
int main() {
  printf("{\n");
  A(SM70_8x8x4_F16F16F16F16_TN); A(SM70_8x8x4_F16F16F16F16_NT); A(SM70_8x8x4_F16F16F16F16_NN); A(SM70_8x8x4_F16F16F16F16_TT);
  A(SM70_8x8x4_F32F16F16F32_TN); A(SM70_8x8x4_F32F16F16F32_NT); A(SM70_8x8x4_F32F16F16F32_NN); A(SM70_8x8x4_F32F16F16F32_TT);
  A(SM75_16x8x8_F32F16F16F32_TN); A(SM75_8x8x16_S32S8S8S32_TN);
  A(SM80_16x8x8_F16F16F16F16_TN); A(SM80_16x8x16_F16F16F16F16_TN); A(SM80_16x8x8_F32F16F16F32_TN); A(SM80_16x8x16_F32F16F16F32_TN);
  A(SM80_16x8x8_F32BF16BF16F32_TN); A(SM80_16x8x16_F32BF16BF16F32_TN);
  A(SM80_16x8x4_F32TF32TF32F32_TN); A(SM80_16x8x8_F32TF32TF32F32_TN); A(SM80_8x8x4_F64F64F64F64_TN);
  A(SM80_8x8x16_S32S8S8S32_TN); A(SM80_16x8x16_S32S8S8S32_TN); A(SM80_16x8x32_S32S8S8S32_TN); A(SM80_16x8x32_S32U8U8S32_TN); A(SM80_16x8x32_S32S8U8S32_TN);
  A(SM80_8x8x32_S32S4S4S32_TN); A(SM80_16x8x32_S32S4S4S32_TN); A(SM80_16x8x64_S32S4S4S32_TN); A(SM80_16x8x64_S32U4U4S32_TN);
  A(SM80_8x8x128_S32U1U1S32_TN_XORPOPC); A(SM80_16x8x256_S32U1U1S32_TN_XORPOPC);
  A(SM89_16x8x32_F32E4M3E4M3F32_TN); A(SM89_16x8x32_F32E5M2E5M2F32_TN);
  A(SM90_16x8x4_F64F64F64F64_TN); A(SM90_16x8x8_F64F64F64F64_TN); A(SM90_16x8x16_F64F64F64F64_TN);
  accumulator<SM90::GMMA::MMA_64x8x16_F32F16F16_SS<GMMA::Major::K, GMMA::Major::K>>("wgmma_m64n8");
  accumulator<SM90::GMMA::MMA_64x32x16_F32F16F16_SS<GMMA::Major::K, GMMA::Major::K>>("wgmma_m64n32");
  accumulator<SM90::GMMA::MMA_64x128x16_F32F16F16_SS<GMMA::Major::K, GMMA::Major::K>>("wgmma_m64n128");
  C(SM75_U32x4_LDSM_N); C(SM75_U16x8_LDSM_T);
  using H = cutlass::half_t;
  shared("k_inter", as_position_independent_swizzle_layout(GMMA::Layout_K_INTER_Atom<H>{})); shared("k_sw32", as_position_independent_swizzle_layout(GMMA::Layout_K_SW32_Atom<H>{})); shared("k_sw64", as_position_independent_swizzle_layout(GMMA::Layout_K_SW64_Atom<H>{}));
  shared("k_sw128", as_position_independent_swizzle_layout(GMMA::Layout_K_SW128_Atom<H>{})); shared("mn_inter", as_position_independent_swizzle_layout(GMMA::Layout_MN_INTER_Atom<H>{})); shared("mn_sw32", as_position_independent_swizzle_layout(GMMA::Layout_MN_SW32_Atom<H>{}));
  shared("mn_sw64", as_position_independent_swizzle_layout(GMMA::Layout_MN_SW64_Atom<H>{})); shared("mn_sw128", as_position_independent_swizzle_layout(GMMA::Layout_MN_SW128_Atom<H>{}));
  printf(" \"source\": \"nvidia-cutlass 4.2.0, cute/atom\"\n}\n");
}
