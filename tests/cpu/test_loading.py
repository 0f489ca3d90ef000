"""Machine code in memory: where it lies does not matter."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes
import numpy as np
from tilus.runtime.cpu.llvm import LoadedObject, compile_object, function

held = np.empty(5_000_000_000, "u1")  # address space only: what comes after lies far from what came before
text = '''
@table = internal constant [8 x double] [double 1.0, double 2.0, double 3.0, double 4.0, double 5.0, double 6.0,
                                         double 7.0, double 8.0]
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
define double @look(i64 %i, i64 %n) {
  %room = alloca [4096 x i8]
  call void @llvm.memset.p0.i64(ptr %room, i8 1, i64 %n, i1 false)
  %p = getelementptr [8 x double], ptr @table, i64 0, i64 %i
  %v = load double, ptr %p
  ret double %v
}
'''
code = compile_object(text)
loaded = []
for i in range(400):
    loaded.append(LoadedObject(code))
    look = function(loaded[-1].address("look"), ctypes.c_double, ctypes.c_int64, ctypes.c_int64)
    assert look(i % 8, 4096) == i % 8 + 1
# Calls of the process's functions from a module without data of its own, those that LLVM makes of instructions too.
code = compile_object('''
declare i32 @sched_yield()
declare i32 @usleep(i32)
declare void @llvm.memmove.p0.p0.i64(ptr, ptr, i64, i1)
define double @calls(double %x, double %y, i64 %n) {
  %a = call i32 @sched_yield()
  %b = call i32 @usleep(i32 1)
  %room = alloca [64 x i8]
  call void @llvm.memmove.p0.p0.i64(ptr %room, ptr %room, i64 %n, i1 false)
  %r = frem double %x, %y
  ret double %r
}
''')
loaded.append(LoadedObject(code))
calls = function(loaded[-1].address("calls"), ctypes.c_double, ctypes.c_double, ctypes.c_double, ctypes.c_int64)
assert calls(7.5, 2.0, 64) == 1.5
addresses = [o.address("look") for o in loaded[:-1]]
print("spread", max(addresses) - min(addresses))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems place memory in other ways")
def test_objects_on_both_sides_of_a_large_array() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    if "ArrayMemoryError" in result.stderr:
        pytest.skip("no address space for the array")
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[1]) > 2**31
