"""The memory of the frames of a pool, in LLVM IR.

A frame of a few megabytes holds packed operands, which a core reads again and again from its second-level cache and the
one behind it. On small pages those would meet in few sets of the second level, and each page would take an entry of the
tables of addresses; so large frames are on large pages, where the system has such for those that ask.
"""

from __future__ import annotations

SMALL_PAGE, LARGE_PAGE = 4 << 10, 2 << 20
"""Bytes of a page, and of a large one on x86-64 and on AArch64 with small pages."""
MADV_HUGEPAGE = 14
"""Linux's number for asking."""


def frames_text(linux: bool) -> str:
    """``new_frame(bytes)`` gives a frame's address, which ``free`` takes, or null."""
    return _LARGE if linux else _SMALL


_SMALL = f"""
define internal ptr @new_frame(i64 %bytes) {{
  %frame = call ptr @aligned_alloc(i64 {SMALL_PAGE}, i64 %bytes)
  ret ptr %frame
}}
"""

_LARGE = f"""
declare i32 @madvise(ptr, i64, i32)

define internal ptr @new_frame(i64 %bytes) {{
  %large = icmp uge i64 %bytes, {LARGE_PAGE}
  %page = select i1 %large, i64 {LARGE_PAGE}, i64 {SMALL_PAGE}
  %more = add i64 %bytes, %page
  %padded = sub i64 %more, 1
  %mask = sub i64 0, %page
  %rounded = and i64 %padded, %mask
  %frame = call ptr @aligned_alloc(i64 %page, i64 %rounded)
  %there = icmp ne ptr %frame, null
  %asks = and i1 %large, %there
  br i1 %asks, label %ask, label %done
ask:
  %refused = call i32 @madvise(ptr %frame, i64 %rounded, i32 {MADV_HUGEPAGE})
  br label %done
done:
  ret ptr %frame
}}
"""
