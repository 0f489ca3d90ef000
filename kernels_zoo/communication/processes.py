"""Ranks that are processes of this machine, with torch's gloo between them."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch.distributed as dist

from kernels_zoo.communication.torch_communicator import TorchCommunicator

PATIENCE = 120.0
"""Seconds until processes that have not answered are killed."""


def on_processes(size: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What ``work(communicator, *arguments)`` gives on each of so many ranks. ``work`` is a function of a module; what
    it takes and gives is pickled."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])                      # since torch takes seconds
    pipes = [context.Pipe(duplex=False) for _ in range(size)]
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        processes = [context.Process(target=of_rank, args=(rank, size, meeting, end, work, arguments), daemon=True)
                     for rank, (_, end) in enumerate(pipes)]
        try:
            for process in processes:
                process.start()
            for _, end in pipes:
                end.close()
            answers = [received(listener) for listener, _ in pipes]
        finally:
            for process in processes:
                process.kill()
                process.join()
    errors = [f"rank {rank}: {error}" for rank, (_, error) in enumerate(answers) if error is not None]
    if errors:
        raise RuntimeError("\n".join(["ranks have failed", *errors]))
    return [result for result, _ in answers]


def of_rank(rank: int, size: int, meeting: str, end: Connection, work: Callable[..., Any],
            arguments: tuple[Any, ...]) -> None:
    """The life of a process: it answers with a result and None, or with None and what went wrong."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    try:
        dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=size,
                                timeout=datetime.timedelta(seconds=PATIENCE / 2))
        result = work(TorchCommunicator(), *arguments)
        dist.barrier()                                              # nobody leaves while others are listening
        dist.destroy_process_group()
    except Exception:
        end.send((None, traceback.format_exc()))
    else:
        end.send((result, None))


def received(listener: Connection) -> tuple[Any, str | None]:
    """What a process answers."""
    if not listener.poll(PATIENCE):
        raise TimeoutError("a rank has not answered")
    try:
        answer: tuple[Any, str | None] = listener.recv()
    except EOFError:
        return None, "the process has ended without an answer"
    return answer
