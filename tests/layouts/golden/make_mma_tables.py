"""Makes ``mma.json``, the fragment tables of the tests, from the CuTe headers of the wheel ``nvidia-cutlass``.

    pip download --no-deps nvidia-cutlass && unzip nvidia_cutlass-*.whl
    python tests/layouts/golden/make_mma_tables.py cutlass_library/source/include CUDA_INCLUDE CCCL_INCLUDE

A host C++ program prints, per instruction and operand, the (row, column) of every (thread, register element):
CuTe's thread/value layouts give the column-major offset in A (m, k), B (n, k) and C (m, n). Needs g++ and the CUDA
headers
(wheels ``nvidia-cuda-runtime``, ``nvidia-cuda-crt`` and ``nvidia-cuda-cccl``), but no GPU.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tempfile

ATOMS = [
    ("mma_traits_sm70.hpp", [f"SM70_8x8x4_{t}_{o}" for t in ("F16F16F16F16", "F32F16F16F32")
                             for o in ("TN", "NT", "NN", "TT")]),
    ("mma_traits_sm75.hpp", ["SM75_16x8x8_F32F16F16F32_TN", "SM75_8x8x16_S32S8S8S32_TN"]),
    ("mma_traits_sm80.hpp", [
        "SM80_16x8x8_F16F16F16F16_TN", "SM80_16x8x16_F16F16F16F16_TN", "SM80_16x8x8_F32F16F16F32_TN",
        "SM80_16x8x16_F32F16F16F32_TN", "SM80_16x8x8_F32BF16BF16F32_TN", "SM80_16x8x16_F32BF16BF16F32_TN",
        "SM80_16x8x4_F32TF32TF32F32_TN", "SM80_16x8x8_F32TF32TF32F32_TN", "SM80_8x8x4_F64F64F64F64_TN",
        "SM80_8x8x16_S32S8S8S32_TN", "SM80_16x8x16_S32S8S8S32_TN", "SM80_16x8x32_S32S8S8S32_TN",
        "SM80_8x8x32_S32S4S4S32_TN", "SM80_16x8x32_S32S4S4S32_TN", "SM80_16x8x64_S32S4S4S32_TN",
        "SM80_8x8x128_S32U1U1S32_TN_XORPOPC", "SM80_16x8x256_S32U1U1S32_TN_XORPOPC",
        # SM80_16x8x128's C layout does not compile in version 4.2 (its stride has a rank of its own)
    ]),
    ("mma_traits_sm89.hpp", ["SM89_16x8x32_F32E4M3E4M3F32_TN"]),
    ("mma_traits_sm90.hpp", ["SM90_16x8x4_F64F64F64F64_TN", "SM90_16x8x8_F64F64F64F64_TN",
                             "SM90_16x8x16_F64F64F64F64_TN"]),
    ("mma_traits_sm120.hpp", ["SM120_16x8x32_TN<float_e2m1_t, float_e2m1_t, float>",
                              ("SM120::BLOCKSCALED::SM120_16x8x64_TN_VS<float_e2m1_t, float_e2m1_t, float, "
                               "float_ue8m0_t, 32>")]),
    ("mma_traits_sm120_sparse.hpp", ["SM120::SPARSE::SM120_SPARSE_16x8x64_TN<float_e4m3_t, float_e4m3_t, float>"]),
]

PROGRAM = """
#include <cstdio>
#include <cute/tensor.hpp>
%(includes)s
using namespace cute;

template <class Layout, class ThrID>
void operand(char const* name, Layout tv, ThrID, int rows, int columns) {
  printf("  \\"%%s\\": {\\"shape\\": [%%d, %%d], \\"offsets\\": [", name, rows, columns);
  for (int t = 0; t < size<0>(tv); ++t) {
    printf("%%s[", t ? ", " : "");
    for (int v = 0; v < size<1>(tv); ++v) printf("%%s%%d", v ? ", " : "", int(tv(t, v)));
    printf("]");
  }
  printf("]}");
}

template <class Op>
void atom(char const* name, bool last) {
  using Traits = MMA_Traits<Op>;
  using S = typename Traits::Shape_MNK;
  int m = size<0>(S{}), n = size<1>(S{}), k = size<2>(S{});
  printf(" \\"%%s\\": {\\"mnk\\": [%%d, %%d, %%d], \\"lanes\\": [", name, m, n, k);
  typename Traits::ThrID thr;
  for (int t = 0; t < size(thr); ++t) printf("%%s%%d", t ? ", " : "", int(thr(t)));
  printf("],\\n");
  operand("a", typename Traits::ALayout{}, thr, m, k);
  printf(",\\n");
  operand("b", typename Traits::BLayout{}, thr, n, k);
  printf(",\\n");
  operand("c", typename Traits::CLayout{}, thr, m, n);
  printf("}%%s\\n", last ? "" : ",");
}

int main() {
  printf("{\\n");
%(calls)s
  printf("}\\n");
}
"""


def main() -> None:
    includes = [f"-I{path}" for path in sys.argv[1:]]
    names = [name for _, group in ATOMS for name in group]
    program = PROGRAM % {
        "includes": "\n".join(f"#include <cute/atom/{header}>" for header, _ in ATOMS),
        "calls": "\n".join(f'  atom<{name}>("{name}", {str(name == names[-1]).lower()});' for name in names),
    }
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "tables.cpp")
        source.write_text(program)
        binary = pathlib.Path(folder, "tables")
        subprocess.run(["g++", "-std=c++17", "-O0", "-w", *includes, str(source), "-o", str(binary)], check=True)
        tables = json.loads(subprocess.run([str(binary)], check=True, capture_output=True, text=True).stdout)
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(table, separators=(',', ':'))}"
                       for name, table in tables.items())
    pathlib.Path(__file__).with_name("mma.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()
