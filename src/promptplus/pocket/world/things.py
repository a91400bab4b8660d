"""Shapes of buildings, vehicles, tools, food, sun, moon …, as polygons; `creatures` holds animals and plants."""

from promptplus.pocket.world.shapes import (
    Part,
    Shape,
    arc,
    band,
    box,
    corners,
    disc,
    heart,
    line,
    pair,
    part,
    shape,
    stroke,
    turned,
    zigzag_star,
)


def wheels(y: float, r: float, *xs: float) -> tuple[Part, ...]:
    """Wheels of radius `r` with light hubs, at the height `y` and each of `xs`."""
    return part("dark", *(disc(x, y, r) for x in xs)), part("light", *(disc(x, y, r * 0.4) for x in xs))


THINGS: dict[str, Shape] = {
    "house": shape(
        part("body", box(-0.8, -0.2, 0.8, 0.95)),
        part("trim", corners(-1, -0.12, 0, -0.95, 1, -0.12)),
        part("dark", box(-0.17, 0.42, 0.17, 0.95)),
        *pair("light", box(0.37, 0.14, 0.63, 0.4)),
        trim="roof",
    ),
    "car": shape(
        part("trim", corners(-0.8, 0.0, -0.52, -0.72, 0.28, -0.72, 0.64, 0.0)),
        part("light", corners(-0.54, -0.14, -0.42, -0.5, -0.2, -0.5, -0.2, -0.14)),
        part("light", corners(0.02, -0.14, 0.02, -0.5, 0.2, -0.5, 0.4, -0.14)),
        part("body", corners(-1, 0.05, -0.9, -0.12, 0.65, -0.12, 0.95, 0.03, 1, 0.25, 1, 0.6, -1, 0.6)),
        part("gold", disc(0.88, 0.2, 0.1)),
        *wheels(0.6, 0.25, -0.54, 0.54),
        trim="roof",
    ),
    "truck": shape(
        part("dark", box(-0.9, 0.4, 0.95, 0.62)),
        part("trim", corners(0.3, -0.25, 0.7, -0.25, 0.98, 0.1, 0.98, 0.52, 0.3, 0.52)),
        part("light", corners(0.5, -0.1, 0.66, -0.1, 0.82, 0.12, 0.5, 0.12)),
        part("body", box(-0.98, -0.75, 0.3, 0.52)),
        *wheels(0.6, 0.25, -0.55, 0.58),
        trim="cab",
    ),
    "train": shape(
        part("trim", corners(0.4, -0.2, 0.46, -0.6, 0.28, -0.95, 0.92, -0.95, 0.74, -0.6, 0.8, -0.2)),
        part("body", box(-0.9, -0.7, -0.1, 0.5), box(-0.2, -0.28, 0.9, 0.5)),
        part("dark", box(-1, -0.86, -0.02, -0.68)),
        part("light", box(-0.66, -0.46, -0.34, -0.12)),
        part("gold", disc(0.9, 0.0, 0.11)),
        *wheels(0.62, 0.25, -0.58, 0.04, 0.66),
        trim="chimney",
    ),
    "boat": shape(
        part("dark", box(-0.06, -0.95, 0.05, 0.35)),
        part("trim", corners(0.1, -0.9, 0.82, 0.18, 0.1, 0.18)),
        part("cream", corners(-0.12, -0.7, -0.12, 0.18, -0.62, 0.18)),
        part("body", corners(-1, 0.27, 1, 0.27, 0.62, 0.92, -0.65, 0.92)),
        trim="sail",
    ),
    "rocket": shape(
        *pair("trim", corners(0.3, 0.15, 0.85, 0.85, 0.3, 0.7)),
        part("fire", corners(-0.22, 0.65, 0.22, 0.65, 0, 1.05)),
        part("body", corners(0, -1, 0.3, -0.62, 0.42, -0.1, 0.36, 0.7, -0.36, 0.7, -0.42, -0.1, -0.3, -0.62)),
        part("light", disc(0, -0.25, 0.19)),
        trim="fins",
    ),
    "airplane": shape(
        *pair("trim", corners(0.1, -0.35, 1, 0.15, 1, 0.4, 0.1, 0.22)),
        part(
            "body",
            arc(0, -0.6, 0.25, 0.38, 180, 360) + corners(0.25, 0.3, 0.14, 0.97, -0.14, 0.97, -0.25, 0.3),
            corners(0, 0.42, 0.5, 0.76, 0.5, 0.95, -0.5, 0.95, -0.5, 0.76),
        ),
        part("light", arc(0, -0.58, 0.14, 0.18, 180, 360)),
        trim="wings",
    ),
    "balloon": shape(
        *pair("dark", line(0.2, 0.35, 0.15, 0.75)),
        part("trim", box(-0.26, 0.62, 0.26, 0.97)),
        part("body", arc(0, -0.27, 0.78, 0.7, 150, 390) + corners(0.24, 0.47, -0.24, 0.47)),
        part("body", arc(0, -0.27, 0.34, 0.7, 140, 400) + corners(0.1, 0.47, -0.1, 0.47)),
        trim="basket",
    ),
    "kite": shape(
        part("trim", *stroke(0.12, (0, 0.2), (0.14, 0.5), (-0.1, 0.72), (0.05, 0.95))),
        part("trim", corners(0.1, 0.5, 0.48, 0.32, 0.48, 0.66), corners(0.1, 0.5, -0.28, 0.3, -0.28, 0.62)),
        part("body", corners(0, -1, 0.78, -0.42, 0, 0.32, -0.78, -0.42)),
        part("dark", line(0, -0.95, 0, 0.28, 0.06), line(-0.72, -0.42, 0.72, -0.42, 0.06)),
        trim="tail",
    ),
    "tent": shape(
        *pair("dark", line(0.18, -0.95, -0.1, -0.5, 0.1)),
        part("body", corners(0, -0.75, 1, 0.8, -1, 0.8)),
        part("trim", corners(0, -0.2, 0.42, 0.8, -0.42, 0.8)),
        trim="door",
    ),
    "castle": shape(
        part("body", box(-0.5, -0.15, 0.5, 0.92), *(box(x - 0.12, -0.35, x + 0.12, 0) for x in (-0.22, 0.22))),
        *(
            part("body", box(x - 0.3, -0.65, x + 0.3, 0.92), *(box(x + d, -0.9, x + d + 0.2, 0) for d in (-0.3, 0.1)))
            for x in (-0.68, 0.68)
        ),
        *pair("dark", box(0.6, -0.4, 0.76, -0.1)),
        part("trim", arc(0, 0.42, 0.32, 0.3, 180, 360) + corners(0.32, 0.92, -0.32, 0.92)),
        trim="gate",
    ),
    "mug": shape(
        part("trim", band(0.55, 0.02, 0.43, 0.17)),
        part("body", corners(-0.85, -0.7, 0.5, -0.7, 0.45, 0.9, -0.78, 0.9)),
        part("dark", arc(-0.175, -0.7, 0.675, 0.2)),
        trim="handle",
    ),
    "bottle": shape(
        part("dark", box(-0.2, -0.98, 0.2, -0.72)),
        part("body", box(-0.15, -0.75, 0.15, -0.3), arc(0, -0.05, 0.48, 0.42, 180, 360), box(-0.48, -0.05, 0.48, 0.95)),
        part("trim", box(-0.48, 0.12, 0.48, 0.58)),
        trim="label",
    ),
    "cake": shape(
        part("gold", box(-0.07, -0.85, 0.07, -0.45)),
        part("fire", disc(0, -0.85, 0.12)),
        part("body", box(-0.9, 0.1, 0.9, 0.85)),
        part("trim", box(-0.9, 0.05, 0.9, 0.25), *(disc(x, 0.25, 0.15) for x in (-0.75, -0.38, 0, 0.38, 0.75))),
        part("body", box(-0.58, -0.5, 0.58, 0.1)),
        part("trim", box(-0.58, -0.5, 0.58, -0.35), *(disc(x, -0.33, 0.14) for x in (-0.44, -0.15, 0.15, 0.44))),
        trim="icing",
    ),
    "candle": shape(
        part("trim", band(0.72, 0.62, 0.26, 0.12), arc(0, 0.78, 0.72, 0.18)),
        part("dark", box(-0.05, -0.5, 0.05, -0.3)),
        part("fire", corners(0, -1, 0.17, -0.65, 0.12, -0.5, -0.12, -0.5, -0.17, -0.65)),
        part("body", box(-0.36, -0.35, 0.36, 0.78)),
        trim="holder",
    ),
    "icecream": shape(
        part("trim", corners(-0.5, 0.05, 0.5, 0.05, 0, 1)),
        part("body", disc(-0.3, -0.2, 0.38), disc(0.3, -0.2, 0.38), disc(0, -0.52, 0.44), arc(0, 0, 0.6, 0.22)),
        part("fire", disc(0.05, -0.92, 0.13)),
        trim="cone",
    ),
    "gift": shape(
        part("trim", *(turned(arc(0, -0.82, 0.17, 0.3), a, 0, -0.5) for a in (-52, 52))),
        part("body", box(-0.8, -0.15, 0.8, 0.95)),
        part("body", box(-0.92, -0.5, 0.92, -0.12)),
        part("trim", box(-0.16, -0.5, 0.16, 0.95)),
        trim="ribbon",
    ),
    "lamp": shape(
        part("trim", box(-0.1, 0.1, 0.1, 0.85), arc(0, 0.95, 0.5, 0.24, 180, 360)),
        part("body", corners(-0.42, -0.95, 0.42, -0.95, 0.85, 0.3, -0.85, 0.3)),
        trim="stand",
    ),
    "chair": shape(
        part("body", box(-0.6, 0.1, -0.34, 0.97), box(0.34, 0.1, 0.6, 0.97)),
        part("body", box(-0.6, -0.98, 0.6, -0.3), box(-0.6, -0.5, -0.34, 0.1), box(0.34, -0.5, 0.6, 0.1)),
        part("trim", corners(-0.6, 0.05, 0.6, 0.05, 0.78, 0.38, -0.78, 0.38)),
        trim="seat",
    ),
    "clock": shape(
        *pair("dark", line(0.5, 0.6, 0.66, 0.95, 0.18)),
        *pair("dark", turned(arc(0, -0.82, 0.3, 0.22, 180, 360), 38, 0, 0.05)),
        part("trim", disc(0, 0.08, 0.83)),
        part("body", disc(0, 0.08, 0.69)),
        part("dark", *stroke(0.12, (0, -0.4), (0, 0.08), (0.34, 0.28))),
        trim="rim",
    ),
    "bell": shape(
        part("dark", band(0, -0.8, 0.18, 0.1), disc(0, 0.72, 0.22)),
        part("body", arc(0, -0.25, 0.52, 0.55, 180, 360) + corners(0.58, 0.2, 0.85, 0.5, -0.85, 0.5, -0.58, 0.2)),
        part("trim", box(-0.92, 0.42, 0.92, 0.68)),
        trim="rim",
    ),
    "hat": shape(
        part("body", arc(0, 0.58, 0.98, 0.24), corners(-0.62, -0.85, 0.62, -0.85, 0.52, 0.55, -0.52, 0.55)),
        part("trim", corners(-0.54, 0.14, 0.54, 0.14, 0.52, 0.46, -0.52, 0.46)),
        trim="band",
    ),
    "crown": shape(
        part("body", corners(-0.78, 0.75, -0.9, -0.5, -0.42, 0.05, 0, -0.72, 0.42, 0.05, 0.9, -0.5, 0.78, 0.75)),
        part("trim", box(-0.82, 0.5, 0.82, 0.85)),
        part("gold", disc(-0.87, -0.55, 0.13), disc(0, -0.78, 0.13), disc(0.87, -0.55, 0.13)),
        trim="band",
    ),
    "shirt": shape(
        *pair("trim", corners(0.4, -0.85, 1, -0.3, 0.72, 0.05, 0.3, -0.25)),
        part("body", corners(-0.5, -0.85, 0.5, -0.85, 0.56, 0.92, -0.56, 0.92)),
        part("light", arc(0, -0.87, 0.27, 0.24, 0, 180)),
        trim="sleeves",
    ),
    "boot": shape(
        part("body", corners(-0.6, -0.7, 0.15, -0.7, 0.18, 0.05, 0.72, 0.22, 0.92, 0.5, 0.92, 0.75, -0.6, 0.75)),
        part("dark", box(-0.65, 0.72, 0.97, 0.92)),
        part("trim", box(-0.68, -0.95, 0.24, -0.55)),
        trim="cuff",
    ),
    "magnet": shape(
        part("body", band(0, -0.1, 0.82, 0.42, 180, 360), box(-0.82, -0.1, -0.4, 0.6), box(0.4, -0.1, 0.82, 0.6)),
        *pair("trim", box(0.4, 0.5, 0.82, 0.92)),
        trim="tips",
    ),
    "anchor": shape(
        part("trim", band(0, -0.68, 0.3, 0.16)),
        part(
            "body",
            box(-0.13, -0.45, 0.13, 0.9),
            box(-0.5, -0.35, 0.5, -0.1),
            band(0, 0.1, 0.85, 0.26, 5, 175),
            corners(-1, 0.3, -0.72, -0.12, -0.4, 0.3),
            corners(1, 0.3, 0.72, -0.12, 0.4, 0.3),
        ),
        trim="ring",
    ),
    "hammer": shape(
        part("trim", box(-0.16, -0.5, 0.16, 0.98)),
        part(
            "body",
            box(-0.88, -0.98, -0.46, -0.22),
            corners(-0.5, -0.84, 0.3, -0.88, 0.95, -0.62, 0.88, -0.32, -0.5, -0.36),
        ),
        trim="handle",
    ),
    "pencil": shape(
        part("trim", turned(box(-0.24, -1.12, 0.24, -0.75), 40)),
        part("cream", turned(corners(-0.24, 0.6, 0.24, 0.6, 0, 1.2), 40)),
        part("dark", turned(corners(-0.09, 0.98, 0.09, 0.98, 0, 1.2), 40)),
        part("body", turned(box(-0.24, -0.75, 0.24, 0.62), 40)),
        trim="eraser",
    ),
    "envelope": shape(
        part("body", box(-0.97, -0.65, 0.97, 0.65)),
        part("trim", corners(-0.97, -0.65, 0.97, -0.65, 0, 0.15)),
        trim="flap",
    ),
    "ball": shape(
        part("body", disc(0, 0, 0.92)),
        part("trim", arc(0, 0, 0.92, 0.92, -16, 16) + arc(0, 0, 0.92, 0.92, 164, 196)),
        trim="band",
    ),
    "star": shape(part("body", zigzag_star(5, 1, 0.44))),
    "heart": shape(part("body", heart())),
    "cloud": shape(
        part(
            "body",
            arc(-0.55, 0.2, 0.43, 0.38),
            arc(0.55, 0.2, 0.43, 0.38),
            disc(-0.15, -0.18, 0.48),
            arc(0.34, -0.08, 0.4, 0.38),
            box(-0.55, 0.1, 0.55, 0.58),
        ),
    ),
    "moon": shape(part("body", arc(0.12, 0, 0.97, 0.97, 55, 305) + arc(0.8, 0, 0.805, 0.805, 261, 99))),
    "sun": shape(part("trim", zigzag_star(10, 1, 0.68)), part("body", disc(0, 0, 0.64)), trim="rays"),
}
"""Shapes of all named objects that are no animals and no plants, by noun."""
