"""Composed shapes: a random body, perhaps a head, and parts attached to them.

Several hundred composed shapes get a made-up noun each (`scenes.MADE_UP`), so that the token embeddings cover many
shapes, as those of a real text encoder do. Others are held-out concepts: no caption names them and no training picture
shows them. A shape depends on its random generator's seed only. All numbers are our choice.
"""

import math
import random
from dataclasses import dataclass

from promptplus.pocket.world.shapes import (
    Part,
    Point,
    Polygon,
    Shape,
    arc,
    band,
    box,
    corners,
    disc,
    line,
    part,
    stroke,
)

CURVE = 48
"""Number of corners of a body's outline."""
REACH = 0.97
"""Half the side of the square that a composed shape is scaled to fill."""
OUTLINES = ("round", "square", "diamond", "tapered", "widening", "wavy", "spiky", "waisted")
TOPS = ("none", "none", "none", "horns", "ears", "antennae", "hat", "stalk", "crest", "knob", "loop", "cone")
SIDES = ("none", "none", "none", "wings", "arms", "ring", "fins", "discs")
BOTTOMS = ("none", "none", "none", "legs", "wheels", "stand", "tentacles", "skirt", "feet", "pole")
FRONTS = ("none", "none", "eyes", "eye", "belly", "belt", "window", "mouth", "sash")
HEADED = 0.3
"""Probability of a head on top of the body."""


@dataclass(frozen=True)
class BodyPlan:
    """Which parts a composed shape has. Two shapes of the same body plan differ in their proportions only."""

    outline: str
    head: str | None
    top: str
    side: str
    bottom: str
    front: str


@dataclass(frozen=True)
class Frame:
    """The place of a body or head: an outline with centre (x, y), half width `rx` and half height `ry`."""

    outline: str
    x: float
    y: float
    rx: float
    ry: float
    wave: int
    bend: float

    def polygon(self) -> Polygon:
        """The outline: a superellipse, waved, tapered or pinched according to `outline`."""
        return tuple(self.point(2 * math.pi * i / CURVE) for i in range(CURVE))

    def point(self, angle: float) -> Point:
        """The point of the outline at `angle`, in radians."""
        exponent = {"square": 7.0, "diamond": 1.05, "tapered": 4.0, "widening": 4.0}.get(self.outline, 2.0)
        cos, sin = math.cos(angle), math.sin(angle)
        x = math.copysign(abs(cos) ** (2 / exponent), cos)
        y = math.copysign(abs(sin) ** (2 / exponent), sin)
        match self.outline:
            case "wavy":
                swell = 1 + 0.16 * math.cos(self.wave * angle + math.pi / 2)
                x, y = x * swell / 1.16, y * swell / 1.16
            case "spiky":
                saw = abs((angle * self.wave / math.pi) % 2 - 1)
                x, y = x * (0.68 + 0.32 * saw), y * (0.68 + 0.32 * saw)
            case "tapered":
                x *= 1 - self.bend * (1 - y) / 2
            case "widening":
                x *= 1 - self.bend * (1 + y) / 2
            case "waisted":
                x *= 1 - 0.8 * self.bend * (1 - y * y)
        return self.x + self.rx * x, self.y + self.ry * y


def random_body_plan(rng: random.Random) -> BodyPlan:
    """Choose each part at random."""
    return BodyPlan(
        outline=rng.choice(OUTLINES),
        head=rng.choice(("round", "square", "diamond", "widening")) if rng.random() < HEADED else None,
        top=rng.choice(TOPS),
        side=rng.choice(SIDES),
        bottom=rng.choice(BOTTOMS),
        front=rng.choice(FRONTS),
    )


def random_frame(rng: random.Random, outline: str, y: float, size: float) -> Frame:
    """A frame around (0, y) of random aspect; `size` is the root of half width times half height."""
    aspect = math.exp(rng.uniform(-0.45, 0.45))
    return Frame(
        outline, 0, y, size * math.sqrt(aspect), size / math.sqrt(aspect), rng.randint(5, 9), rng.uniform(0.4, 0.75)
    )


def both(*polygons: Polygon) -> tuple[Polygon, ...]:
    """The polygons and their mirror images."""
    return (*polygons, *(tuple((-x, y) for x, y in polygon) for polygon in polygons))


