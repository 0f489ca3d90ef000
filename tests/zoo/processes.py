"""Ranks that are processes of this machine, with torch's gloo between them."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 60.0
"""Seconds until processes that have not ended are killed."""
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["kernels_zoo.communication.torch_communicator"])  # torch takes seconds


def of_rank(rank: int, size: int, meeting: str, answer: Any, work: Callable[..., Any], arguments: Any) -> None:
    import torch.distributed as dist

    from kernels_zoo.communication.torch_communicator import TorchCommunicator

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    try:
        dist.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=size,
                                timeout=datetime.timedelta(seconds=PATIENCE / 2))
        result = work(TorchCommunicator(), *arguments)
        dist.barrier()                                             # nobody leaves while others are listening
        dist.destroy_process_group()
    except BaseException:
        answer.send((None, traceback.format_exc()))
        raise
    answer.send((result, None))


def on_processes(size: int, meeting: Path, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What ``work(communicator, *arguments)``, a function of a module, gives on each of so many processes. They meet in
    a file that nobody has used."""
    pipes = [SERVER.Pipe(duplex=False) for _ in range(size)]
    processes = [SERVER.Process(target=of_rank, args=(r, size, str(meeting), pipes[r][1], work, arguments), daemon=True)
                 for r in range(size)]
    try:
        for process in processes:
            process.start()
        for _, end in pipes:
            end.close()
        return [received(listener, process) for (listener, _), process in zip(pipes, processes, strict=True)]
    finally:
        for process in processes:
            process.kill()
            process.join()


def received(listener: Any, process: Any) -> Any:
    """What a process answers."""
    assert listener.poll(PATIENCE), "a process has not answered"
    try:
        result, error = listener.recv()
    except EOFError:
        process.join()
        raise AssertionError(f"a process ended with {process.exitcode}") from None
    assert error is None, error
    process.join(PATIENCE)
    return result
