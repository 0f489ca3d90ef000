"""From array-level modules to tile modules: symbols, partition into kernels, tiling."""

from tilus.lowering.array.bounds import TiledExtents
from tilus.lowering.array.ranges import BoundedAccess, bounded_accesses
from tilus.lowering.array.symbols import Demand, demands, unify_symbols
from tilus.lowering.array.tiles import Tiling
from tilus.lowering.array.tiling import Description, default_parameters, fusion_of, tile_arrays

__all__ = [
    "BoundedAccess", "Demand", "Description", "TiledExtents", "Tiling", "bounded_accesses", "default_parameters",
    "demands", "fusion_of", "tile_arrays", "unify_symbols",
]
