"""The silhouettes of the drawn world: every figure is a short list of polygons in the square [-1, 1] x [-1, 1], y down.

A figure is drawn part by part, back to front. A part is one material and one or more polygons that melt into one
another: they share an outline, so a tree's crown of three discs has no lines inside it.
"""

import math
from dataclasses import dataclass

Point = tuple[float, float]
Polygon = tuple[Point, ...]

ARC_STEP = 8
"""Degrees between two corners of a curve: finer than one pixel at 64 x 64."""


@dataclass(frozen=True)
class Part:
    """Polygons of one material: `body` (colour and texture), `trim` (second colour) or a fixed one (`world.FIXED`)."""

    material: str
    polygons: tuple[Polygon, ...]


def corners(*numbers: float) -> Polygon:
    """Pair a flat list x0, y0, x1, y1, … into points."""
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def box(left: float, top: float, right: float, bottom: float) -> Polygon:
    return corners(left, top, right, top, right, bottom, left, bottom)


def arc(x: float, y: float, rx: float, ry: float, start: float = 0, end: float = 360) -> Polygon:
    """An elliptic arc around (x, y), degrees clockwise from the right."""
    count = max(3, round(abs(end - start) / ARC_STEP) + 1)
    angles = [math.radians(start + (end - start) * i / (count - 1)) for i in range(count)]
    return tuple((x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles)


def disc(x: float, y: float, r: float) -> Polygon:
    return arc(x, y, r, r)


def band(x: float, y: float, r: float, width: float, start: float = 0, end: float = 360) -> Polygon:
    """A ring, or a piece of one, `width` wide inside radius `r`."""
    return arc(x, y, r, r, start, end) + arc(x, y, r - width, r - width, end, start)


def line(x0: float, y0: float, x1: float, y1: float, width: float = 0.09) -> Polygon:
    length = math.hypot(x1 - x0, y1 - y0)
    dx, dy = (y0 - y1) / length * width / 2, (x1 - x0) / length * width / 2
    return corners(x0 + dx, y0 + dy, x1 + dx, y1 + dy, x1 - dx, y1 - dy, x0 - dx, y0 - dy)


def zigzag_star(points: int, outer: float, inner: float) -> Polygon:
    turns = [(outer if i % 2 == 0 else inner, math.radians(i * 180 / points - 90)) for i in range(2 * points)]
    return tuple((r * math.cos(a), r * math.sin(a)) for r, a in turns)


def heart() -> Polygon:
    angles = [math.radians(a) for a in range(0, 360, 6)]
    return tuple(
        (
            math.sin(a) ** 3 * 0.95,
            (2 - 13 * math.cos(a) + 5 * math.cos(2 * a) + 2 * math.cos(3 * a) + math.cos(4 * a)) / 16,
        )
        for a in angles
    )


def petals(count: int, x: float, y: float, distance: float, r: float) -> tuple[Polygon, ...]:
    angles = [math.radians(360 * i / count) for i in range(count)]
    return tuple(disc(x + distance * math.cos(a), y + distance * math.sin(a), r) for a in angles)


def part(material: str, *polygons: Polygon) -> Part:
    return Part(material, polygons)


WHEELS = (
    part("dark", disc(-0.52, 0.5, 0.27)),
    part("dark", disc(0.55, 0.5, 0.27)),
    part("light", disc(-0.52, 0.5, 0.1), disc(0.55, 0.5, 0.1)),
)
UMBRELLA_HEM = tuple(p for x in (0.63, 0.0, -0.63) for p in arc(x, 0.1, 0.32, 0.16, 0, -180))

NAMED: dict[str, tuple[Part, ...]] = {
    "house": (
        part("body", box(-0.72, -0.1, 0.72, 0.9)),
        part("trim", corners(-1, -0.05, 0, -0.95, 1, -0.05)),
        part("dark", box(-0.18, 0.35, 0.2, 0.9)),
        part("light", box(0.36, 0.12, 0.6, 0.36)),
        part("light", box(-0.6, 0.12, -0.36, 0.36)),
    ),
    "car": (
        part(
            "body",
            corners(-1, 0.1, -0.95, 0.5, 1, 0.5, 1, 0.12, 0.6, 0.02, 0.35, -0.42, -0.45, -0.42, -0.7, 0.02),
        ),
        part("light", corners(-0.52, 0, -0.36, -0.3, -0.05, -0.3, -0.05, 0)),
        part("light", corners(0.05, 0, 0.05, -0.3, 0.27, -0.3, 0.44, 0)),
        *WHEELS,
    ),
    "fish": (
        part("trim", corners(0.45, 0, 1, -0.55, 0.9, 0, 1, 0.55)),
        part("trim", corners(-0.25, -0.42, 0.1, -0.8, 0.35, -0.38)),
        part("body", arc(-0.15, 0, 0.82, 0.52)),
        part("light", disc(-0.6, -0.12, 0.13)),
        part("dark", disc(-0.62, -0.12, 0.07)),
    ),
    "tree": (
        part("dark", corners(-0.15, 0.3, 0.15, 0.3, 0.2, 1, -0.2, 1)),
        part("body", disc(-0.4, 0.05, 0.44), disc(0.4, 0.05, 0.44), disc(0, -0.42, 0.55), disc(0, 0.05, 0.42)),
    ),
    "star": (part("body", zigzag_star(5, 1, 0.44)),),
    "heart": (part("body", heart()),),
    "mug": (
        part("trim", band(0.55, 0.02, 0.43, 0.17)),
        part("body", corners(-0.75, -0.7, 0.5, -0.7, 0.45, 0.8, -0.68, 0.8)),
        part("dark", arc(-0.125, -0.7, 0.625, 0.17)),
    ),
    "mushroom": (
        part("cream", corners(-0.24, 0.05, 0.24, 0.05, 0.32, 0.95, -0.32, 0.95)),
        part("body", arc(0, 0.15, 0.95, 1.0, 180, 360)),
    ),
    "boat": (
        part("dark", box(-0.06, -0.95, 0.05, 0.35)),
        part("trim", corners(0.1, -0.9, 0.8, 0.22, 0.1, 0.22)),
        part("cream", corners(-0.12, -0.7, -0.12, 0.22, -0.6, 0.22)),
        part("body", corners(-1, 0.32, 1, 0.32, 0.62, 0.9, -0.65, 0.9)),
    ),
    "rocket": (
        part("trim", corners(-0.35, 0.25, -0.75, 0.85, -0.3, 0.7)),
        part("trim", corners(0.35, 0.25, 0.75, 0.85, 0.3, 0.7)),
        part("fire", corners(-0.2, 0.65, 0.2, 0.65, 0, 1.1)),
        part("body", corners(0, -1, 0.28, -0.62, 0.38, -0.1, 0.34, 0.7, -0.34, 0.7, -0.38, -0.1, -0.28, -0.62)),
        part("light", disc(0, -0.3, 0.17)),
    ),
    "flower": (
        part("leaf", box(-0.07, 0.1, 0.07, 1), corners(0, 0.75, 0.45, 0.4, 0.5, 0.65)),
        part("body", *petals(6, 0, -0.3, 0.42, 0.3)),
        part("gold", disc(0, -0.3, 0.25)),
    ),
    "ball": (part("body", disc(0, 0, 0.88)),),
    "cat": (
        part(
            "body",
            corners(-0.85, -0.95, -0.2, -0.55, -0.78, 0),
            corners(0.85, -0.95, 0.2, -0.55, 0.78, 0),
            arc(0, 0.1, 0.85, 0.72),
        ),
        part("light", arc(-0.35, -0.05, 0.18, 0.21), arc(0.35, -0.05, 0.18, 0.21)),
        part("dark", arc(-0.35, -0.03, 0.08, 0.14), arc(0.35, -0.03, 0.08, 0.14)),
        part("dark", corners(-0.12, 0.26, 0.12, 0.26, 0, 0.42)),
        part("dark", line(-0.92, 0.26, -0.35, 0.36, 0.07), line(0.92, 0.26, 0.35, 0.36, 0.07)),
    ),
    "cloud": (
        part(
            "body",
            arc(-0.52, 0.15, 0.45, 0.38),
            arc(0.52, 0.15, 0.45, 0.38),
            disc(-0.12, -0.2, 0.47),
            arc(0.32, -0.1, 0.4, 0.38),
            box(-0.52, 0.1, 0.52, 0.53),
        ),
    ),
    "butterfly": (
        part("trim", arc(-0.4, 0.42, 0.36, 0.4), arc(0.4, 0.42, 0.36, 0.4)),
        part("body", arc(-0.52, -0.32, 0.48, 0.48), arc(0.52, -0.32, 0.48, 0.48), box(-0.2, -0.3, 0.2, 0.1)),
        part("dark", line(-0.03, -0.5, -0.25, -0.98, 0.08), line(0.03, -0.5, 0.25, -0.98, 0.08)),
        part("dark", arc(0, 0.05, 0.11, 0.68)),
    ),
    "crown": (
        part("body", corners(-0.8, 0.7, -0.98, -0.5, -0.45, 0.05, 0, -0.72, 0.45, 0.05, 0.98, -0.5, 0.8, 0.7)),
        part("trim", box(-0.82, 0.48, 0.82, 0.78)),
        part("gold", disc(-0.95, -0.55, 0.13), disc(0, -0.78, 0.13), disc(0.95, -0.55, 0.13)),
    ),
}
"""The shapes that captions name and the pocket model is trained on."""

UNSEEN: dict[str, tuple[Part, ...]] = {
    "robot": (
        part("dark", line(0, -0.95, 0, -0.7)),
        part("trim", disc(0, -0.93, 0.11)),
        part("body", box(-0.42, -0.74, 0.42, -0.12)),
        part("body", box(-0.92, 0, -0.64, 0.5)),
        part("body", box(0.64, 0, 0.92, 0.5)),
        part("body", box(-0.45, 0.6, -0.1, 1)),
        part("body", box(0.1, 0.6, 0.45, 1)),
        part("trim", box(-0.6, -0.05, 0.6, 0.62)),
        part("light", disc(-0.2, -0.45, 0.12), disc(0.2, -0.45, 0.12)),
    ),
    "teapot": (
        part("trim", band(0.66, 0.12, 0.33, 0.14)),
        part("trim", corners(-0.5, 0.35, -1.0, -0.25, -0.8, -0.36, -0.4, 0)),
        part("body", arc(0, 0.2, 0.7, 0.6)),
        part("trim", arc(0, -0.33, 0.38, 0.15)),
        part("trim", disc(0, -0.54, 0.12)),
    ),
    "umbrella": (
        part("dark", box(-0.05, -0.1, 0.06, 0.75), band(0.18, 0.72, 0.24, 0.12, 0, 180)),
        part("body", arc(0, 0.1, 0.95, 0.95, 180, 360) + UMBRELLA_HEM),
        part("trim", corners(0, -0.85, 0.32, 0.02, -0.32, 0.02)),
    ),
    "snail": (
        part("dark", line(-0.58, -0.12, -0.78, -0.5), line(-0.42, -0.12, -0.36, -0.52)),
        part(
            "trim",
            corners(-1, 0.8, -0.95, 0.5, -0.66, 0.45, -0.68, -0.2, -0.35, -0.2, -0.3, 0.5, 0.9, 0.6, 1, 0.8),
        ),
        part("body", disc(0.22, 0.1, 0.6)),
        part("trim", band(0.22, 0.1, 0.38, 0.13)),
        part("trim", disc(0.22, 0.1, 0.13)),
    ),
    "key": (
        part(
            "body",
            box(-0.15, -0.11, 0.97, 0.11),
            box(0.42, 0, 0.6, 0.42),
            box(0.74, 0, 0.92, 0.48),
        ),
        part("trim", band(-0.5, 0, 0.45, 0.2)),
    ),
}
"""The shapes kept for inversion: in no training picture, and no caption names them."""
