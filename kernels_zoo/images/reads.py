"""Reads: where an element of the output finds its pixel. What they are asked for is all that is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tilus as tl
from kernels_zoo.images.source import Component, Pixel, Source, Traits, With, component, traits_of


def quotient(t: Any, d: Any) -> tuple[Any, Any]:
    """⌊t / d⌋ and the remainder of 0 ≤ t < 2³¹, exactly, where the quotient is below 2¹⁶: by floats, whose quotient is
    one off at most, since integers are divided one by one."""
    q = (t.to(tl.f32) * (1.0 / d.to(tl.f32))).to(tl.i32)
    rest = t - q * d
    q = tl.where(rest < 0, q - 1, tl.where(rest >= d, q + 1, q))
    return q, t - q * d


def neighbours(p: Any, size: Any, count: Any) -> tuple[Any, Any, Any]:
    """The two elements of ``size`` that the centre of element p of ``count`` is between, and how far it is on the way
    from the one to the other. Before the first and after the last centre there is that one alone."""
    low, rest = quotient(tl.maximum((2 * p + 1) * size - count, 0), 2 * count)
    last = size - 1
    return tl.minimum(low, last), tl.minimum(low + 1, last), rest.to(tl.f32) * (0.5 / count.to(tl.f32))


def mixed(a: Pixel, b: Pixel, weight: Any) -> Pixel:
    """Each is used once, so that none is kept."""
    rest = 1.0 - weight
    return tuple(p * rest + q * weight for p, q in zip(a, b, strict=True))


@component(resizes=True)
def bilinear(source: Source, rows: Any, columns: Any) -> Source:
    """Resized, with half-pixel centres: position y of the output is (y + ½) · source rows / rows − ½ of the source, and
    its pixel lies between the four around there. OpenCV's INTER_LINEAR; torch's, with neither antialias nor
    align_corners."""

    def at(y: Any, x: Any) -> Pixel:
        top, bottom, down = neighbours(y, source.rows, rows)
        left, right, along = neighbours(x, source.columns, columns)
        above = mixed(source.at(top, left), source.at(top, right), along)
        below = mixed(source.at(bottom, left), source.at(bottom, right), along)
        return mixed(above, below, down)

    return Source(rows, columns, at)


@component(resizes=True)
def nearest(source: Source, rows: Any, columns: Any) -> Source:
    """Resized: position y of the output is ⌊y · source rows / rows⌋ of the source, as OpenCV's INTER_NEAREST."""

    def at(y: Any, x: Any) -> Pixel:
        down, along = quotient(y * source.rows, rows)[0], quotient(x * source.columns, columns)[0]
        return source.at(tl.minimum(down, source.rows - 1), tl.minimum(along, source.columns - 1))

    return Source(rows, columns, at)


@dataclass(frozen=True)
class Fitted:
    """Resized by another read, keeping the aspect ratio, in the middle of a ground of one colour."""

    read: Component
    traits = Traits(resizes=True, sets=1)

    def __call__(self, source: Source, rows: Any, columns: Any, *colour: Any) -> Source:
        tall = source.rows * columns > source.columns * rows
        fit_rows = tl.where(tall, rows, tl.maximum(source.rows * columns // source.columns, 1))
        fit_columns = tl.where(tall, tl.maximum(source.columns * rows // source.rows, 1), columns)
        top, left = (rows - fit_rows) // 2, (columns - fit_columns) // 2
        inner = self.read(source, fit_rows, fit_columns)

        def at(y: Any, x: Any) -> Pixel:
            y, x = y - top, x - left
            inside = (y >= 0) & (y < fit_rows) & (x >= 0) & (x < fit_columns)
            clamped = tl.clamp(y, 0, fit_rows - 1), tl.clamp(x, 0, fit_columns - 1)
            pixel = inner.at(*clamped)
            return tuple(tl.where(inside, p, colour[c % len(colour)]) for c, p in enumerate(pixel))

        return Source(rows, columns, at)


def fitted(*colour: float, read: Component = bilinear) -> With:
    """Resized keeping the aspect ratio, on a ground of this colour: one number, or one a channel."""
    return With(Fitted(read), colour or (0.0,))


@dataclass(frozen=True)
class Converted:
    """A step done on each pixel that is read."""

    step: Component

    @property
    def traits(self) -> Traits:
        return traits_of(self.step)

    def __call__(self, source: Source, rows: Any, columns: Any, *numbers: Any) -> Source:
        return Source(source.rows, source.columns, lambda y, x: self.step(source.at(y, x), *numbers))


def converted(step: Component | With) -> Component | With:
    """A step as a read, to be done before what is resized, say."""
    return With(Converted(step.component), step.numbers) if isinstance(step, With) else Converted(step)


def mirrored(source: Source, rows: Any, columns: Any) -> Source:
    """Left and right exchanged."""
    return Source(source.rows, source.columns, lambda y, x: source.at(y, source.columns - 1 - x))
