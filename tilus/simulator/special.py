"""Special registers: which exist and their values for the lanes of a batch."""

from __future__ import annotations

import re

_PATTERN = re.compile(
    r"%(?:(?:tid|ntid|ctaid|nctaid|clusterid|nclusterid|cluster_ctaid|cluster_nctaid)(?:\.[xyz])?"
    r"|laneid|warpid|nwarpid|smid|nsmid|gridid|clock|clock64|clock_hi|globaltimer|globaltimer_lo|globaltimer_hi"
    r"|lanemask_(?:eq|le|lt|ge|gt)|dynamic_smem_size|total_smem_size|aggr_smem_size|cluster_ctarank|cluster_nctarank"
    r"|is_explicit_cluster|envreg(?:\d|[12]\d|3[01])|reserved_smem_offset_(?:begin|end|cap|0|1)|current_graph_exec|pm[0-7](?:_64)?)\Z")


def is_special(name: str) -> bool:
    """Whether ``%name`` is a special register of PTX."""
    return _PATTERN.match(name) is not None
