"""Ctrl-C: a run on the CPU and a compilation end at once, and leave all that there is whole."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tilus.runtime.internal import guarded

KERNELS = '''
import os, signal, sys, threading, time
import numpy as np
import tilus as tl

@tl.jit
def endless(y: tl.i32["N"]):
    tl.grid(1)
    n = y[0]
    while n >= 0:
        n = (n + 1) % 1000
    y[1] = n

@tl.jit
def on_a_worker(y: tl.i32["N"]):
    i = tl.grid(2)
    if i == 1:
        n = y[0]
        while n >= 0:
            n = (n + 1) % 1000
        y[1] = n

@tl.jit
def many_blocks(y: tl.i32["N"]):
    i = tl.grid(2**30)
    t = tl.exp(tl.full((4096,), i.to(tl.f32), tl.f32))
    y[0] = tl.sum(t).to(tl.i32)

@tl.jit
def long_loop(y: tl.i32["N"]):
    tl.grid(1)
    s = tl.zeros((8,), tl.i32)
    for k in tl.range(y[0].to(tl.i64) + 2**50):
        s = s * 3 + tl.load(y, 0, 8)
    tl.store(y, 0, s)

@tl.jit
def products(y: tl.i32["N"], a: tl.f32["M", "K"], c: tl.f32["M", "M"]):
    tl.grid(1)
    acc = tl.zeros((64, 64), tl.f32)
    for k in tl.range(0, y[0].to(tl.i64) + 2**50, 32):
        acc = tl.dot(tl.load(a, (0, 0), (64, 32)), tl.load(a, (0, 0), (64, 32)).T, acc)
    tl.store(c, (0, 0), acc)

@tl.jit
def elements(y: tl.i32["N"]):
    tl.grid(1)
    def f(v):
        while v >= 0:
            v = (v + 1) % 1000
        return v
    tl.store(y, 0, tl.map(f, tl.load(y, 0, 8)))

@tl.jit
def together(y: tl.i32["N"]):
    tl.block(cooperative=True)
    i = tl.grid(4)
    n = y[0]
    while n >= 0:
        n = (n + 1) % 1000
        tl.grid_sync()
    y[1] = n

@tl.jit
def in_a_group(y: tl.i32["N"]):
    tl.grid(1)
    tl.block(warps=2)
    bar = tl.named_barrier(1, 2)
    with tl.group(0, 1):
        n = y[0]
        while n >= 0:
            n = (n + 1) % 1000
        y[1] = n
        bar.sync()
    with tl.group(1, 1):
        bar.sync()

@tl.jit
def counts(y: tl.i64["N"], n: tl.i64):
    tl.grid(1)
    s = y[0]
    for k in tl.range(n):
        s = s * 3 + y[0]
    y[0] = s + 1

@tl.jit
def short(y: tl.i32["N"]):
    i = tl.grid(4)
    y[i] = 7

def call(kernel):
    extra = [np.zeros((64, 32), "f4"), np.zeros((64, 64), "f4")] if kernel is products else []
    kernel(np.zeros(8, np.int32), *extra)
'''

EACH = KERNELS + '''
for kernel in (endless, on_a_worker, many_blocks, long_loop, products, elements, together, in_a_group):
    def send():
        time.sleep(0.4)
        os.kill(os.getpid(), signal.SIGINT)
    thread = threading.Thread(target=send)
    thread.start()
    try:
        call(kernel)
    except KeyboardInterrupt:
        thread.join()
    else:
        sys.exit(f"{kernel} has returned")
    y = np.zeros(4, np.int32)
    short(y)
    assert (y == 7).all()
print("all")
'''


def start(*arguments: str, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python, with Ctrl-C as in a terminal: what a shell starts in the background inherits that it is ignored."""
    return subprocess.run([sys.executable, "-c", *arguments], capture_output=True, text=True, timeout=timeout,
                          env={**os.environ, **environment}, check=False,
                          preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


def run(program: str, *, timeout: float = 120, **environment: str) -> str:
    done = start(_as_file(program), timeout=timeout, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _as_file(program: str) -> str:
    """A program that runs ``program`` with its source where ``linecache`` finds it."""
    return (f"import linecache\ntext = {program!r}\nlinecache.cache['program.py'] = (len(text), None, "
            "text.splitlines(True), 'program.py')\nexec(compile(text, 'program.py', 'exec'), {'__name__': '__main__'})")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_on_the_cpu_is_interrupted(threads: int) -> None:
    setting = f"from tilus.runtime.cpu import set_num_threads; set_num_threads({threads})\n"
    assert run(setting + EACH).endswith("all\n")


def test_other_signals_and_their_handlers() -> None:
    """A handler that raises ends the run with what it raises; one that does not is called, and the run goes on."""
    assert run(KERNELS + '''
class Late(BaseException):
    pass

def raise_late(*_):
    raise Late("too late")

signal.signal(signal.SIGALRM, raise_late)
signal.setitimer(signal.ITIMER_REAL, 0.5)
try:
    call(endless)
except Late as late:
    assert str(late) == "too late"
    assert late.__traceback__ is not None
else:
    sys.exit("has returned")

seen = []
signal.signal(signal.SIGINT, lambda *_: seen.append(time.monotonic()))
threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
y = np.zeros(1, np.int64)
while not seen:  # the length of one run depends on the machine
    y[:] = 0
    counts(y, 10**9)
    assert y[0] == 1
print("all")
''').endswith("all\n")


def test_interrupt_from_another_thread_than_the_main_one() -> None:
    """A run of another thread is not touched by Ctrl-C, which is for the main thread."""
    assert run(KERNELS + '''
y = np.zeros(1, np.int64)
counts(y, 1)
other = threading.Thread(target=lambda: counts(y, 10**9))
y[:] = 0
other.start()
threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    while True:
        time.sleep(0.01)
except KeyboardInterrupt:
    pass
other.join()
assert y[0] == 1
print("all")
''').endswith("all\n")


COMPILERS = '''
import os, signal, sys, threading, time
from tilus.targets import get_target

CHAIN = "".join(f"  %v{i + 1} = call float @llvm.fma.f32(float %v{i}, float %x, float %v{max(0, i - 7)})\\n"
                for i in range(SIZE))

def llvm(kernel):
    head = f"declare float @llvm.fma.f32(float, float, float)\\ndefine {kernel} void @f(ptr %p, float %v0, float %x)"
    return f"{head} {{\\n{CHAIN}  store float %v{SIZE}, ptr %p\\n  ret void\\n}}\\n"

def cpu():
    from tilus.runtime.cpu.llvm import compile_object
    compile_object(llvm(""))

def ptx():
    from tilus.codegen.llvm.nvptx.assembly import llvm_to_ptx
    llvm_to_ptx('target triple = "nvptx64-nvidia-cuda"\\n' + llvm("ptx_kernel"), get_target("sm_80"))

def nvrtc():
    from tilus.runtime.toolchains.nvrtc import compile_cuda
    body = "".join(f"v{i + 1} = fmaf(v{i}, x, v{max(0, i - 7)});" for i in range(SIZE // 4))
    names = ", ".join(f"v{i + 1}" for i in range(SIZE // 4))
    compile_cuda(f'extern "C" __global__ void f(float *p, float v0, float x) {{ float {names}; {body} '
                 f'p[0] = v{SIZE // 4}; }}', get_target("sm_80"))

def ptxas():
    from tilus.runtime.toolchains.ptxas import assemble
    body = "".join(f"fma.rn.f32 %f{i + 1}, %f{i}, %f0, %f{max(0, i - 7)};\\n" for i in range(SIZE))
    head = ".version 8.0\\n.target sm_80\\n.address_size 64\\n.visible .entry f(.param .u64 p)"
    assemble(f"{head} {{ .reg .f32 %f<{SIZE + 1}>; .reg .b64 %r; ld.param.u64 %r, [p]; ld.global.f32 %f0, [%r];\\n"
             f"{body}st.global.f32 [%r], %f{SIZE}; ret; }}", get_target("sm_80"))

function = globals()[sys.argv[1]]
'''


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("compiler", ["cpu", "ptx", "nvrtc", "ptxas"])
def test_a_compilation_is_interrupted(compiler: str) -> None:
    """The wait ends at once where Ctrl-C is handled, and so does the process where it is not. The programs are so long
    that compiling one takes much longer than the bound."""
    program = "SIZE = 400_000\n" + COMPILERS + '''
def send():
    time.sleep(1.0)
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)

sent = []
threading.Thread(target=send).start()
try:
    function()
except KeyboardInterrupt:
    print("late", time.monotonic() - sent[0], flush=True)
os.kill(os.getpid(), signal.SIGINT)
function()
'''
    done = start(program, compiler)
    assert done.stdout.startswith("late"), (done.stdout, done.stderr)
    assert float(done.stdout.split()[1]) < 4.0
    assert done.returncode == -signal.SIGINT
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", ["cpu", "simulate:sm_80:ptx", "simulate:sm_80:cuda"])
def test_an_interrupted_compilation_leaves_the_cache_whole(engine: str, tmp_path: Path) -> None:
    """At several moments of the way of a kernel; afterwards it compiles."""
    program = KERNELS + f"ENGINE = {engine!r}\n" + '''
from tilus.runtime.cache import default_cache

@tl.jit
def long(x: tl.f32["N"], n: int = 100):
    tl.grid(1)
    v = tl.load(x, 0, 64)
    for k in tl.static_range(n):
        v = v * 0.5 + tl.load(x, k % 5, 64)
    tl.store(x, 0, v)

interrupted = 0
for moment in (0.02, 0.1, 0.2, 0.4):
    x = np.ones(80, np.float32)
    timer = threading.Timer(moment, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        long.on(ENGINE)(x)
        timer.join()
        time.sleep(0.1)
    except KeyboardInterrupt:
        interrupted += 1
    timer.join()
assert interrupted
x = np.ones(80, np.float32)
long.on(ENGINE)(x)
assert abs(x[:64] - 2).max() < 1e-5
cache = default_cache()
assert cache.verify() == []
assert cache.stats().temporary_files == 0
print("all")
'''
    assert run(program, TILUS_CACHE_DIR=str(tmp_path)).endswith("all\n")
    assert not list(tmp_path.rglob("*.lock"))


def test_a_handler_that_raises_while_a_kernel_is_compiled() -> None:
    """What it raises is no failure of the compiler."""

    class Late(Exception):
        pass

    def handler(*_: Any) -> None:
        raise Late

    def work() -> None:
        signal.raise_signal(signal.SIGUSR1)

    specialisation: Any = None  # looked at where the compiler itself has failed
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(Late):
            guarded(specialisation, "compilation", work)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_full_disk_is_no_bug_of_ours(tmp_path: Path) -> None:
    """Files end after 4 KiB: a message instead of a trace, and no half of a cubin."""
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"
    source = f"import resource; {limit}; from tilus.cli.main import main; main()"
    cubin = tmp_path / "matmul.cubin"
    kernel = Path(__file__).parents[2] / "kernels_zoo" / "gemm" / "matmul.py"
    arguments = ["compile", f"{kernel}:matmul", "--target", "sm_80", "-o", cubin]
    done = subprocess.run([sys.executable, "-c", source, *arguments],
                          capture_output=True, text=True, env=os.environ | {"TILUS_CACHE_DIR": str(tmp_path / "cache")})
    assert done.returncode == 1
    assert "error[E0902]" in done.stderr
    # Whether files in memory are limited too differs among kernels of Linux.
    assert "TMPDIR" in done.stderr or "limits on the size of files" in done.stderr
    assert "Traceback" not in done.stderr
    assert not cubin.exists()
