"""Branches of kernels that are compiled when they first run (:mod:`tilus.codegen.llvm.apart`)."""

from __future__ import annotations

import _thread
import ctypes
import os
import threading
import traceback
import weakref
import zlib
from collections.abc import Sequence

from tilus.codegen.llvm.apart import ENTRY, TABLE
from tilus.runtime.cpu.llvm import LoadedObject, compile_object, function_address
from tilus.runtime.cpu.processor import host

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

    def find(self, place: int) -> int:
        """The address of the function at a place of the table."""
        with self._lock:
            if place not in self._objects:
                self._objects[place] = self._compiled(zlib.decompress(self.texts[place - 1]).decode())
                self._table[place] = self._objects[place].address(ENTRY)
            return self._table[place]

    def _compiled(self, text: str) -> LoadedObject:
        """A branch's module, from the disk cache where it has been compiled before."""
        from tilus.runtime.cache import default_cache, key_of

        key = key_of(["branch", text, self.processor.description])
        entry = default_cache().get_or_build(key, lambda: ({"object": compile_object(text, self.processor)}, {}))
        return LoadedObject(entry["object"])


def compressed(texts: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(zlib.compress(text.encode(), 1) for text in texts)


_by_table: weakref.WeakValueDictionary[int, Branches] = weakref.WeakValueDictionary()


def _resolve(table: int, place: int) -> int:
    """Called by the code of a kernel, which has nothing to go on with but the function: what handlers of signals raise
    meanwhile comes as a Ctrl-C once it goes on, and where there is no function the process ends."""
    found: list[int] = []

    def run() -> None:
        try:
            found.append(_by_table[table].find(place))
        except BaseException:
            traceback.print_exc()
            os.abort()

    thread = threading.Thread(target=run, name="tilus-compile")
    interrupted = False
    while True:
        try:
            if thread.ident is None:
                thread.start()
            thread.join()
            if interrupted:
                threading.Timer(AFTERWARDS, _thread.interrupt_main).start()
            return found[0]
        except BaseException:
            interrupted = True


_RESOLVE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(_resolve)

__all__ = ["Branches", "compressed"]
