"""Bugs in what concerns elements that lie in memory, or in registers, without regard to bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.fuzz.mutants_planted import CPU, CUDA, Anything, Mutant
from tilus.ir.dtypes import u64
from tilus.ir.ops import Binary, PtrStore
from tilus.ir.ops.thread import PtrAtomic

_DENSE, _BITS, _NARROW = (f"tilus.lowering.simt.{name}" for name in ("dense", "bits", "narrow"))
_PACKED, _EMIT = "tilus.lowering.cpu.packed", "tilus.lowering.conversions.emit"


def _not_carried(put: Anything) -> Anything:
    def changed(words: Any, part: Any, width: int) -> None:
        shift = words.at % 32
        put(words, part, width)
        if shift + width > 32:
            words._words[-1] = None

    return changed


def _cut_at_the_word(field: Anything) -> Anything:
    def changed(thread: Any, words: Any, at: int, width: int) -> Any:
        return field(thread, words, at, min(width, 32 - at % 32) if width < 32 else width)

    return changed


def _not_cleared(store: Anything) -> Anything:
    def changed(thread: Any, *given: Any) -> None:
        store(thread, *given)
        thread.block.ops = [op for op in thread.block.ops if not (isinstance(op, PtrAtomic) and op.kind == "and")]

    return changed


def _whole_words(store: Anything) -> Anything:
    """What else is in the word is not kept."""
    def changed(thread: Any, word: Any, shift: Any, code: Any, size: int, width: int, predicate: Any) -> None:
        placed = thread.widen(thread.emit(Binary("lsl", thread.widen(code, u64), thread.widen(shift, u64))),
                              word.type.dtype)
        thread.emit(PtrStore(word, placed, 0, predicate))

    return changed


def _unmasked(store: Anything) -> Anything:
    def changed(thread: Any, pointer: Any, words: Any, count: int, alignment: int, predicate: Any) -> None:
        store(thread, pointer, words, count, alignment, predicate if alignment else None)

    return changed


def _halves_swapped(emit: Anything) -> Anything:
    def changed(emitter: Any, node: Any) -> Any:
        return emit(emitter, replace(node, detail=1 - node.detail) if node.kind == "widen" else node)

    return changed


def _last_but_one(pieces: Anything) -> Anything:
    def changed(size: int, alignment: int) -> Any:
        found = list(pieces(size, alignment))
        return found[:-1] if len(found) > 1 else found

    return changed


def _one_form_everywhere(remade: Anything) -> Anything:
    """A form that another branch has made is taken for one that is there."""
    def changed(thread: Any, form: str, value: Any, make: Any) -> Any:
        thread.enclosing = [*thread.enclosing, *(block for block, _ in thread.remade.values())]
        return remade(thread, form, value, make)

    return changed


def _first_bit_of_four(first_bit: Anything) -> Anything:
    def changed(lowering: Any, memory: Any, offset: Any) -> Any:
        byte, bit = first_bit(lowering, memory, offset)
        return byte, bit & 3 if isinstance(bit, int) else lowering.c.arith("and", bit, 3)

    return changed


def _own_byte_only(words: Anything) -> Anything:
    return lambda lowering, memory, byte, shift, count, each, *rest: words(
        lowering, memory, byte, shift, count, 1, *rest)


def _whole_bytes_only(store: Anything) -> Anything:
    def changed(lowering: Any, pointer: Any, parts: Any, shift: Any, bits: Any) -> None:
        whole = bits // 8 * 8 if isinstance(bits, int) else lowering.c.arith("and", bits, -8)
        store(lowering, pointer, parts, shift, whole)

    return changed


def _whole_byte_stored(exchange: Anything) -> Anything:
    def changed(lowering: Any, pointer: Any, bits: Any, mask: Any) -> list[Any]:
        lowering.c.b.add(PtrStore(pointer, bits))
        return []

    return changed


def _always_inside(lanes_in_bounds: Anything) -> Anything:
    def changed(lowering: Any, window: Any, coords: Any, lanes: int) -> Any:
        found = lanes_in_bounds(lowering, window, coords, lanes)
        return None if found is None else lanes

    return changed


PACKED_MUTANTS = (
    # in registers, on GPUs
    Mutant("what does not fit a word is lost", f"{_BITS}:Concatenation._put", _not_carried),
    Mutant("elements across words are cut off", f"{_BITS}:field", _cut_at_the_word),
    Mutant("parts of a tile begin at its first element", f"{_BITS}:part",
           lambda part: lambda thread, words, first, count, width: part(thread, words, 0, count, width)),
    Mutant("groups beyond an array are zeros", f"{_BITS}:repeated",
           lambda repeated: lambda thread, code, count, width:
           repeated(thread, thread.binary("and", code, 0), count, width)),
    Mutant("codes of another branch are there", "tilus.lowering.simt.context:Thread._remade", _one_form_everywhere),
    Mutant("bits of a view begin at the next element", "tilus.lowering.simt.bits:unit",
           lambda unit: lambda width: (8, width)),
    # in memory, on GPUs
    Mutant("no element reaches into the next word", f"{_DENSE}:_straddles", lambda straddles: lambda *_: False),
    Mutant("bits of elements are set and not cleared", f"{_DENSE}:_store_bits", _not_cleared, CUDA),
    Mutant("single elements overwrite their word", f"{_DENSE}:_store_bits", _whole_words),
    Mutant("single elements are stored in any case", f"{_DENSE}:store_group", _unmasked),
    Mutant("packed groups are aligned twice as much", f"{_DENSE}:alignment_of",
           lambda alignment: lambda dtype, vector: 2 * alignment(dtype, vector)),
    Mutant("the last piece of a group is forgotten", f"{_DENSE}:_pieces", _last_but_one, CUDA),
    Mutant("copies of packed elements know no bounds", f"{_DENSE}:copy_group",
           lambda copy: lambda thread, source, destination, count, alignment, predicate, *rest:
           copy(thread, source, destination, count, alignment, None, *rest)),
    Mutant("shared memory ends within a word", "tilus.lowering.simt.plan_shared:allocation_bytes",
           lambda size: lambda op: size(op) - (4 if op.dtype.bits < 8 else 0)),
    # conversions
    Mutant("registers of a sequence are in another order", f"{_EMIT}:Emitter.run",
           lambda run: lambda emitter, outputs: run(emitter, outputs)[::-1]),
    Mutant("the halves of a register are swapped", f"{_EMIT}:Emitter._node", _halves_swapped, CUDA),
    Mutant("codes beyond a codebook are its last one", "tilus.lowering.legalise.tables:number_in_codebook",
           lambda number: lambda e, code, t: number(e, code, replace(t, values=(
               *t.values, *[t.values[-1]] * ((1 << t.bits) - len(t.values)))))),
    Mutant("NaNs are the codes' greatest number", "tilus.lowering.legalise.codes:_decode_code",
           lambda decode: lambda e, x, t: decode(e, x, replace(t, specials="finite")), CPU),
    Mutant("the nearest value of a codebook is that of less", "tilus.lowering.legalise.tables:place_in_codebook",
           lambda place: lambda e, x, t: place(e, e.op("mul", x, 0.75), t), CPU),
    # on the host
    Mutant("elements begin at the first bits of a byte", f"{_PACKED}:first_bit", _first_bit_of_four, CPU),
    Mutant("runs have no bits of the next byte", f"{_PACKED}:_words", _own_byte_only, CPU),
    Mutant("the last bits of a run are not stored", f"{_PACKED}:_store_bytes", _whole_bytes_only, CPU),
    Mutant("the bytes at the ends of a run are the run's", f"{_PACKED}:_exchange", _whole_byte_stored, CPU),
    Mutant("packed runs know no bounds", "tilus.lowering.cpu.memory:_lanes_in_bounds", _always_inside, CPU),
    Mutant("packed elements are stored in any case", f"{_PACKED}:store_bits",
           lambda store: lambda lowering, memory, index, condition, value, lanes:
           store(lowering, memory, index, None, value, lanes), CPU),
    Mutant("the shift of a run is forgotten", f"{_PACKED}:_moved",
           lambda moved: lambda lowering, parts, shift: moved(lowering, parts, lowering.c.const(1)), CPU),
)
