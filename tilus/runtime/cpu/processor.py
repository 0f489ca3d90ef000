"""The processors that code is for: this machine's, and others by the names that LLVM has for them."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import UserError
from tilus.records import record

if TYPE_CHECKING:
    from tilus.lowering.cpu.values import Machine

NATIVE = "native"
"""The name of this machine's processor."""
ARCHITECTURES = {"x86_64": "x86-64", "aarch64": "generic"}
"""Those that there is code for, and what LLVM calls the least processor of each."""
_OTHER_NAMES = {"amd64": "x86_64", "arm64": "aarch64"}
_X86_BASELINE = frozenset(("64bit", "cmov", "cx8", "fxsr", "mmx", "sse", "sse2", "x87"))
_VECTORS = {
    "x86_64": ("fma", "f16c", "avx2", "avx512f", "avx512vl", "avx512bw", "avx512vnni", "avx512bf16", "avxvnni"),
    "aarch64": ("dotprod", "i8mm"),
}
"""The features that matter to the lowering, by architecture."""
_TILES = ("amx-tile", "amx-int8", "amx-bf16")

LEVELS: dict[str, tuple[str, ...]] = {
    "sse2": ("",),
    "sse4": ("avx", "fma", "f16c", "vaes", "vpclmulqdq", "xop", "amx"),
    "avx2": ("avx512", "avx10", "avxvnni", "amx"),
    "avxvnni": ("avx512", "avx10", "amx"),
    "avx512": ("avx512vnni", "avx512bf16", "avx512fp16", "avxvnni", "avx10", "amx"),
    "avx512vnni": ("avx512bf16", "avx512fp16", "avx10", "amx"),
    "avx512bf16": ("avx10", "amx"),
}
"""What ``TILUS_CPU`` may be: by how the features begin that are not used then, even where the processor has them. Those
that every x86-64 has are used in any case."""


@record(frozen=True)
class Processor:
    """A processor that code is for.

    Attributes:
        triple: its architecture, vendor and system, as LLVM and clang write them.
        name: LLVM's.
        features: what is added to and taken from those of the name, as LLVM writes it.
        vectors: the features of :data:`_VECTORS` that it has.
        tiles: this process may use its tile registers, which the system gives only to those that ask.
        level: the one of :data:`LEVELS` that ``TILUS_CPU`` asks for.
    """

    triple: str
    name: str
    features: str
    vectors: frozenset[str]
    tiles: bool = False
    level: str = ""

    @property
    def architecture(self) -> str:
        return architecture_of(self.triple)

    @property
    def pairs(self) -> bool:
        """Whether products of pairs of bf16 are worth it: Intel's take longer than converting and multiplying, and are
        used only where that level is asked for."""
        return "avx512bf16" in self.vectors and (self.level == "avx512bf16" or self.name.startswith("znver"))

    @property
    def machine(self) -> Machine:
        """Its vector registers and caches."""
        from tilus.lowering.cpu.values import Machine

        if self.vectors >= {"avx512f", "avx512vl", "avx512bw"}:
            bytes_ = "vpdpbusd" if "avx512vnni" in self.vectors else "pmaddubsw"
            return Machine(vector_bytes=64, registers=32, table=16, byte_products=bytes_, scales=True,
                           masks=True, pairs=self.pairs, tiles=self.tiles, narrow_streams=self.name == "znver4")
        if "avx2" in self.vectors:
            bytes_ = "vpdpbusd" if "avxvnni" in self.vectors else "pmaddubsw"
            return Machine(vector_bytes=32, registers=16, table=8, byte_tables=self.name.startswith("znver"),
                           byte_products=bytes_, asks_for_panels=True, streams=8)
        if self.architecture == "aarch64":
            bytes_ = "usdot" if "i8mm" in self.vectors else "sdot" if "dotprod" in self.vectors else ""
            return Machine(vector_bytes=16, registers=32, byte_products=bytes_)
        return Machine(vector_bytes=16, registers=16, fma="fma" in self.vectors, halves="f16c" in self.vectors)

    @property
    def description(self) -> str:
        """What machine code depends on besides the kernel: LLVM's version, the processor and its features."""
        return f"llvm {binding().llvm_version_info} {self.triple} {self.name} {self.features} {self.level}".rstrip()


