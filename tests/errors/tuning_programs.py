"""Mistakes in spaces of variants."""

from __future__ import annotations

import numpy as np

import tilus as tl


@tl.jit
def scale(x: tl.f32["M", "N"], s: tl.f32, BM: int = 16, BN: int = 16, stages: int = 2, exact: bool = True):
    i, j = tl.grid(tl.cdiv(x.shape[0], BM), tl.cdiv(x.shape[1], BN))
    tl.store(x, (i * BM, j * BN), tl.load(x, (i * BM, j * BN), (BM, BN)) * s)


@tl.fuse
def double(x):
    return x + x


def autotuned_function() -> None:
    @tl.autotune(BM=[16, 32])
    def kernel(x: tl.f32["N"], BM: int):
        tl.grid(1)


def autotuned_twice() -> None:
    tl.autotune(BN=[16])(tl.autotune(BM=[16])(scale))


def autotune_of_nothing() -> None:
    tl.autotune(key="M")(scale)


def autotune_of_an_unknown_parameter() -> None:
    tl.autotune(BM=[16, 32], BK=[16])(scale)


def autotune_of_an_unknown_tile() -> None:
    tl.autotune(BM=[16, 32], WM=[16])(double)


def autotune_of_an_array() -> None:
    tl.autotune(x=[1.0, 2.0])(scale)


def autotune_of_a_scalar_with_a_wrong_type() -> None:
    tl.autotune(s=[1.0, "2"])(scale)


def autotune_without_a_list() -> None:
    tl.autotune(BM=16)(scale)


def autotune_with_an_empty_list() -> None:
    tl.autotune(BM=[])(scale)


def autotune_with_a_wrong_type() -> None:
    tl.autotune(BM=[16, "32"])(scale)


def autotune_with_a_value_twice() -> None:
    tl.autotune(BM=[16, 32, 16])(scale)


def autotune_with_a_list_as_value() -> None:
    tl.autotune(BM=[[16], [32]])(scale)


def autotune_with_configs_and_values() -> None:
    tl.autotune(BM=[16, 32], configs=[{"BM": 16}])(scale)


def autotune_with_a_wrong_config() -> None:
    tl.autotune(configs=[{"BM": 16}, 32])(scale)


def autotune_with_a_config_twice() -> None:
    tl.autotune(configs=[{"BM": 16}, tl.Config(BM=16)])(scale)


def autotune_without_configs() -> None:
    tl.autotune(configs=[])(scale)


def autotune_with_an_unknown_key() -> None:
    tl.autotune(BM=[16, 32], key=("M", "K"))(scale)


def constraint_that_ends_too_soon() -> None:
    tl.autotune(BM=[16, 32], BN=[16], where="BM * BN <=")(scale)


def constraint_with_a_single_bar() -> None:
    tl.autotune(BM=[16, 32], BN=[16], where="BM <= BN; BM / BN == 2")(scale)


def constraint_on_several_lines() -> None:
    tl.autotune(BM=[16, 32], BN=[16], where="""BM <= BN
                | BM + BN = 48""")(scale)


def constraint_from_elsewhere() -> None:
    text = "; ".join(["BM <= BN", "BM in 32"])
    tl.autotune(BM=[16, 32], BN=[16], where=text)(scale)


def constraint_with_an_unknown_name() -> None:
    tl.autotune(BM=[16, 32], where="BM <= K")(scale)


def constraint_on_a_float() -> None:
    tl.autotune(BM=[16, 32], where="s >= 2")(scale)


def constraint_on_values_that_are_no_integers() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], dtype: tl.DType = tl.f16, BM: int = 16):
        tl.grid(1)

    tl.autotune(dtype=[tl.f16, tl.bf16], BM=[16], where="dtype == 0")(kernel)


def constraint_that_is_a_number() -> None:
    tl.autotune(BM=[16, 32], where=["BM <= 16", 3])(scale)


def constraint_function_with_an_unknown_name() -> None:
    tl.autotune(BM=[16, 32], BN=[16], where=lambda BM, BK: BM <= BK)(scale)


def constraint_function_with_any_names() -> None:
    tl.autotune(BM=[16, 32], BN=[16], where=lambda **names: len(names) > 1)(scale)


def constraint_function_that_fails() -> None:
    tl.autotune(BM=[16, 32], BN=[16], where=lambda BM, BN: BM // (BM - BN) > 1)(scale)


def constraint_that_leaves_nothing() -> None:
    tl.autotune(BM=[64, 128], BN=[64, 256], stages=[2, 3], where="BM * BN <= 1024; stages == 2")(scale)


def constraints_that_exclude_each_other() -> None:
    tl.autotune(BM=[64, 128], BN=[64, 256], stages=[2, 3], where="BM > BN; stages == 2; BN % 128 == 0")(scale)


def configs_of_which_none_is_left() -> None:
    tl.autotune(configs=[{"BM": 16, "BN": 32}, {"BM": 16}], where="BM == 32 | BM > BN")(scale)


def prepacked_for_an_autotuned_fused_function() -> None:
    tl.prepack(np.zeros((32, 16), np.float32), tl.autotune(BM=[64, 128])(double))


def array() -> np.ndarray:
    return np.zeros((32, 16), np.float32)


def tuned_on_an_engine_whose_time_tells_nothing() -> None:
    tl.autotune(BM=[16, 32])(scale).tune(array(), 2.0, target="interpret")


def tuned_for_a_target_without_a_model() -> None:
    tl.autotune(BM=[16, 32])(scale).tune(array(), 2.0, target="sm_70")


def tuned_for_an_unknown_target() -> None:
    tl.autotune(BM=[16, 32])(scale).tune(array(), 2.0, target="sm_81")


def tuned_without_a_budget() -> None:
    tl.autotune(BM=[16, 32])(scale).tune(array(), 2.0, budget="60s")


def tuned_by_what_is_no_executor() -> None:
    tl.autotune(BM=[16, 32])(scale).tune(array(), 2.0, executor=4)


def tuned_by_an_unknown_executor() -> None:
    tl.autotune(BM=[16, 32])(scale).tune(array(), 2.0, executor="dask:8786")


def tuned_by_an_unknown_strategy() -> None:
    tl.autotune(BM=[16, 32])(scale).tune(array(), 2.0, strategy="random")


def tuned_by_proposals_from_a_list() -> None:
    tl.autotune(configs=[{"BM": 16}, {"BM": 32}])(scale).tune(array(), 2.0, strategy="guided")


def tuned_with_a_reset_of_nothing() -> None:
    tl.autotune(BM=[16, 32])(scale).tune(array(), 2.0, reset="acc")


def tuned_with_an_unknown_parameter() -> None:
    tl.autotune(BM=[16, 32])(scale).tune(array(), 2.0, BX=16)


def tuned_where_no_variant_is_left() -> None:
    tl.autotune(BM=[64, 128], where="BM <= M")(scale).tune(array(), 2.0)


def tuned_where_no_variant_works() -> None:
    @tl.autotune(BM=[16, 32])
    @tl.jit
    def kernel(x: tl.f32["M", "N"], BM: int):
        tl.static_assert(BM > 32, "tiles are too small")
        tl.grid(1)

    kernel.tune(array())


def call_for_which_no_variant_is_left() -> None:
    kernel = tl.autotune(BM=[64, 128], where="BM <= M")(scale)
    kernel(np.zeros((32, 16), np.float32), 2.0)
