"""Functions of images (images, channels, rows, columns), whose last dimensions are short, over whole arrays."""

# Parameters without annotations are arrays of any type and rank.
# mypy: allow-untyped-defs

from __future__ import annotations

import tilus as tl


@tl.fuse
def relu(x):
    return tl.relu(x)


@tl.fuse
def average(x):
    return tl.mean(tl.mean(x, axis=3), axis=2)


@tl.fuse
def instance_norm(x):
    d = x - tl.mean(tl.mean(x, axis=3, keepdims=True), axis=2, keepdims=True)
    return d * tl.rsqrt(tl.mean(tl.mean(d * d, axis=3, keepdims=True), axis=2, keepdims=True) + 1e-5)


@tl.fuse
def channels_last(x):
    return x.transpose(0, 2, 3, 1)
