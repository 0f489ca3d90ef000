"""How values of the tile level are represented while they are lowered."""

from __future__ import annotations

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType
from tilus.records import field, record

Number = Value | int
"""A run-time i64, or one that is known."""
LINE_BYTES = 64
"""What caches hold together."""


@record(frozen=True, slots=True)
class Coord:
    """The index along one dimension: ``base + const``, plus ``step`` times the lane number where ``vector``. Where the
    step is not 1, ``base`` is a multiple of ``step`` times the lanes."""

    base: Value | None = None
    const: int = 0
    vector: bool = False
    step: int = 1

    def shifted(self, amount: int) -> Coord:
        return Coord(self.base, self.const + amount, self.vector, self.step) if amount else self


ZERO = Coord()


def coord_at(x: Number, vector: bool, further: int = 0) -> Coord:
    """That of index ``x + further``, or of lanes from there on."""
    return Coord(None, x + further, vector) if isinstance(x, int) else Coord(x, further, vector)


Coords = tuple[Coord, ...]


@record(eq=False, slots=True)
class Buffer:
    """A tile in the frame: elements (in containers) at ``pointer``, strides in elements. ``owned`` says that nobody
    else reads it once its value is dead, ``carried`` that a loop writes it anew. ``ends``: from where on its elements
    are one and the same along a dimension, as far as that is known."""

    pointer: Value
    dtype: DType
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    owned: bool = True
    carried: bool = False
    ends: dict[int, Number] = field(default_factory=dict)


@record(eq=False, slots=True)
class TileOrder:
    """How the elements of a prepacked array lie: tiles of ``rows`` × ``columns``, ``down`` of them one after another in
    each of ``across`` columns of tiles. Lane l of ``lanes`` has the elements of columns l, l + lanes, ... of a row, row
    by row, as bits side by side, in pieces of ``piece`` bytes of all lanes; ``flip``: the bits of a code that are
    flipped. ``depth``: the rows that a word of a lane is of, as bytes of four neighbours; 1 where elements are row by
    row."""

    lanes: int
    rows: int
    columns: int
    piece: int
    flip: int
    tile_bytes: int
    down: Number
    across: Number
    depth: int = 1

    @property
    def vectors(self) -> int:
        """Vectors of all lanes in a row of a tile."""
        return self.columns // self.lanes


@record(eq=False, slots=True)
class Memory:
    """A view. Index ``i`` along ``d`` is in bounds where ``lows[d] <= i < highs[d]``; ``extents`` is what the program
    sees. ``root`` is the argument or allocation that it is part of. Views of types that are not byte-whole count from
    the element ``origin`` of packed bits at ``pointer``; for the others the origin is part of the pointer. Those of
    prepacked arrays have an ``order``."""

    pointer: Value
    dtype: DType
    lows: tuple[Number, ...]
    highs: tuple[Number, ...]
    extents: tuple[Number, ...]
    strides: tuple[Number, ...]
    root: Value
    origin: Number = 0
    packed: bool = False
    read_only: bool = False
    order: TileOrder | None = None


@record(eq=False, slots=True)
class Window:
    """The tile-shaped part of a view that a load or store accesses: element ``c`` of the tile is at
    ``pointer + c · strides`` and in bounds where ``lows <= c < highs``. None for bounds that always hold. ``full``
    is a bool that says that all of the tile is in bounds; None where that is always so. That of a prepacked array has
    its first row in ``origin``, and ``pointer`` is that of its column of tiles."""

    memory: Memory
    pointer: Value
    origin: Number
    strides: tuple[Number, ...]
    lows: tuple[Number | None, ...]
    highs: tuple[Number | None, ...]
    full: Value | None
    shape: tuple[int, ...]


@record(eq=False, slots=True)
class Lazy:
    """A tile that is computed where it is used. ``roots`` are the memories it reads, ``cost`` an estimate of the work
    for an element, ``window`` that of a load."""

    op: Operation
    roots: frozenset[object] = frozenset()
    cost: int = 1
    free: bool = False
    window: Window | None = None


Rep = Buffer | Lazy


@record(eq=False, slots=True)
class Table:
    """A tile that is a function of the codes of a load: its values for all codes, in vectors, and the operations on the
    way that rearrange elements, from the tile to the load. ``planes``: vectors of the values' lowest bytes, those above
    them, and so on, in each 128 bits, where bytes are looked up."""

    load: Value
    window: Window
    vectors: tuple[Value, ...]
    moves: tuple[Operation, ...]
    planes: tuple[Value, ...] = ()


@record(slots=True)
class Machine:
    """What the lowering knows of the processor: bytes of a vector register, their number, size of the
    caches; arrays from ``stream_bytes`` on are written around the caches. ``table`` is the number of 32-bit elements
    of a register of which an instruction picks some by the lanes of another one, 0 where there is no such; such take
    several times as long as those that pick bytes within 128 bits where ``byte_tables``.
    ``byte_products`` names the instruction that sums products of bytes (``DotBytes``), if there is one; ``pairs``:
    there is a fast one for pairs of bf16 (``DotPairs``); ``tiles``: there are tile registers, and products of them.
    ``fma``: it multiplies and adds floats in one instruction; ``halves``: it converts f16; ``scales``: it multiplies by
    powers of two; ``masks``: accesses to some lanes of a vector only are as quick as others; ``asks_for_panels``: code
    asks for packed operands before it reads them, since they are longer than what the processor fetches by itself;
    ``streams``: how many rows of memory are best read side by side without asking for what comes, 0 where code asks;
    ``narrow_streams``: wide instructions are done in halves, and what streams is as fast or faster by such."""

    vector_bytes: int = 32
    registers: int = 16
    l1_bytes: int = 32 << 10
    l2_bytes: int = 512 << 10
    stream_bytes: int = 16 << 20
    table: int = 0
    byte_tables: bool = False
    byte_products: str = ""
    fma: bool = True
    halves: bool = True
    scales: bool = False
    masks: bool = False
    pairs: bool = False
    tiles: bool = False
    asks_for_panels: bool = False
    streams: int = 0
    narrow_streams: bool = False


@record
class BlockState:
    """Liveness within the block being lowered."""

    last_use: dict[Value, int] = field(default_factory=dict)
    position: int = 0
    pending: list[Value] = field(default_factory=list)
