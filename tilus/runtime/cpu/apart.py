"""Branches of kernels that are compiled when they first run (:mod:`tilus.codegen.llvm.apart`)."""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import os
import threading
import time
import traceback
import weakref
import zlib
from collections.abc import Sequence

from tilus.codegen.llvm.apart import ENTRY, TABLE
from tilus.runtime.cpu.llvm import LoadedObject, compile_object, function_address
from tilus.runtime.cpu.processor import host

new_lock = _thread.allocate_lock
AFTERWARDS = 0.01
"""Seconds until a kernel has certainly gone on."""


class Branches:
    """Those of one kernel, for the processor that there is as it is loaded. ``texts`` are their modules, compressed;
    ``main`` has the table of them."""

    def __init__(self, main: LoadedObject, texts: Sequence[bytes]) -> None:
        self.texts = texts
        self.processor = host()
        self._table = (ctypes.c_int64 * (1 + len(texts))).from_address(main.data_address(TABLE))
        self._lock = threading.Lock()
        self._objects: dict[int, LoadedObject] = {}
        _by_table[ctypes.addressof(self._table)] = self
        self._table[0] = function_address(_RESOLVE)

    def find(self, place: int) -> None:
        """Fill in a place of the table."""
        with self._lock:
            if place not in self._objects:
                self._objects[place] = self._compiled(zlib.decompress(self.texts[place - 1]).decode())
                self._table[place] = self._objects[place].address(ENTRY)

    def _compiled(self, text: str) -> LoadedObject:
        """A branch's module, from the disk cache where it has been compiled before."""
        from tilus.runtime.cache import default_cache, key_of

        key = key_of(["branch", text, self.processor.description])
        entry = default_cache().get_or_build(key, lambda: ({"object": compile_object(text, self.processor)}, {}))
        return LoadedObject(entry["object"])


def compressed(texts: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(zlib.compress(text.encode(), 1) for text in texts)


_by_table: weakref.WeakValueDictionary[int, Branches] = weakref.WeakValueDictionary()


def _resolve(table: int, place: int, times: int) -> None:
    """Called by the code of a kernel, which has nothing to go on with but the function. What handlers of signals raise
    meanwhile comes as a Ctrl-C once it goes on, also where one has raised before anything here was done and this is
    called again. The work is another thread's; where it fails the process ends."""
    begun: list[bool] = []
    found: list[bool] = []
    done = new_lock()
    done.acquire()

    def run() -> None:
        try:
            _by_table[table].find(place)
            found.append(True)
        except BaseException:
            traceback.print_exc()
            os.abort()
        with contextlib.suppress(RuntimeError):  # where it has been released before
            done.release()

    interrupted = times > 0
    while True:
        try:
            if not begun:  # twice does no harm, never would
                _thread.start_new_thread(run, ())
                begun.append(True)
            if not found:
                done.acquire()
            if interrupted:
                _thread.start_new_thread(_interrupt, ())
            return
        except BaseException:
            interrupted = True


def _interrupt() -> None:
    time.sleep(AFTERWARDS)
    _thread.interrupt_main()


_RESOLVE = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(_resolve)

__all__ = ["Branches", "compressed"]
