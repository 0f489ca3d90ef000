"""Thread level as a machine's emitters can spell it.

What an operation means is decided here, once: :mod:`machines` has a table for each machine of what its emitters spell,
the other modules are rules for what is not in it. A rule gives operations that may need rules themselves. A native
instruction is one more row.
"""

from tilus.lowering.legalise import atomics, casts, floats, integers, philox, words  # noqa: F401  (registers the rules)
from tilus.lowering.legalise.legalise import legalise, legalise_block
from tilus.lowering.legalise.legality import Legality, Machine, Row
from tilus.lowering.legalise.machines import HOST, HOST_SCALES, HOST_WITHOUT_HALVES, NVIDIA
from tilus.lowering.legalise.rules import rule_for

__all__ = ["HOST", "HOST_SCALES", "HOST_WITHOUT_HALVES", "NVIDIA", "Legality", "Machine", "Row", "legalise",
           "legalise_block", "rule_for"]
