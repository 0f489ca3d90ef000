"""What GPU code is made of, by both routes and beside a peer's: ``python -m benchmarks.gpu_code --help``."""

from benchmarks.gpu_code.sass import (
    MATRIX,
    Loop,
    innermost_loops,
    instructions,
    labels,
    loop_instructions,
    main_loop,
    opcode,
)

__all__ = ["MATRIX", "Loop", "innermost_loops", "instructions", "labels", "loop_instructions", "main_loop", "opcode"]