def top_parts(kind: str, at: Frame, size: float, rng: random.Random) -> list[Part]:
    """The parts on the upper edge of `at`."""
    edge, x = at.y - 0.85 * at.ry, at.rx * rng.uniform(0.4, 0.7)
    lean = rng.uniform(-0.1, 0.35)
    match kind:
        case "horns":
            return [part("trim", *both(corners(x - 0.14, edge + 0.1, x + 0.16, edge + 0.16, x + lean, edge - size)))]
        case "ears":
            return [part("body", *both(arc(x + lean / 2, edge - size * 0.35, 0.17, size * 0.75)))]
        case "antennae":
            tip = (x + lean, edge - size)
            return [part("dark", *both(line(x / 2, edge + 0.1, *tip, 0.08))), part("trim", *both(disc(*tip, 0.13)))]
        case "hat":
            rim = box(-0.75 * at.rx, edge - 0.08, 0.75 * at.rx, edge + 0.08)
            return [part("trim", rim, box(-0.45 * at.rx, edge - size * 0.8, 0.45 * at.rx, edge))]
        case "stalk":
            leaf = arc(0.2 + lean / 2, edge - size * 0.6, 0.24, 0.12)
            return [part("leaf", *stroke(0.09, (0, edge + 0.1), (0.05, edge - size * 0.7)), leaf)]
        case "crest":
            third = at.rx * 0.55
            teeth = [corners(c - 0.2, edge + 0.15, c + 0.2, edge + 0.15, c, edge - size * h) for c, h in
                     ((-third, 0.55), (0, 0.8), (third, 0.55))]  # fmt: skip
            return [part("trim", *teeth)]
        case "knob":
            return [part("trim", disc(0, edge - size * 0.25, 0.13 + size * 0.2))]
        case "loop":
            return [part("trim", band(0, edge - size * 0.2, 0.2 + size * 0.25, 0.13))]
        case "cone":
            return [part("trim", corners(-0.65 * at.rx, edge + 0.1, 0.65 * at.rx, edge + 0.1, 0, edge - size))]
    return []


def side_parts(kind: str, at: Frame, size: float, rng: random.Random) -> list[Part]:
    """The parts at the left and right sides of `at`."""
    x, y, rise = at.rx * 0.8, at.y + at.ry * rng.uniform(-0.35, 0.3), rng.uniform(-0.45, 0.45)
    match kind:
        case "wings":
            return [
                part(
                    "trim",
                    *both(
                        corners(x - 0.2, y - 0.12, x + size, y - 0.5 + rise, x + size * 0.8, y + 0.25, x - 0.2, y + 0.3)
                    ),
                )
            ]
        case "arms":
            hand = (x + size * 0.7, y + rise)
            return [part("body", *both(line(x - 0.15, y, *hand, 0.16), disc(*hand, 0.14)))]
        case "ring":
            side = rng.choice((-1, 1))
            return [part("trim", band(side * (x + 0.12), y, 0.2 + size * 0.3, 0.14))]
        case "fins":
            return [part("trim", *both(corners(x - 0.2, y - 0.25, x + size * 0.7, y + 0.35, x - 0.2, y + 0.3)))]
        case "discs":
            return [part("trim", *both(disc(x + size * 0.2, y, 0.16 + size * 0.2)))]
    return []


def bottom_parts(kind: str, at: Frame, size: float, rng: random.Random) -> list[Part]:
    """The parts below `at`."""
    edge, x = at.y + 0.82 * at.ry, at.rx * rng.uniform(0.35, 0.65)
    foot = edge + size * 0.8
    match kind:
        case "legs":
            return [part(rng.choice(("body", "dark")), *both(box(x - 0.1, edge - 0.15, x + 0.1, foot)))]
        case "wheels":
            r = 0.17 + size * 0.15
            return [part("dark", *both(disc(x, edge + 0.1, r))), part("light", *both(disc(x, edge + 0.1, r * 0.4)))]
        case "stand":
            return [
                part("trim", box(-0.1, edge - 0.1, 0.1, foot), box(-at.rx * 0.7, foot - 0.08, at.rx * 0.7, foot + 0.08))
            ]
        case "tentacles":
            ends = [(c * 1.35, foot - 0.1 * abs(c)) for c in (-x, -x / 3, x / 3, x)]
            return [
                part(
                    "trim",
                    *(
                        p
                        for c, end in zip((-x, -x / 3, x / 3, x), ends, strict=True)
                        for p in stroke(0.13, (c, edge - 0.15), end)
                    ),
                )
            ]
        case "skirt":
            return [
                part(
                    "trim",
                    corners(-at.rx * 0.6, edge - 0.1, at.rx * 0.6, edge - 0.1, at.rx * 1.05, foot, -at.rx * 1.05, foot),
                )
            ]
        case "feet":
            return [part("trim", *both(arc(x, edge + 0.1, 0.25, 0.15)))]
        case "pole":
            return [part("dark", *stroke(0.11, (0, edge - 0.1), (0, edge + size)))]
    return []


