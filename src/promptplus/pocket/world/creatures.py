"""Shapes of animals and plants, as polygons; `things` holds the other named shapes."""

from promptplus.pocket.world.shapes import (
    Part,
    Shape,
    arc,
    band,
    box,
    corners,
    disc,
    line,
    pair,
    part,
    petals,
    shape,
    stroke,
    turned,
)


def eye(x: float, y: float, r: float = 0.17) -> tuple[Part, ...]:
    """An eye with centre (x, y) and radius `r`."""
    return part("light", disc(x, y, r)), part("dark", disc(x, y, r * 0.55))


def eyes(x: float, y: float, r: float = 0.17) -> tuple[Part, ...]:
    """Two eyes, at -x and at x."""
    return *eye(-x, y, r), *eye(x, y, r)


CREATURES: dict[str, Shape] = {
    "cat": shape(
        *pair("trim", corners(-0.88, -0.98, -0.15, -0.5, -0.8, 0.05)),
        part("body", arc(0, 0.15, 0.88, 0.72)),
        *eyes(0.36, -0.02, 0.2),
        part("dark", corners(-0.13, 0.3, 0.13, 0.3, 0, 0.46)),
        *pair("dark", line(-0.98, 0.28, -0.4, 0.4, 0.07)),
        trim="ears",
    ),
    "dog": shape(
        part("body", arc(0, -0.2, 0.74, 0.68), arc(0, 0.35, 0.54, 0.5)),
        part("fire", arc(0, 0.76, 0.16, 0.22)),
        part("body", arc(0, 0.46, 0.44, 0.32)),
        part("dark", arc(0, 0.26, 0.22, 0.15)),
        *pair("trim", turned(arc(-0.76, -0.05, 0.2, 0.56), 12, -0.76, -0.05)),
        *eyes(0.28, -0.25, 0.15),
        trim="ears",
    ),
    "rabbit": shape(
        *pair("trim", turned(arc(-0.32, -0.48, 0.2, 0.52), -8, -0.32, -0.48)),
        part("body", arc(0, 0.4, 0.72, 0.56)),
        *eyes(0.32, 0.25, 0.14),
        part("light", box(-0.12, 0.62, 0.12, 0.86)),
        part("dark", arc(0, 0.52, 0.15, 0.1)),
        trim="ears",
    ),
    "bear": shape(
        part("body", disc(-0.62, -0.58, 0.34), disc(0.62, -0.58, 0.34), arc(0, 0.1, 0.9, 0.82)),
        part("trim", arc(0, 0.42, 0.42, 0.36)),
        part("dark", arc(0, 0.25, 0.18, 0.13)),
        part("dark", disc(-0.36, -0.12, 0.11), disc(0.36, -0.12, 0.11)),
        trim="muzzle",
    ),
    "pig": shape(
        part("dark", *stroke(0.09, (0.8, 0.0), (0.99, -0.1), (0.9, -0.32))),
        part(
            "body",
            arc(0.18, 0.08, 0.74, 0.62),
            disc(-0.42, -0.1, 0.5),
            *(box(x, 0.3, x + 0.3, 0.92) for x in (-0.4, 0.42)),
        ),
        part("body", corners(-0.42, -0.72, 0.12, -0.68, -0.1, -0.15)),
        part("trim", arc(-0.8, 0.08, 0.2, 0.28)),
        part("dark", disc(-0.82, 0.08, 0.07)),
        part("dark", disc(-0.48, -0.22, 0.09)),
        trim="snout",
    ),
    "elephant": shape(
        part("dark", line(-0.85, -0.1, -0.98, 0.35, 0.09)),
        part(
            "body",
            arc(-0.25, 0, 0.68, 0.55),
            box(-0.85, 0.15, -0.42, 0.92),
            box(-0.1, 0.15, 0.33, 0.92),
            disc(0.42, -0.35, 0.43),
            *stroke(0.24, (0.68, -0.2), (0.8, 0.2), (0.72, 0.6), (0.88, 0.72)),
        ),
        part("trim", arc(0.1, -0.32, 0.32, 0.42)),
        part("dark", disc(0.58, -0.4, 0.08)),
        trim="ear",
    ),
    "sheep": shape(
        part("dark", box(-0.42, 0.3, -0.22, 0.95), box(0.3, 0.3, 0.5, 0.95)),
        part("body", *petals(8, 0.1, 0.02, 0.55, 0.3), disc(0.1, 0.02, 0.5)),
        part("trim", arc(-0.66, -0.25, 0.28, 0.36), corners(-0.42, -0.45, -0.2, -0.35, -0.4, -0.2)),
        part("dark", disc(-0.72, -0.3, 0.08)),
        trim="face",
    ),
    "bird": shape(
        part("dark", line(-0.05, 0.5, -0.12, 0.95, 0.1), line(0.2, 0.5, 0.2, 0.95, 0.1)),
        part("fire", corners(-0.6, -0.58, -1, -0.3, -0.6, -0.12)),
        part(
            "body",
            arc(0.1, 0.15, 0.62, 0.5),
            disc(-0.38, -0.36, 0.4),
            corners(0.45, -0.05, 1, -0.4, 1, 0.1, 0.5, 0.45),
        ),
        part("trim", turned(arc(0.22, 0.05, 0.42, 0.25), 12)),
        part("dark", disc(-0.46, -0.42, 0.09)),
        trim="wing",
    ),
    "duck": shape(
        part("fire", arc(-0.78, -0.25, 0.22, 0.14), arc(-0.72, -0.38, 0.22, 0.14)),
        part(
            "body",
            arc(0.12, 0.3, 0.84, 0.6, 0, 180),
            corners(-0.7, 0.32, -0.3, 0, 0.5, 0.15, 1, -0.15, 0.95, 0.32),
            disc(-0.26, -0.4, 0.46),
        ),
        part("trim", arc(0.28, 0.32, 0.42, 0.3, 0, 180)),
        *eye(-0.38, -0.5, 0.13),
        trim="wing",
    ),
    "owl": shape(
        part("gold", disc(-0.25, 0.9, 0.12), disc(0.25, 0.9, 0.12)),
        part("body", corners(-0.72, -1, 0, -0.68, 0.72, -1, 0.66, 0.1, -0.66, 0.1), arc(0, 0.1, 0.72, 0.82)),
        *pair("trim", turned(arc(-0.72, 0.25, 0.2, 0.5), 10, -0.72, 0.25)),
        *eyes(0.3, -0.38, 0.25),
        part("gold", corners(-0.14, -0.22, 0.14, -0.22, 0, 0.08)),
        trim="wings",
    ),
    "fish": shape(
        part("trim", corners(0.45, 0, 1, -0.6, 0.88, 0, 1, 0.6)),
        part("trim", corners(-0.3, -0.4, 0.1, -0.85, 0.38, -0.35)),
        part("body", arc(-0.17, 0, 0.82, 0.55)),
        *eye(-0.6, -0.12, 0.14),
        trim="fins",
    ),
    "whale": shape(
        part("light", *(p for x in (-0.58, -0.12) for p in stroke(0.13, (-0.35, -0.3), (-0.35, -0.62), (x, -0.85)))),
        part(
            "body",
            arc(-0.25, 0.25, 0.73, 0.6),
            corners(0.1, -0.2, 0.55, -0.05, 0.7, -0.35, 0.9, -0.3, 0.8, 0.3, 0.3, 0.7),
            corners(0.8, -0.2, 0.4, -0.65, 0.8, -0.55, 1, -0.8, 1, -0.3),
        ),
        part("trim", arc(-0.25, 0.25, 0.73, 0.6, 22, 162)),
        part("dark", disc(-0.62, 0.12, 0.09)),
        trim="belly",
    ),
    "turtle": shape(
        *pair("trim", turned(arc(-0.68, -0.42, 0.4, 0.2), 40, -0.68, -0.42)),
        *pair("trim", turned(arc(-0.58, 0.66, 0.32, 0.18), -45, -0.58, 0.66)),
        part("body", arc(0, -0.75, 0.25, 0.24)),
        part("body", arc(0, 0.15, 0.7, 0.76)),
        part("body", corners(-0.34, -0.05, 0, -0.3, 0.34, -0.05, 0.34, 0.35, 0, 0.6, -0.34, 0.35)),
        part("dark", disc(-0.11, -0.82, 0.06), disc(0.11, -0.82, 0.06)),
        trim="legs",
    ),
    "frog": shape(
        *pair("body", arc(-0.62, 0.78, 0.36, 0.18)),
        part("body", arc(0, 0.42, 0.64, 0.52)),
        part("trim", arc(0, 0.52, 0.38, 0.38)),
        part("body", disc(-0.45, -0.65, 0.3), disc(0.45, -0.65, 0.3), arc(0, -0.25, 0.84, 0.46)),
        *eyes(0.45, -0.66, 0.2),
        part("dark", arc(0, -0.25, 0.55, 0.28, 15, 165) + arc(0, -0.28, 0.55, 0.18, 165, 15)),
        trim="belly",
    ),
    "crab": shape(
        *pair("dark", line(-0.4, 0.35, -0.85, 0.5, 0.11)),
        *pair("dark", line(-0.35, 0.5, -0.7, 0.85, 0.11)),
        *pair("trim", line(-0.5, 0.1, -0.75, -0.3, 0.16)),
        *pair("trim", (*arc(-0.68, -0.55, 0.34, 0.4, -62, 240), (-0.68, -0.45))),
        *pair("body", line(-0.2, 0, -0.22, -0.3, 0.12)),
        part("body", arc(0, 0.3, 0.76, 0.54)),
        *eyes(0.22, -0.3, 0.15),
        trim="claws",
    ),
    "spider": shape(
        part(
            "trim",
            *(
                polygon
                for side in (-1, 1)
                for knee, foot in ((-0.75, -0.98), (-0.3, -0.15), (0.1, 0.4), (0.5, 0.98))
                for polygon in stroke(0.1, (0, 0), (0.75 * side, knee), (0.95 * side, foot))
            ),
        ),
        part("body", arc(0, 0.38, 0.54, 0.57)),
        part("body", arc(0, -0.32, 0.38, 0.34)),
        *eyes(0.16, -0.4, 0.12),
        trim="legs",
    ),
    "butterfly": shape(
        part("trim", arc(-0.42, 0.48, 0.38, 0.42), arc(0.42, 0.48, 0.38, 0.42)),
        part("body", arc(-0.52, -0.3, 0.48, 0.52), arc(0.52, -0.3, 0.48, 0.52), box(-0.2, -0.3, 0.2, 0.1)),
        *pair("dark", line(-0.03, -0.5, -0.25, -0.98, 0.08)),
        part("dark", arc(0, 0.05, 0.11, 0.7)),
        trim="wings",
    ),
    "snake": shape(
        part("fire", line(-0.7, -0.6, -1, -0.5, 0.1)),
        part(
            "body",
            arc(-0.5, -0.68, 0.36, 0.28),
            box(-0.5, -0.88, 0.3, -0.53),
            band(0.3, -0.35, 0.53, 0.35, -90, 90),
            box(-0.3, -0.17, 0.3, 0.18),
            band(-0.3, 0.36, 0.54, 0.36, 90, 270),
            corners(-0.3, 0.54, 0.4, 0.54, 1, 0.8, -0.3, 0.9),
        ),
        *eye(-0.54, -0.74, 0.13),
    ),
    "tree": shape(
        part("trim", corners(-0.18, 0.2, 0.18, 0.2, 0.26, 0.98, -0.26, 0.98)),
        part("body", disc(-0.45, 0.0, 0.46), disc(0.45, 0.0, 0.46), disc(0, -0.45, 0.53), disc(0, 0.05, 0.42)),
        trim="trunk",
    ),
    "mushroom": shape(
        part("trim", corners(-0.26, 0.05, 0.26, 0.05, 0.36, 0.95, -0.36, 0.95)),
        part("body", arc(0, 0.18, 0.97, 1.12, 180, 360)),
        trim="stem",
    ),
    "flower": shape(
        part("leaf", box(-0.07, 0.1, 0.07, 1), *(corners(0, 0.9, s * 0.5, 0.45, s * 0.54, 0.78) for s in (-1, 1))),
        part("body", *petals(6, 0, -0.33, 0.42, 0.29)),
        part("trim", disc(0, -0.33, 0.26)),
        trim="middle",
    ),
    "cactus": shape(
        part(
            "body",
            *stroke(0.5, (0, -0.7), (0, 0.4)),
            *stroke(0.26, (0, 0.2), (-0.68, 0.2), (-0.68, -0.25)),
            *stroke(0.26, (0, 0), (0.68, 0), (0.68, -0.45)),
        ),
        part("trim", corners(-0.5, 0.5, 0.5, 0.5, 0.38, 0.97, -0.38, 0.97)),
        trim="pot",
    ),
    "leaf": shape(
        part("dark", line(-0.45, 0.45, -0.88, 0.88, 0.1)),
        part("body", arc(0.65, 0.45, 1.3, 1.3, 175, 275) + arc(-0.45, -0.65, 1.3, 1.3, -5, 95)),
        part("dark", line(-0.5, 0.5, 0.55, -0.55, 0.02)),
        part("dark", line(0.1, -0.1, 0.1, -0.55, 0.02), line(0.1, -0.1, 0.55, -0.1, 0.02)),
        part("dark", line(-0.22, 0.22, -0.22, -0.25, 0.02), line(-0.22, 0.22, 0.25, 0.22, 0.02)),
    ),
    "apple": shape(
        part("dark", *stroke(0.11, (0, -0.4), (0.08, -0.92))),
        part("leaf", turned(arc(0.42, -0.78, 0.32, 0.15), -20, 0.42, -0.78)),
        part("body", *(lobe for x in (-1, 1) for lobe in (disc(0.36 * x, 0, 0.54), arc(0.26 * x, 0.4, 0.46, 0.56)))),
    ),
    "pear": shape(
        part("dark", *stroke(0.11, (0, -0.6), (0.06, -0.96))),
        part("leaf", turned(arc(0.36, -0.84, 0.3, 0.13), -15, 0.36, -0.84)),
        part(
            "body", disc(0, 0.34, 0.64), disc(0, -0.42, 0.34), corners(-0.33, -0.42, 0.33, -0.42, 0.6, 0.1, -0.6, 0.1)
        ),
    ),
    "pumpkin": shape(
        part("trim", corners(-0.2, -0.45, -0.08, -0.95, 0.34, -0.9, 0.24, -0.45)),
        *pair("body", arc(-0.55, 0.18, 0.43, 0.6)),
        *pair("body", arc(-0.3, 0.18, 0.4, 0.68)),
        part("body", arc(0, 0.18, 0.32, 0.72)),
        trim="stem",
    ),
    "carrot": shape(
        part("trim", *(turned(arc(0, -0.68, 0.15, 0.3), a, 0, -0.35) for a in (-40, 0, 40))),
        part("body", arc(0, -0.28, 0.52, 0.22, 180, 360) + corners(0.5, -0.1, 0.1, 0.98, -0.1, 0.98, -0.5, -0.1)),
        part("dark", line(-0.42, 0, -0.05, 0.02, 0.07), line(0.33, 0.3, 0, 0.32, 0.07)),
        trim="leaves",
    ),
    "pineapple": shape(
        part("trim", *(turned(corners(-0.18, -0.3, 0, -0.98, 0.18, -0.3), a, 0, -0.15) for a in (-48, -24, 0, 24, 48))),
        part("body", arc(0, 0.32, 0.6, 0.66)),
        *pair("dark", line(-0.56, 0.17, 0.2, 0.91, 0.02)),
        *pair("dark", line(-0.2, -0.27, 0.56, 0.47, 0.02)),
        trim="leaves",
    ),
    "cherry": shape(
        part("dark", *stroke(0.1, (-0.45, 0.3), (0.1, -0.85)), *stroke(0.1, (0.5, 0.3), (0.1, -0.85))),
        part("leaf", turned(arc(0.45, -0.78, 0.36, 0.17), 10, 0.45, -0.78)),
        part("body", disc(-0.5, 0.45, 0.45)),
        part("body", disc(0.5, 0.5, 0.45)),
    ),
}
"""Shapes of animals and plants, by noun."""
