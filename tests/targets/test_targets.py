from __future__ import annotations

import dataclasses
import itertools

import pytest

from tilus.diagnostics import Span, UserError
from tilus.targets import TARGETS, Feature, get_target

EIGHT = ("sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a")


def test_every_promised_target_exists():
    assert set(EIGHT) | {"cpu"} <= set(TARGETS)


def test_records_are_frozen_and_hash_by_value():
    target = get_target("sm_80")
    with pytest.raises(dataclasses.FrozenInstanceError):
        target.arch = 90  # type: ignore[misc]
    assert hash(dataclasses.replace(target)) == hash(target)
    assert dataclasses.replace(target) == target
    assert dataclasses.replace(target, arch=81) != target
    assert get_target(target) is target


def test_unknown_target_names_the_near_ones():
    span = Span("kernel.py", 3, 4)
    with pytest.raises(UserError) as caught:
        get_target("sm_90b", span)
    diagnostic = caught.value.diagnostics[0]
    assert diagnostic.code == "E0501"
    assert diagnostic.span == span
    assert diagnostic.help is not None
    assert "did you mean sm_90" in diagnostic.help
    assert all(name in diagnostic.help for name in TARGETS)


def test_an_unrelated_name_gets_no_guess():
    with pytest.raises(UserError) as caught:
        get_target("mips")
    assert "did you mean" not in (caught.value.diagnostics[0].help or "")


@pytest.mark.parametrize("name", EIGHT)
def test_limits_are_consistent(name: str):
    target = get_target(name)
    assert target.shared_per_block <= target.shared_per_block_optin <= target.shared_per_sm
    assert target.shared_per_block_optin + target.shared_reserved == target.shared_per_sm
    assert target.max_threads_per_sm % target.warp_size == 0


# Blocks per multiprocessor as NVIDIA's occupancy calculator gives them.
@pytest.mark.parametrize(("name", "threads", "registers", "shared", "blocks"), [
    ("sm_80", 256, 32, 0, 8),
    ("sm_80", 128, 255, 0, 2),
    ("sm_80", 128, 128, 48 * 1024, 3),
    ("sm_80", 1024, 64, 0, 1),
    ("sm_86", 1024, 32, 0, 1),
    ("sm_86", 32, 16, 0, 16),
    ("sm_75", 1024, 64, 64 * 1024, 1),
    ("sm_90a", 384, 168, 227 * 1024, 1),
    ("sm_70", 33, 32, 0, 32),
])
def test_resident_blocks(name: str, threads: int, registers: int, shared: int, blocks: int):
    assert get_target(name).resident_blocks(threads, registers, shared) == blocks


def test_those_of_other_back_ends_are_no_cuda_targets():
    assert [t.name for t in TARGETS.values() if not t.is_cuda] == ["cpu", "ascend910b"]


def test_descendants_keep_their_ancestors_features():
    chain = [get_target(n).features for n in ("sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100")]
    assert all(older <= newer for older, newer in itertools.pairwise(chain))
    assert Feature.WGMMA not in get_target("sm_100a").features
