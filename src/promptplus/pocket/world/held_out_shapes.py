"""Shapes, colours and textures of the held-out objects that are drawn by hand (see `promptplus.pocket.held_out`)."""

import math

from promptplus.pocket.world.shapes import (
    RGB,
    Polygon,
    Shape,
    arc,
    band,
    box,
    corners,
    disc,
    line,
    mirrored,
    part,
    shape,
    stroke,
)


def umbrella_panel(left: float, right: float) -> Polygon:
    """One panel of an umbrella: the cloth between two ribs that end at x = `left` and x = `right`."""
    x, rx = (left + right) / 2, (right - left) / 2
    near, far = arc(0, 0.15, left, 1.05, 360, 270), arc(0, 0.15, right, 1.05, 270, 360)
    return near + far + arc(x, 0.15, rx, 0.16, 360, 180)


def sail(angle: float) -> Polygon:
    """One sail of a windmill whose hub is (0, -0.22), turned clockwise by `angle` degrees."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    outline = corners(0, -0.06, 0.93, -0.06, 0.93, 0.27, 0.26, 0.27, 0.2, 0.06, 0, 0.06)
    return tuple((x * cos - y * sin, x * sin + y * cos - 0.22) for x, y in outline)


HELD_OUT_SHAPES: dict[str, Shape] = {
    "robot": shape(
        part("dark", line(0, -0.85, 0, -0.6, 0.1)),
        part("trim", disc(0, -0.84, 0.14)),
        part("trim", box(-0.66, -0.52, 0.66, -0.26)),
        part("body", box(-0.5, -0.66, 0.5, -0.1)),
        part("body", box(-0.92, 0, -0.62, 0.56), box(0.62, 0, 0.92, 0.56)),
        part("body", box(-0.46, 0.5, -0.1, 0.96), box(0.1, 0.5, 0.46, 0.96)),
        part("trim", box(-0.58, -0.04, 0.58, 0.64)),
        part("light", disc(-0.23, -0.43, 0.15), disc(0.23, -0.43, 0.15)),
        part("dark", box(-0.3, -0.24, 0.3, -0.16)),
        part("gold", disc(0, 0.3, 0.17)),
        trim="chest",
    ),
    "teapot": shape(
        part("trim", band(0.58, 0.14, 0.4, 0.17, 180, 540)),
        part("trim", corners(-0.4, 0.62, -0.72, 0.28, -0.98, -0.36, -0.68, -0.44, -0.5, -0.06, -0.3, 0.1)),
        part("trim", disc(0, -0.62, 0.16)),
        part("body", arc(0, 0.24, 0.66, 0.58), box(-0.36, 0.7, 0.36, 0.88)),
        part("trim", arc(0, -0.2, 0.48, 0.32, 180, 360)),
        trim="spout",
    ),
    "umbrella": shape(
        part("dark", *stroke(0.13, (0, -0.85), (0, 0.74)), band(0.19, 0.7, 0.255, 0.13, 0, 180)),
        part("body", umbrella_panel(-0.22, 0.22)),
        part("trim", umbrella_panel(0.22, 0.62), mirrored(umbrella_panel(0.22, 0.62))),
        part("body", umbrella_panel(0.62, 0.97), mirrored(umbrella_panel(0.62, 0.97))),
        trim="panels",
    ),
    "snail": shape(
        part("trim", *stroke(0.13, (-0.6, -0.1), (-0.86, -0.56)), *stroke(0.13, (-0.56, -0.1), (-0.42, -0.6))),
        part("dark", disc(-0.86, -0.58, 0.11), disc(-0.42, -0.62, 0.11)),
        part(
            "trim",
            disc(-0.66, 0.0, 0.27),
            *stroke(0.36, (-0.7, 0.0), (-0.62, 0.66), (0.5, 0.66)),
            corners(0.4, 0.48, 0.98, 0.84, 0.4, 0.84),
        ),
        part("body", disc(0.22, 0.0, 0.64)),
        part("trim", band(0.18, 0.02, 0.42, 0.15, -30, 290)),
        part("trim", disc(0.18, 0.02, 0.13)),
        trim="skin",
    ),
    "key": shape(
        part("body", box(-0.2, -0.16, 0.97, 0.16), box(0.24, 0, 0.48, 0.52), box(0.7, 0, 0.97, 0.62)),
        part("trim", band(-0.47, 0, 0.5, 0.26, -8, 188), band(-0.47, 0, 0.5, 0.26, 172, 368)),
        trim="bow",
    ),
    "penguin": shape(
        part("body", corners(-0.4, -0.2, -0.9, 0.36, -0.8, 0.5, -0.36, 0.3)),
        part("body", corners(0.4, -0.2, 0.9, 0.36, 0.8, 0.5, 0.36, 0.3)),
        part("fire", arc(-0.28, 0.86, 0.28, 0.13), arc(0.28, 0.86, 0.28, 0.13)),
        part("body", disc(0, -0.5, 0.45), arc(0, 0.25, 0.6, 0.64)),
        part(
            "trim", disc(-0.17, -0.42, 0.2), disc(0.17, -0.42, 0.2), arc(0, 0.32, 0.42, 0.52), box(-0.2, -0.4, 0.2, 0)
        ),
        part("dark", disc(-0.17, -0.5, 0.08), disc(0.17, -0.5, 0.08)),
        part("fire", corners(-0.17, -0.37, 0.17, -0.37, 0, -0.14)),
        trim="belly",
    ),
    "octopus": shape(
        part("trim", *stroke(0.2, (-0.3, 0.2), (-0.66, 0.36), (-0.86, 0.14))),
        part("trim", *stroke(0.2, (0.3, 0.2), (0.66, 0.36), (0.86, 0.14))),
        part("trim", *stroke(0.2, (-0.28, 0.2), (-0.5, 0.62), (-0.82, 0.72))),
        part("trim", *stroke(0.2, (0.28, 0.2), (0.5, 0.62), (0.82, 0.72))),
        part("trim", *stroke(0.2, (-0.14, 0.2), (-0.16, 0.7), (-0.36, 0.88))),
        part("trim", *stroke(0.2, (0.14, 0.2), (0.16, 0.7), (0.36, 0.88))),
        part("body", arc(0, -0.4, 0.6, 0.54), box(-0.42, -0.2, 0.42, 0.3)),
        part("light", disc(-0.21, -0.14, 0.17), disc(0.21, -0.14, 0.17)),
        part("dark", disc(-0.19, -0.12, 0.09), disc(0.19, -0.12, 0.09)),
        trim="tentacles",
    ),
    "windmill": shape(
        part("body", corners(-0.36, -0.3, 0.36, -0.3, 0.6, 0.95, -0.6, 0.95), disc(0, -0.3, 0.36)),
        part("dark", box(-0.17, 0.58, 0.17, 0.95)),
        part("trim", *(sail(angle) for angle in (40, 130, 220, 310))),
        part("gold", disc(0, -0.22, 0.13)),
        trim="sails",
    ),
    "camera": shape(
        part("trim", box(-0.8, -0.6, -0.46, -0.3)),
        part("body", corners(-0.34, -0.4, -0.22, -0.72, 0.22, -0.72, 0.34, -0.4), box(-0.96, -0.44, 0.96, 0.66)),
        part("trim", box(-0.96, -0.12, 0.96, 0.4)),
        part("trim", disc(0, 0.14, 0.48)),
        part("dark", disc(0, 0.14, 0.32)),
        part("light", disc(-0.1, 0.04, 0.11)),
        part("light", box(0.56, -0.36, 0.84, -0.18)),
        trim="lens",
    ),
    "helicopter": shape(
        part("dark", line(-0.4, 0.4, -0.44, 0.8, 0.12), line(0.06, 0.4, 0.1, 0.8, 0.12)),
        part("trim", *stroke(0.16, (-0.88, 0.66), (-0.74, 0.82), (0.4, 0.82))),
        part("trim", corners(0.6, 0, 0.72, -0.5, 0.97, -0.5, 0.97, 0.3, 0.8, 0.3)),
        part("body", corners(-0.36, -0.66, -0.04, -0.66, 0.12, -0.3, -0.52, -0.3)),
        part("body", arc(-0.24, 0.13, 0.68, 0.5), corners(-0.1, -0.34, 0.86, -0.2, 0.86, 0.02, 0.2, 0.36)),
        part("light", arc(-0.3, 0.1, 0.5, 0.34, 90, 270)),
        part("trim", box(-0.17, -0.12, 0.14, 0.44)),
        part("trim", box(-0.97, -0.84, 0.57, -0.64)),
        trim="rotor",
    ),
    "dinosaur": shape(
        part(
            "trim",
            corners(-0.46, -0.84, 0.1, -0.86, -0.28, -0.3),
            corners(-0.36, -0.42, 0.28, -0.5, -0.04, 0.14),
            corners(-0.16, 0.1, 0.52, -0.42, 0.5, 0.24),
            corners(0.36, 0.2, 0.94, -0.16, 0.78, 0.36),
        ),
        part("body", box(-0.34, 0.4, -0.06, 0.95), box(0.26, 0.4, 0.54, 0.95)),
        part(
            "body",
            *stroke(0.3, (-0.46, -0.74), (-0.38, -0.2), (-0.12, 0.24)),
            arc(-0.62, -0.72, 0.34, 0.21),
            arc(0.1, 0.36, 0.52, 0.36),
            corners(0.3, 0.04, 0.7, 0.28, 0.98, 0.22, 0.9, 0.5, 0.6, 0.62, 0.2, 0.66),
            box(-0.34, 0.4, -0.06, 0.9),
            box(0.26, 0.4, 0.54, 0.9),
        ),
        part("light", disc(-0.62, -0.76, 0.11)),
        part("dark", disc(-0.64, -0.75, 0.06)),
        trim="plates",
    ),
    "hourglass": shape(
        part(
            "body",
            corners(-0.74, -0.9, 0.74, -0.9, 0.7, -0.4, 0.24, 0, -0.24, 0, -0.7, -0.4),
            corners(-0.74, 0.9, 0.74, 0.9, 0.7, 0.4, 0.24, 0, -0.24, 0, -0.7, 0.4),
        ),
        part("light", corners(-0.54, -0.8, 0.54, -0.8, 0.52, -0.46, 0.1, -0.06, -0.1, -0.06, -0.52, -0.46)),
        part("light", corners(-0.54, 0.8, 0.54, 0.8, 0.52, 0.46, 0.1, 0.06, -0.1, 0.06, -0.52, 0.46)),
        part("trim", corners(-0.53, -0.5, 0.53, -0.5, 0.52, -0.46, 0.1, -0.06, -0.1, -0.06, -0.52, -0.46)),
        part("trim", corners(-0.54, 0.8, -0.53, 0.6, 0, 0.22, 0.53, 0.6, 0.54, 0.8), box(-0.08, -0.1, 0.08, 0.5)),
        part("body", box(-0.84, -0.96, 0.84, -0.7), box(-0.84, 0.7, 0.84, 0.96)),
        trim="sand",
    ),
    "lighthouse": shape(
        part("gold", corners(0, -0.54, -0.9, -0.78, -0.9, -0.34), corners(0, -0.54, 0.9, -0.78, 0.9, -0.34)),
        part("dark", arc(0, 0.96, 0.86, 0.22, 180, 360)),
        part("body", corners(-0.36, -0.34, 0.36, -0.34, 0.58, 0.9, -0.58, 0.9)),
        part("trim", corners(-0.4, -0.06, 0.4, -0.06, 0.45, 0.19, -0.45, 0.19)),
        part("trim", corners(-0.5, 0.48, 0.5, 0.48, 0.54, 0.72, -0.54, 0.72)),
        part("light", box(-0.28, -0.7, 0.28, -0.36)),
        part("dark", box(-0.48, -0.4, 0.48, -0.28)),
        part("trim", corners(-0.5, -0.64, 0, -0.98, 0.5, -0.64)),
        trim="bands",
    ),
    "guitar": shape(
        part("trim", line(-0.1, 0.1, 0.8, -0.8, 0.22), line(0.58, -0.58, 0.85, -0.85, 0.36)),
        part("body", disc(-0.42, 0.42, 0.52), disc(0.04, -0.04, 0.38)),
        part("trim", line(0, 0, 0.6, -0.6, 0.22), disc(-0.17, 0.17, 0.28)),
        part("dark", disc(-0.17, 0.17, 0.17)),
        part("dark", line(-0.72, 0.38, -0.38, 0.72, 0.14)),
        trim="neck",
    ),
}

TONES_AND_TEXTURES: dict[str, tuple[RGB, RGB, str]] = {
    "robot": ((70, 200, 190), (235, 90, 150), "plain"),
    "teapot": ((90, 60, 170), (250, 200, 40), "dotted"),
    "umbrella": ((110, 20, 60), (140, 230, 190), "plain"),
    "snail": ((60, 175, 170), (175, 160, 235), "plain"),
    "key": ((230, 190, 50), (60, 110, 220), "plain"),
    "penguin": ((50, 70, 150), (255, 190, 205), "plain"),
    "octopus": ((245, 115, 165), (120, 70, 185), "plain"),
    "windmill": ((20, 100, 120), (255, 195, 150), "plain"),
    "camera": ((165, 105, 70), (130, 225, 190), "plain"),
    "helicopter": ((140, 230, 190), (110, 125, 150), "plain"),
    "dinosaur": ((95, 180, 80), (245, 130, 40), "dotted"),
    "hourglass": ((110, 130, 80), (255, 195, 150), "plain"),
    "lighthouse": ((240, 235, 220), (220, 50, 50), "plain"),
    "guitar": ((60, 190, 230), (110, 20, 60), "plain"),
}
"""Body colour, trim colour and texture of each object.

The colours of a `report` concept have no names in captions: no caption may describe such a concept well (the target
"novelty" of `make pocket-report`).
"""
