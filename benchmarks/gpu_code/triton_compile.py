"""Compiles kernels of ``triton_kernels`` ahead of time: an order in JSON a line of the input, an answer each.

Run by the peer's Python; see ``peer.py``.
"""

import itertools
import json
import os
import sys
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

sys.path.append(str(Path(__file__).parents[1]))
import triton_kernels  # among them those of other benchmarks

numbers = itertools.count()


def compiled(order):
    kernel = getattr(triton_kernels, order["kernel"])
    constants = order["constants"]
    signature = {n: order["signature"].get(n, "constexpr") for n in kernel.arg_names}
    attributes = {(i,): [["tt.divisibility", 16]] for i in order["divisible"]}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    begun = sum(os.times()[:4])
    found = triton.compile(source, target=GPUTarget("cuda", order["arch"], 32),
                           options={"num_warps": order["warps"], "num_stages": order["stages"]})
    seconds = sum(os.times()[:4]) - begun
    name = Path(order["folder"]) / f"kernel_{next(numbers)}"
    name.with_suffix(".cubin").write_bytes(found.asm["cubin"])
    name.with_suffix(".ptx").write_text(found.asm["ptx"])
    return {"name": found.metadata.name, "shared": found.metadata.shared, "seconds": seconds,
            "cubin": str(name.with_suffix(".cubin")), "ptx": str(name.with_suffix(".ptx"))}


def main():
    for line in sys.stdin:
        try:
            answer = compiled(json.loads(line))
        except Exception as problem:  # whatever the peer cannot do is an answer
            answer = {"error": f"{type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else ''}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
