from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilus.runtime import cache as cache_module
from tilus.runtime import filelock
from tilus.runtime.cache import (
    Cache,
    CacheWarning,
    DamagedEntry,
    Entry,
    cache_directory,
    decode,
    encode,
    key_of,
)

ROOT = Path(__file__).parents[2]
KEY = key_of(["a kernel"])
BLOBS = {"cubin": bytes(range(256)) * 20, "ptx": b".version 8.0"}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def entry_file(cache: Cache, key: str = KEY) -> Path:
    return Path(cache.path, "entries", key[:2], key)


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python process that runs ``code`` and can be talked to by lines."""
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), *arguments], cwd=ROOT, text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_put_get(cache: Cache):
    assert cache.get(KEY) is None
    cache.put(KEY, BLOBS, {"registers": 40})
    entry = Cache(cache.path).get(KEY)
    assert entry is not None
    assert dict(entry.blobs) == BLOBS
    assert entry["ptx"] == b".version 8.0"
    assert entry.metadata == {"registers": 40}
    assert (cache.hits, cache.misses) == (0, 1)


def test_a_later_put_replaces(cache: Cache):
    cache.put(KEY, BLOBS)
    cache.put(KEY, {"x": b"y"})
    assert cache.get(KEY) == Entry(KEY, {"x": b"y"})
    assert cache.stats().entries == 1


@given(st.dictionaries(st.text(max_size=9), st.binary(max_size=99), max_size=4),
       st.dictionaries(st.text(max_size=9), st.integers() | st.text() | st.lists(st.booleans())))
def test_encode_decode(blobs: dict[str, bytes], metadata: dict[str, object]):
    entry = Entry(KEY, blobs, metadata)
    assert decode(KEY, encode(entry)) == entry


DATA = encode(Entry(KEY, {"x": b"some bytes", "y": b""}, {"n": 1}))


@settings(max_examples=300)
@given(st.integers(0, 8 * len(DATA) - 1))
def test_every_flipped_bit_is_seen(bit: int):
    damaged = bytearray(DATA)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DamagedEntry):
        decode(KEY, bytes(damaged))


def test_every_truncation_and_extension_is_seen():
    for size in range(len(DATA)):
        with pytest.raises(DamagedEntry):
            decode(KEY, DATA[:size])
    with pytest.raises(DamagedEntry):
        decode(KEY, DATA + b"\0")


def test_an_entry_under_another_key_is_not_used():
    with pytest.raises(DamagedEntry):
        decode(key_of(["another"]), DATA)


@pytest.mark.parametrize("damage", [b"", b"x", None])
def test_a_damaged_file_is_rebuilt(cache: Cache, damage: bytes | None):
    cache.put(KEY, BLOBS)
    path = entry_file(cache)
    path.write_bytes(path.read_bytes()[:-1] if damage is None else damage)
    assert cache.get(KEY) is None
    assert not path.exists()
    assert cache.get_or_build(KEY, lambda: (BLOBS, {})).blobs == BLOBS
    assert cache.get(KEY) is not None


def test_verify_removes_what_is_damaged(cache: Cache):
    other = key_of(["other"])
    cache.put(KEY, BLOBS)
    cache.put(other, BLOBS)
    entry_file(cache).write_bytes(b"damaged")
    assert cache.verify() == [KEY]
    assert cache.verify() == []
    assert cache.get(other) is not None


def test_clear_and_stats(cache: Cache):
    assert cache.stats().entries == cache.clear() == 0
    for i in range(5):
        cache.put(key_of([str(i)]), BLOBS)
    stats = cache.stats()
    assert stats.entries == 5
    assert stats.bytes == 5 * len(encode(Entry(KEY, BLOBS)))
    assert cache.clear() == 5
    assert cache.get(key_of(["0"])) is None


def test_keys_keep_parts_apart():
    keys = {key_of(parts) for parts in (["ab", "c"], ["a", "bc"], ["abc"], [b"abc"], ["abc", ""], ["1:a"], [])}
    assert len(keys) == 7
    assert key_of(["a", b"b"]) == key_of(iter(["a", b"b"]))


def test_build_runs_once_for_one_key(cache: Cache):
    builds = []

    def build() -> cache_module.Parts:
        builds.append(1)
        time.sleep(0.05)
        return BLOBS, {}

    results = []
    threads = [threading.Thread(target=lambda: results.append(cache.get_or_build(KEY, build))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert [dict(r.blobs) for r in results] == [BLOBS] * 6
    assert os.listdir(entry_file(cache).parent) == [KEY]


def test_a_failed_build_leaves_nothing_and_frees_the_lock(cache: Cache):
    def fail() -> cache_module.Parts:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cache.get_or_build(KEY, fail)
    start = time.monotonic()
    cache.get_or_build(KEY, lambda: (BLOBS, {}))
    assert time.monotonic() - start < 5


def test_one_build_may_need_another(cache: Cache):
    inner = key_of(["inner"])
    entry = cache.get_or_build(KEY, lambda: (cache.get_or_build(inner, lambda: (BLOBS, {})).blobs, {"outer": 1}))
    assert entry.blobs == BLOBS


BUILDER = """
    import sys, time
    from tilus.runtime.cache import Cache
    def build():
        print("building", flush=True)
        sys.stdin.readline()
        return {"who": sys.argv[3].encode()}, {}
    print(Cache(sys.argv[1]).get_or_build(sys.argv[2], build)["who"].decode(), flush=True)
