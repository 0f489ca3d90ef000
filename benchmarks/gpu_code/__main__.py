"""GPU code of many kernels, by both routes, beside a peer's: machine code and what the PTX does on the simulator.

    python -m benchmarks.gpu_code --peer PYTHON --all

One line a case: instructions of a unit of work in SASS (an iteration of the loop with most products, else the whole
kernel), warp instructions of PTX that a launch executes, 32-byte sectors of global memory, wavefronts of shared memory,
instructions that spill, registers, seconds of the processor for the compilation; each for the routes by PTX and by
CUDA C and for the peer, and the ratio of the worse route to the peer. A star marks what is beyond 1.10 times the peer
or a floor, routes that differ by more than that, spills that the peer does not have, and compilations of more than two
seconds. Nothing takes a GPU. ``PYTHON`` is the interpreter of an environment with Triton 3.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter

from benchmarks.gpu_code.cases import Case


def all_cases() -> list[Case]:
    from benchmarks.gpu_code import section_attention, section_gemm, section_memory

    return [case for section in (section_gemm, section_attention, section_memory) for case in section.cases()]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_code", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", metavar="PYTHON", help="the Python of an environment with Triton, to compare with")
    parser.add_argument("--all", action="store_true", help="every case")
    parser.add_argument("--only", metavar="TEXT", action="append", default=[],
                        help="cases with all of these texts in their line's name")
    parser.add_argument("--every", metavar="N", type=int, default=0, help="each Nth case (10, if nothing is said)")
    parser.add_argument("--list", action="store_true", help="names only")
    options = parser.parse_args()
    chosen = [c for c in all_cases() if all(text in c.title for text in options.only)]
    chosen = chosen[::options.every or (1 if options.all or options.only or options.list else 10)]
    if options.list:
        print("\n".join(case.title for case in chosen), f"{len(chosen)} cases", sep="\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TILUS_CACHE_DIR"] = folder  # compilations are timed
        show(chosen, options.peer)


def show(chosen: list[Case], python: str | None) -> None:
    from benchmarks.gpu_code.peer import Compiler
    from benchmarks.gpu_code.table import header, measured, text

    compiler = Compiler(python) if python else None
    begun, lines = time.perf_counter(), []
    print(header(), flush=True)
    for case in chosen:
        lines.append(measured(case, compiler))
        print(text(lines[-1]), flush=True)
    if compiler is not None:
        compiler.close()
    missed = Counter(line.case.section for line in lines if line.misses)
    total = Counter(line.case.section for line in lines)
    parts = ", ".join(f"{s} {total[s] - missed[s]} of {total[s]}" for s in sorted(total))
    print(f"{len(lines)} cases, {sum(missed.values())} beyond a bar; within: {parts}; "
          f"{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
