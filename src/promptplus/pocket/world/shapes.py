"""Shapes of the drawn world: polygons in the square [-1, 1] x [-1, 1], y down, and functions that make them.

A shape is drawn part by part, back to front. A part is one or more polygons of one material. The polygons of a part
share one outline, so the crown of a tree, made of three discs, has no lines inside.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

RGB = tuple[int, int, int]
Point = tuple[float, float]
Polygon = tuple[Point, ...]

SIZE = 64
"""Width and height of a picture in pixels."""
CANVAS = 3 * SIZE
"""Width and height of the canvas, which is three times larger than the picture and scaled down at the end."""

ARC_STEP = 8
"""Degrees between two corners of an arc: finer than a pixel of the picture."""


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """The colour between `a` (share 0) and `b` (share 1)."""
    red, green, blue = (round(x * (1 - share) + y * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


@dataclass(frozen=True)
class Part:
    """Polygons of one material: `body` (colour and texture), `trim` (second colour) or a key of `painting.FIXED`."""

    material: str
    polygons: tuple[Polygon, ...]


@dataclass(frozen=True)
class Shape:
    """Parts, back to front; `trim` names the parts of that material ("handle"), None if there are none."""

    parts: tuple[Part, ...]
    trim: str | None = None


def corners(*numbers: float) -> Polygon:
    """The polygon with the corners (x0, y0), (x1, y1), …, given as a flat list."""
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def box(left: float, top: float, right: float, bottom: float) -> Polygon:
    """An axis-parallel rectangle."""
    return corners(left, top, right, top, right, bottom, left, bottom)


def arc(x: float, y: float, rx: float, ry: float, start: float = 0, end: float = 360) -> Polygon:
    """A filled elliptic arc with centre (x, y), from `start` to `end` degrees, clockwise from the right."""
    count = max(3, round(abs(end - start) / ARC_STEP) + 1)
    angles = [math.radians(start + (end - start) * i / (count - 1)) for i in range(count)]
    return tuple((x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles)


def disc(x: float, y: float, r: float) -> Polygon:
    """A filled circle."""
    return arc(x, y, r, r)


def band(x: float, y: float, r: float, width: float, start: float = 0, end: float = 360) -> Polygon:
    """A ring of outer radius `r`, or the part of it from `start` to `end` degrees."""
    return arc(x, y, r, r, start, end) + arc(x, y, r - width, r - width, end, start)


def line(x0: float, y0: float, x1: float, y1: float, width: float = 0.09) -> Polygon:
    """A straight line as a rectangle of the given width."""
    length = math.hypot(x1 - x0, y1 - y0)
    dx, dy = (y0 - y1) / length * width / 2, (x1 - x0) / length * width / 2
    return corners(x0 + dx, y0 + dy, x1 + dx, y1 + dy, x1 - dx, y1 - dy, x0 - dx, y0 - dy)


def zigzag_star(points: int, outer: float, inner: float) -> Polygon:
    """A star around (0, 0) with the given number of points, one of them up."""
    turns = [(outer if i % 2 == 0 else inner, math.radians(i * 180 / points - 90)) for i in range(2 * points)]
    return tuple((r * math.cos(a), r * math.sin(a)) for r, a in turns)


def heart() -> Polygon:
    """A heart that fills the square."""
    angles = [math.radians(a) for a in range(0, 360, 6)]
    return tuple(
        (
            math.sin(a) ** 3 * 0.95,
            (-2.5 - 13 * math.cos(a) + 5 * math.cos(2 * a) + 2 * math.cos(3 * a) + math.cos(4 * a)) / 16,
        )
        for a in angles
    )


def petals(count: int, x: float, y: float, distance: float, r: float) -> tuple[Polygon, ...]:
    """`count` circles of radius `r` whose centres lie on a circle of radius `distance` around (x, y)."""
    angles = [math.radians(360 * i / count) for i in range(count)]
    return tuple(disc(x + distance * math.cos(a), y + distance * math.sin(a), r) for a in angles)


def stroke(width: float, *points: Point) -> tuple[Polygon, ...]:
    """A line through `points` with round joints and ends."""
    pieces = [line(*a, *b, width) for a, b in pairwise(points)]
    return (*pieces, *(disc(x, y, width / 2) for x, y in points))


def mirrored(polygon: Polygon) -> Polygon:
    """The mirror image of `polygon`, left and right exchanged."""
    return tuple((-x, y) for x, y in polygon)


def turned(polygon: Polygon, degrees: float, x: float = 0, y: float = 0) -> Polygon:
    """`polygon`, turned clockwise around (x, y)."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return tuple((x + (px - x) * cos - (py - y) * sin, y + (px - x) * sin + (py - y) * cos) for px, py in polygon)


def part(material: str, *polygons: Polygon) -> Part:
    """A `Part` of the given polygons."""
    return Part(material, polygons)


def pair(material: str, polygon: Polygon) -> tuple[Part, Part]:
    """Two parts: `polygon` and its mirror image."""
    return part(material, polygon), part(material, mirrored(polygon))


def shape(*parts: Part, trim: str | None = None) -> Shape:
    """A `Shape` of the given parts, back to front."""
    return Shape(parts, trim)