"""


def test_two_processes_build_one_key_once(cache: Cache):
    first = child(BUILDER, cache.path, KEY, "first")
    assert first.stdout.readline() == "building\n"
    second = child(BUILDER, cache.path, KEY, "second")
    time.sleep(0.3)  # it waits for the lock; were it not to, it would print "building"
    assert first.communicate("go\n")[0] == "first\n"
    assert second.communicate("go\n")[0] == "first\n"


def test_a_killed_builder_frees_the_lock(cache: Cache):
    first = child(BUILDER, cache.path, KEY, "first")
    assert first.stdout.readline() == "building\n"
    first.send_signal(signal.SIGKILL)
    first.wait()
    start = time.monotonic()
    assert cache.get_or_build(KEY, lambda: ({"who": b"me"}, {}))["who"] == b"me"
    assert time.monotonic() - start < 5
    first.communicate()


def test_a_builder_that_hangs_is_not_waited_for_for_ever(cache: Cache):
    first = child(BUILDER, cache.path, KEY, "first")
    assert first.stdout.readline() == "building\n"
    impatient = Cache(cache.path, lock_timeout=0.1)
    assert impatient.get_or_build(KEY, lambda: ({"who": b"me"}, {}))["who"] == b"me"
    assert first.communicate("go\n")[0] == "first\n"


# The child is killed with half of the file written, or all of it and not yet published.
@pytest.mark.parametrize("where", ["write", "replace"])
def test_killed_in_the_middle_of_writing(cache: Cache, where: str):
    process = child("""
        import os, sys, time
        from tilus.runtime.cache import Cache
        real = os.write
        def write(fd, data):
            real(fd, data[:len(data) // 2])
            stop()
        def stop(*arguments):
            print("here", flush=True)
            time.sleep(60)
        if sys.argv[3] == "write":
            os.write = write
        else:
            os.replace = stop
        Cache(sys.argv[1]).put(sys.argv[2], {"x": b"y" * 100000})
    """, cache.path, KEY, where)
    assert process.stdout.readline() == "here\n"
    process.kill()
    process.communicate()
    assert cache.get(KEY) is None
    assert cache.stats().entries == 0
    assert cache.stats().temporary_files == 1
    assert cache.get_or_build(KEY, lambda: (BLOBS, {})).blobs == BLOBS
    assert cache.verify() == []
    # A later sweep removes what was left, and nothing of a living writer.
    assert cache.stats().temporary_files == 1
    (left,) = Path(cache.path, "tmp").iterdir()
    os.utime(left, (0, 0))
    cache.sweep()
    assert cache.stats().temporary_files == 0


def test_a_full_disk(cache: Cache, monkeypatch: pytest.MonkeyPatch):
    def write(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", write)
    with pytest.warns(CacheWarning, match="No space left"):
        entry = cache.get_or_build(KEY, lambda: (BLOBS, {}))
    assert entry.blobs == BLOBS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.get_or_build(KEY, lambda: (BLOBS, {})).blobs == BLOBS
    monkeypatch.undo()
    assert cache.stats().entries == cache.stats().temporary_files == 0
    cache.put(KEY, BLOBS)
    assert cache.get(KEY) is not None


def test_a_disk_that_fills_up_in_the_middle_of_a_file(cache: Cache):
    process = child("""
        import resource, signal, sys, warnings
        from tilus.runtime.cache import Cache
        warnings.simplefilter("ignore")
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        cache = Cache(sys.argv[1])
        print(len(cache.get_or_build(sys.argv[2], lambda: ({"x": bytes(6000)}, {}))["x"]), cache.stats().entries)
    """, cache.path, KEY)
    assert process.communicate()[0] == "6000 0\n"
    assert cache.stats().temporary_files == 0


def test_a_directory_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "cache")
    with pytest.warns(CacheWarning):
        assert cache.get_or_build(KEY, lambda: (BLOBS, {})).blobs == BLOBS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.get_or_build(KEY, lambda: (BLOBS, {})).blobs == BLOBS
    assert cache.stats().entries == cache.clear() == 0
    assert cache.verify() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory(cache: Cache):
    cache.put(KEY, BLOBS)
    for path in Path(cache.path).rglob("*"):
        path.chmod(0o500 if path.is_dir() else 0o400)
    assert cache.get(KEY) is not None
    with pytest.warns(CacheWarning):
        assert cache.get_or_build(key_of(["new"]), lambda: (BLOBS, {})).blobs == BLOBS


def test_what_was_unused_for_longest_goes_first(cache: Cache):
    keys = [key_of([str(i)]) for i in range(4)]
    for age, key in enumerate(keys):
        cache.put(key, BLOBS)
        stamp = time.time() - 100_000 + age
        os.utime(entry_file(cache, key), (stamp, stamp))
    assert cache.get(keys[0]) is not None  # used now
    size = len(encode(Entry(keys[0], BLOBS)))
    Cache(cache.path, max_bytes=2 * size).sweep()
    assert [cache.get(key) is not None for key in keys] == [True, False, False, True]


def test_the_cap_holds_without_being_asked(tmp_path: Path):
    size = len(encode(Entry(KEY, BLOBS)))
    cache = Cache(tmp_path, max_bytes=10 * size)
    for i in range(200):
        cache.put(key_of([str(i)]), BLOBS)
    assert cache.stats().entries <= 10 + 64


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("TILUS_CACHE_DIR", str(tmp_path / "mine"))
    assert cache_directory() == str(tmp_path / "mine")
    monkeypatch.delenv("TILUS_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == str(tmp_path / "tilus")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == str(tmp_path / ".cache" / "tilus")


@pytest.mark.filterwarnings("error")
def test_many_threads_on_many_keys(cache: Cache):
    errors = []

    def work(seed: int) -> None:
        for i in range(60):
            key = key_of([str((i * 7 + seed) % 10)])
            blobs = {"x": key.encode() * 50}
            if cache.get_or_build(key, lambda blobs=blobs: (blobs, {})).blobs != blobs:
                errors.append(key)
            if i % 20 == seed:
                cache.clear()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert cache.verify() == []


def test_a_lock_is_free_again_where_ctrl_c_came_before_anybody_had_it(tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    path = str(tmp_path / "key.lock")
    with monkeypatch.context() as patch:
        patch.setattr(filelock, "_is_at", interrupted)
        with pytest.raises(KeyboardInterrupt), filelock.key_lock(path, 10):
            pass
    gc.collect()
    file = filelock._try_lock(path)
    assert file is not None
    file.close()
