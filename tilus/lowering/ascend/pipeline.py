"""The passes for Ascend's cores, in order."""

from __future__ import annotations

from tilus.lowering.ascend.arguments import drop_unused_arguments
from tilus.lowering.ascend.barriers import insert_barriers
from tilus.lowering.ascend.check_operations import check_operations
from tilus.lowering.ascend.events import insert_events
from tilus.lowering.ascend.exponentials import fold_exponentials
from tilus.lowering.ascend.extrema import locate_extrema
from tilus.lowering.ascend.functions import expand_functions
from tilus.lowering.ascend.halves import halve_vector_tiles
from tilus.lowering.ascend.hoist_loads import hoist_loads
from tilus.lowering.ascend.index_sums import add_numbers
from tilus.lowering.ascend.lower import lower_to_cores
from tilus.lowering.ascend.neutral import begin_with_infinities
from tilus.lowering.ascend.overlap import overlap_sides
from tilus.lowering.ascend.plan_memory import plan_memory
from tilus.lowering.ascend.queues import queue_tensors
from tilus.lowering.ascend.rotation import rotate_slots
from tilus.lowering.ascend.share_tensors import share_tensors
from tilus.lowering.ascend.shifts import expand_shifts
from tilus.lowering.ascend.sides import split_sides
from tilus.lowering.ascend.strips import cut_strips
from tilus.lowering.empty_tiles import drop_empty_tiles
from tilus.lowering.pipelines import Pipeline
from tilus.lowering.simplify import simplify

ASCEND = Pipeline(
    (("check-operations", check_operations), ("drop-empty-tiles", drop_empty_tiles),
     ("locate-extrema", locate_extrema), ("expand-functions", expand_functions),
     ("expand-shifts", expand_shifts), ("simplify", simplify),
     ("begin-with-infinities", begin_with_infinities), ("fold-exponentials", fold_exponentials),
     ("simplify-exponentials", simplify), ("split-sides", split_sides),
     ("overlap-sides", overlap_sides),
     ("halve-vector-tiles", halve_vector_tiles), ("simplify-sides", simplify),
     ("cut-strips", cut_strips), ("add-numbers", add_numbers),
     ("hoist-loads", hoist_loads)),
    ("lower-to-cores", lower_to_cores),
    (("simplify-cores", simplify), ("drop-unused-arguments", drop_unused_arguments), ("share-tensors", share_tensors),
     ("queue-tensors", queue_tensors), ("rotate-slots", rotate_slots),
     ("plan-local-memory", plan_memory), ("insert-events", insert_events),
     ("insert-barriers", insert_barriers)),
)
"""From a traced tile module to what is printed as Ascend C."""

