"""Patches of images on the CPU: what vectors of them read, in the middle, at borders and where rows are short."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from tests.array.test_convolution import assert_near, numbers, reference
from tests.guard_pages import last_bytes

Array = Any


@tl.fuse
def convolution(x, w, stride: tuple, padding: tuple, dilation: tuple, groups: int):
    return tl.convolution(x, w, stride=stride, padding=padding, dilation=dilation, groups=groups)


@tl.fuse
def depthwise(x, w: tl.f32["C", 1, 3, 3], stride: tuple, padding: tuple, dilation: tuple):
    return tl.convolution(x, w, stride=stride, padding=padding, dilation=dilation, groups=3)


def check(x: Array, w: Array, stride: Any, padding: Any, dilation: Any, groups: int) -> None:
    given = {"stride": stride, "padding": padding, "dilation": dilation}
    found = depthwise.on("cpu")(x, w, **given) if w.shape[1] == 1 < groups else \
        convolution.on("cpu")(x, w, **given, groups=groups)
    assert_near(found, reference(x, w, stride, padding, dilation, groups))


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("width", [1, 2, 3, 5, 7, 8, 9, 14, 16, 17, 31, 40])
def test_widths(width: int) -> None:
    """Vectors in one row, in two and in more; rows of the product that are a few, and more than a block's."""
    for rows in (3, 20):
        x, w = numbers(width, (2, 4, 9, width), (rows, 4, 3, 3))
        check(x, w, 1, 1, 1, 1)
        check(x, w, (1, 2), (0, 3), (2, 1), 1)
    x, w = numbers(width, (2, 3, 9, width), (3, 1, 3, 3))
    check(x, w, 1, 1, 1, 3)
    check(x, w, 2, 1, 1, 3)
    check(x, w, (2, 3), (2, 2), (2, 1), 3)


def test_long_sums() -> None:
    """Channels and taps of several chunks, and blocks of rows and columns of several tiles."""
    x, w = numbers(0, (1, 70, 20, 21), (140, 70, 3, 3))
    check(x, w, 1, 1, 1, 1)


@pytest.mark.parametrize("padding", [0, 1])
def test_nothing_is_read_behind_an_image(padding: int) -> None:
    x, w, narrow = numbers(1, (1, 3, 17, 18), (7, 3, 3, 3), (3, 1, 3, 3))
    with last_bytes() as last:
        at_end = last(x.nbytes).view(np.float32).reshape(x.shape)
        at_end[:] = x
        for stride in (1, 2):
            check(at_end, w, stride, padding, 1, 1)
            check(at_end, narrow, stride, padding, 1, 3)
        del at_end


def test_images_without_elements() -> None:
    """Where padding is all that windows see."""
    x, w = np.zeros((2, 3, 0, 5), np.float32), np.ones((4, 3, 3, 3), np.float32)
    found = convolution.on("cpu")(x, w, stride=1, padding=2, dilation=1, groups=1)
    assert found.shape == (2, 4, 2, 7)
    assert not found.any()