@functools.cache
def binding() -> Any:
    """LLVM, ready for this machine."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()  # for the inline assembly of the pool
    return llvm


@functools.cache
def _all_targets() -> Any:
    """LLVM, ready for every architecture."""
    llvm = binding()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm


@functools.cache
def host() -> Processor:
    """This machine's, without the features that ``TILUS_CPU`` leaves out. Raises UserError (E0501) where that is none
    of :data:`LEVELS`."""
    llvm = binding()
    triple, features = llvm.get_default_triple(), dict(llvm.get_host_cpu_features())
    level = os.environ.get("TILUS_CPU", "")
    if level:
        levels = LEVELS if architecture_of(triple) == "x86_64" else {}
        if level not in levels:
            known = f"one of {', '.join(levels)}, or to nothing" if levels else "nothing"
            raise UserError.at("E0501", f"TILUS_CPU is {level!r}, which is no level of {architecture_of(triple)}",
                               help=f"set it to {known}, for all that there is")
        features = {name: on and (name in _X86_BASELINE or not name.startswith(LEVELS[level]))
                    for name, on in features.items()}
    tiles = all(features.get(name) for name in _TILES) and _may_use_tiles()
    if not tiles:
        features |= dict.fromkeys((name for name in features if name.startswith("amx")), False)
    text = ",".join(("+" if on else "-") + name for name, on in sorted(features.items()))
    known_vectors = _VECTORS.get(architecture_of(triple), ())
    return Processor(triple, llvm.get_host_cpu_name(), text, frozenset(n for n in known_vectors if features.get(n)),
                     tiles, level)


def _may_use_tiles() -> bool:
    """Ask Linux for the tile registers, which belong to all threads of the process then, and to those of its children
    that go on without another program (arch_prctl, ARCH_REQ_XCOMP_PERM; Documentation/arch/x86/xstate.rst)."""
    import ctypes

    if sys.platform != "linux":
        return False
    arch_prctl, request, tile_data = 158, 0x1023, 18
    return ctypes.CDLL(None).syscall(arch_prctl, request, tile_data) == 0  # type: ignore[no-any-return]


@functools.cache
def processor(name: str | None = None, triple: str | None = None) -> Processor:
    """A processor by its name: this machine's for ``"native"``, another one as ``clang -mcpu`` calls it, or the least
    one of an architecture by the architecture's name. Without a name it is the least one of the triple, and this
    machine's where there is no triple either; without a triple the first architecture that has the name, and this
    machine's system.

    Raises:
        UserError: E0501, there is no such processor, or no code for the architecture.
    """
    if triple is not None and architecture_of(triple) not in ARCHITECTURES:
        raise UserError.at("E0501", f"there is no code for the triple {triple!r}",
                           help=f"architectures: {', '.join(ARCHITECTURES)}; x86_64-unknown-linux-gnu")
    if name == NATIVE or (name is None and triple is None):
        return _native(triple or host().triple)
    if name is None or architecture_of(name) in ARCHITECTURES:
        found = triple or _triple(architecture_of(name or ""))
        if name is not None and architecture_of(name) != architecture_of(found):
            raise UserError.at("E0501", f"{name!r} is not the architecture of {found!r}")
        name = ARCHITECTURES[architecture_of(found)]
    else:
        found = _first(name, [triple] if triple is not None else _triples())
    return Processor(found, name, "", frozenset(_probed(found, name)))


def _native(triple: str) -> Processor:
    """This machine's for a system. Raises UserError where it is of another architecture."""
    if architecture_of(triple) != host().architecture:
        raise UserError.at("E0501", f"{NATIVE!r} is a processor of {host().architecture}, not of {triple!r}")
    return replace(host(), triple=triple, tiles=False)


def _first(name: str, triples: Sequence[str]) -> str:
    """The first triple whose architecture has a processor of that name. Raises UserError."""
    known: list[str] = []
    for triple in triples:
        names, usable = _asked(triple, name)
        known += names
        if name in names and usable:
            return triple
        if name in names:
            raise UserError.at("E0501", f"{name!r} has no code of 64 bits")
    import difflib

    near = difflib.get_close_matches(name, known, 3)
    raise UserError.at("E0501", f"there is no processor {name!r} of {' or '.join(map(architecture_of, triples))}",
                       help=f"near it: {', '.join(near)}" if near else
                       "names are those of clang -mcpu=help: x86-64-v3, znver4, neoverse-n1")


def architecture_of(triple: str) -> str:
    """The first part of a triple, as LLVM calls it."""
    name = triple.split("-")[0]
    return _OTHER_NAMES.get(name, name)


def _triples() -> list[str]:
    """Of each architecture on a system like this one, its own first."""
    own = binding().get_default_triple()
    return [own, *(_triple(a) for a in ARCHITECTURES if a != architecture_of(own))]


def _triple(architecture: str) -> str:
    return "-".join([architecture, *binding().get_default_triple().split("-")[1:]])


_ASK = """\
import sys
import llvmlite.binding as llvm
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
target = llvm.Target.from_triple(sys.argv[1])
target.create_target_machine(cpu="help")
module = llvm.parse_assembly("define void @f() { ret void }")
module.triple = sys.argv[1]
target.create_target_machine(cpu=sys.argv[2]).emit_object(module)
"""


def _asked(triple: str, name: str) -> tuple[list[str], bool]:
    """The processors of a triple's architecture, and whether code for this one can be made. LLVM prints its table, and
    ends the process where it cannot: so it is asked in another one."""
    import subprocess

    done = subprocess.run([sys.executable, "-c", _ASK, triple, name], capture_output=True, text=True, check=False)
    lines = done.stderr.split("Available CPUs for this target:")[-1].split("Available features")[0].splitlines()
    return sorted({line.split()[0] for line in lines if line.startswith("  ")}), done.returncode == 0


def _probed(triple: str, name: str) -> list[str]:
    """The features among :data:`_VECTORS` that LLVM's processor has: those that functions may ask for and still be
    inlined where nothing but the processor is given."""
    llvm = _all_targets()
    features = _VECTORS[architecture_of(triple)]
    parts = []
    for i, feature in enumerate(features):
        parts += [
            f"define internal float @needs{i}(float %x) #{i} {{ %y = fadd float %x, %x\n ret float %y }}",
            f"define float @calls{i}(float %x) {{ %y = call float @needs{i}(float %x)\n ret float %y }}",
            f'attributes #{i} = {{ "target-features"="+{feature}" }}',
        ]
    module = llvm.parse_assembly("\n".join(parts))
    module.triple = triple
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=name)
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    builder.getModulePassManager().run(module, builder)
    left = {function.name for function in module.functions}
    return [feature for i, feature in enumerate(features) if f"needs{i}" not in left]


def target_machine(of: Processor, level: int = 3) -> Any:
    """LLVM's, for code that may lie anywhere, at a level of optimisation."""
    llvm = binding() if of.architecture == host().architecture else _all_targets()
    return llvm.Target.from_triple(of.triple).create_target_machine(
        cpu=of.name, features=of.features, opt=level, reloc="pic", codemodel="default")


__all__ = ["ARCHITECTURES", "LEVELS", "NATIVE", "Processor", "binding", "host", "processor", "target_machine"]
