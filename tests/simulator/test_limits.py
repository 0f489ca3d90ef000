"""Shared memory that a block of each target may have, whether the module names the target or the launch does."""

from __future__ import annotations

import numpy as np
import pytest

from tilus import simulator
from tilus.diagnostics import ResourceError

PTX = """.version 8.8
.target sm_{target}
.address_size 64
.extern .shared .align 16 .b8 s[];
.visible .entry k(.param .u64 p)
{{ .reg .b32 %r<3>; .reg .b64 %rd<2>; ld.param.u64 %rd1, [p]; mov.u32 %r1, s; st.shared.u32 [%r1], 7;
   ld.shared.u32 %r2, [%r1]; st.global.u32 [%rd1], %r2; ret; }}"""
LIMITS = {"70": 96, "75": 64, "80": 163, "86": 99, "89": 99, "90a": 227, "100a": 227, "103a": 227, "110f": 227,
          "120": 99, "121a": 99}


@pytest.mark.parametrize("target", LIMITS)
@pytest.mark.parametrize("named", [False, True])
def test_shared_memory_of_a_block(target: str, named: bool) -> None:
    ptx = PTX.format(target="80" if named else target)
    number = int(target.rstrip("af")) if named else None
    out = np.zeros(1, "u4")
    room = 1024 * LIMITS[target]
    simulator.launch(ptx, "k", 1, 1, [out], shared_bytes=room, target=number)
    assert out[0] == 7
    with pytest.raises(ResourceError, match=f"a block of sm_{target.rstrip('af')} has at most {room}"):
        simulator.launch(ptx, "k", 1, 1, [out], shared_bytes=room + 16, target=number)