def front_parts(kind: str, at: Frame) -> list[Part]:
    """The parts painted on the front of `at`."""
    x, y, rx, ry = at.x, at.y, at.rx, at.ry
    small = min(rx, ry)
    match kind:
        case "eyes":
            d, r = 0.36 * rx, 0.24 * small
            whites = disc(x - d, y - 0.15 * ry, r), disc(x + d, y - 0.15 * ry, r)
            return [part("light", *whites), part("dark", *(disc(x + s * d, y - 0.12 * ry, r * 0.55) for s in (-1, 1)))]
        case "eye":
            return [
                part("light", disc(x, y - 0.1 * ry, 0.36 * small)),
                part("dark", disc(x, y - 0.1 * ry, 0.18 * small)),
            ]
        case "belly":
            return [part("trim", arc(x, y + 0.15 * ry, 0.5 * rx, 0.55 * ry))]
        case "belt":
            return [part("trim", box(x - 0.75 * rx, y - 0.14, x + 0.75 * rx, y + 0.14))]
        case "window":
            return [part("light", box(x - 0.4 * rx, y - 0.42 * ry, x + 0.4 * rx, y + 0.18 * ry))]
        case "mouth":
            return [part("dark", arc(x, y + 0.1 * ry, 0.45 * rx, 0.4 * ry, 0, 180))]
        case "sash":
            return [
                part(
                    "trim",
                    corners(
                        x - 0.6 * rx,
                        y - 0.55 * ry,
                        x - 0.25 * rx,
                        y - 0.6 * ry,
                        x + 0.6 * rx,
                        y + 0.45 * ry,
                        x + 0.3 * rx,
                        y + 0.6 * ry,
                    ),
                )
            ]
    return []


def fit(parts: list[Part]) -> tuple[Part, ...]:
    """The parts, moved and scaled together so that they fill the square."""
    xs, ys = zip(*(point for p in parts for polygon in p.polygons for point in polygon), strict=True)
    x, y = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    scale = 2 * REACH / max(max(xs) - min(xs), max(ys) - min(ys))
    return tuple(
        Part(p.material, tuple(tuple(((a - x) * scale, (b - y) * scale) for a, b in polygon) for polygon in p.polygons))
        for p in parts
    )


def compose(plan: BodyPlan, rng: random.Random) -> Shape:
    """The shape of `plan`; `rng` decides its proportions. Its trim is named "trim"."""
    sizes = [rng.uniform(0.35, 0.65) for _ in range(3)]
    body = random_frame(rng, plan.outline, 0, rng.uniform(0.58, 0.72))
    behind = [*side_parts(plan.side, body, sizes[1], rng), *bottom_parts(plan.bottom, body, sizes[2], rng)]
    parts, face = [*behind, part("body", body.polygon())], body
    if plan.head:
        size = rng.uniform(0.32, 0.45)
        face = random_frame(rng, plan.head, 0, size)
        face = Frame(face.outline, 0, -0.85 * body.ry - 0.7 * face.ry, face.rx, face.ry, face.wave, face.bend)
        on_head = plan.front in ("eyes", "eye", "mouth")
        parts += top_parts(plan.top, face, 0.8 * sizes[0], rng)
        parts += [part(rng.choice(("body", "trim")), face.polygon())]
        parts += front_parts(plan.front, face if on_head else body)
    else:
        parts = [*behind, *top_parts(plan.top, body, sizes[0], rng), part("body", body.polygon())]
        parts += front_parts(plan.front, body)
    return Shape(fit(parts), "trim" if any(p.material == "trim" for p in parts) else None)
