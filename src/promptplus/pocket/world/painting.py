"""Painting: shapes in colours and textures, on a background, in a style."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageChops, ImageDraw

from promptplus.pocket.world.backgrounds import background_image
from promptplus.pocket.world.shapes import CANVAS, RGB, SIZE, Polygon, Shape, mix
from promptplus.pocket.world.styles import FINISHES, HELD_OUT_FINISHES, OUTLINE, OUTLINE_WIDTH
from promptplus.pocket.world.words import NO_STYLE, PLAIN

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
INK = (25, 22, 28)
FIXED: dict[str, RGB] = {
    "dark": (50, 45, 50),
    "light": (250, 250, 240),
    "cream": (235, 222, 200),
    "fire": (255, 150, 20),
    "leaf": (50, 130, 50),
    "gold": (250, 205, 60),
}
"""Materials whose colour does not depend on a thing's attributes."""
PERIOD = {"striped": 25, "dotted": 25, "checkered": 23, "ringed": 27}
"""Canvas pixels after which a texture repeats; 5/4 of it in pixel art, whose large blocks would hide the texture."""
STRETCH = {"tall": (0.62, 1.08), "wide": (1.08, 0.62), "tiny": (0.55, 0.55)}
"""Factors of a shape's width and height, by adjective."""
TILT, TILTED = 0.15, (0.45, 0.7)
"""Radians: the greatest tilt of any shape; least and greatest tilt of a shape with the adjective "tilted"."""


@dataclass(frozen=True)
class Look:
    """How to paint one shape.

    Args:
        shape: its parts.
        body: colour of the material `body`.
        trim: colour of the material `trim`; None means a darker body colour.
        texture: one of `words.TEXTURES`, for the body.
        adjectives: keys of `STRETCH`, or "tilted".
    """

    shape: Shape
    body: RGB
    trim: RGB | None
    texture: str
    adjectives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Placement:
    """Scale (a negative `sx` mirrors left and right), centre (x, y) in canvas pixels, rotation in radians."""

    sx: float
    sy: float
    x: float
    y: float
    angle: float

    def __call__(self, polygon: Polygon) -> list[tuple[float, float]]:
        """The corners of `polygon` in canvas pixels."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return [
            (self.x + self.sx * x * cos - self.sy * y * sin, self.y + self.sx * x * sin + self.sy * y * cos)
            for x, y in polygon
        ]


def random_placement(rng: random.Random, adjectives: Sequence[str], number: int, count: int) -> Placement:
    """A random place for shape `number` of `count` (one, or two side by side). The ranges are our choice."""
    half = CANVAS / 2
    scale = rng.uniform(0.7, 0.88) * half if count == 1 else rng.uniform(0.42, 0.47) * half
    aspect = rng.uniform(0.95, 1.05)
    sx, sy = scale * aspect * rng.choice((-1, 1)), scale / aspect
    angle = rng.uniform(-TILT, TILT)
    for adjective in adjectives:
        wider, higher = STRETCH.get(adjective, (1, 1))
        sx, sy = sx * wider, sy * higher
    if "tilted" in adjectives:
        angle = rng.uniform(*TILTED) * rng.choice((-1, 1))
    shift = 0.1 if count == 1 else 0.03
    x = 0 if count == 1 else (-0.48, 0.48)[number]
    return Placement(
        sx, sy, half * (1 + x + rng.uniform(-shift, shift)), half * (1 + rng.uniform(-shift, shift)), angle
    )


def luminance(colour: RGB) -> float:
    """Brightness in [0, 255] (weights of ITU-R BT.601, rounded)."""
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def texture_image(texture: str, colour: RGB, angle: float, coarse: bool, centre: tuple[float, float]) -> Image.Image:
    """A canvas filled with `texture`: `colour` with white marks, or with dark marks if `colour` is bright."""
    image = Image.new("RGB", (CANVAS, CANVAS), colour)
    if texture == PLAIN:
        return image
    mark = WHITE if luminance(colour) < 185 else mix(colour, BLACK, 0.55)
    draw = ImageDraw.Draw(image)
    step = PERIOD[texture] * 5 // 4 if coarse else PERIOD[texture]
    if texture == "ringed":
        x, y = centre
        for r in range(step * 8, 0, -step):
            draw.ellipse([x - r, y - r, x + r, y + r], outline=mark, width=round(step * 0.42))
        return image
    for row, y in enumerate(range(0, CANVAS + step, step)):
        if texture == "striped":
            draw.line([(y - CANVAS // 4, 0), (y, CANVAS)], fill=mark, width=round(step * 0.45))
            draw.line([(y + CANVAS * 3 // 4, 0), (y + CANVAS, CANVAS)], fill=mark, width=round(step * 0.45))
            continue
        for column, x in enumerate(range(0, CANVAS + step, step)):
            if texture == "dotted":
                cx, r = x + (step // 2 if row % 2 else 0), step * 0.3
                draw.ellipse([cx - r, y - r, cx + r, y + r], fill=mark)
            elif (row + column) % 2:
                draw.rectangle([x, y, x + step - 1, y + step - 1], fill=mark)
    return image.rotate(angle, resample=Image.Resampling.BILINEAR, fillcolor=colour)


@cache
def shading() -> Image.Image:
    """A mask: a soft shadow that grows towards the bottom of the canvas."""
    return Image.linear_gradient("L").resize((CANVAS, CANVAS)).point(lambda value: int(value * 0.22))


def draw_shape(
    canvas: Image.Image,
    silhouette: Image.Image,
    shape: Shape,
    materials: dict[str, RGB | Image.Image],
    place: Placement,
    ink: RGB,
    width: int,
) -> None:
    """Paint `shape` on `canvas`, and add its silhouette to the mask `silhouette`.

    `ink` and `width` are the colour and width of the outline.
    """
    draw, draw_silhouette = ImageDraw.Draw(canvas), ImageDraw.Draw(silhouette)
    for part in shape.parts:
        polygons = [place(polygon) for polygon in part.polygons]
        for points in polygons:
            draw.line(points + points[:2], fill=ink, width=width, joint="curve")
            draw_silhouette.polygon(points, fill=255)
        material = materials[part.material]
        if isinstance(material, Image.Image):
            mask = Image.new("L", canvas.size, 0)
            for points in polygons:
                ImageDraw.Draw(mask).polygon(points, fill=255)
            canvas.paste(material, (0, 0), mask)
        else:
            for points in polygons:
                draw.polygon(points, fill=material)


def shifted(colour: RGB, rng: random.Random) -> RGB:
    """`colour` with a small random change."""
    red, green, blue = (max(0, min(255, round(c + rng.uniform(-8, 8)))) for c in colour)
    return red, green, blue


def darker(colour: RGB) -> RGB:
    """A darker `colour`; a lighter one if `colour` is almost black."""
    return mix(colour, WHITE, 0.25) if max(colour) < 80 else mix(colour, BLACK, 0.32)


def paint(looks: Sequence[Look], background: str, style: str, rng: random.Random) -> Image.Image:
    """A 64 x 64 picture of one or two shapes; `rng` decides positions, sizes, tilts and small random marks."""
    return paint_with_mask(looks, background, style, rng, rng)[0]


def paint_with_mask(
    looks: Sequence[Look], background: str, style: str, rng: random.Random, background_rng: random.Random
) -> tuple[Image.Image, Image.Image]:
    """Like `paint`, and a mask that is white on the shapes. `background_rng` decides the background's random marks."""
    canvas = background_image(background, background_rng)
    silhouette = Image.new("L", canvas.size, 0)
    for number, look in enumerate(looks):
        place = random_placement(rng, look.adjectives, number, len(looks))
        colour = shifted(look.body, rng)
        trim = darker(colour) if look.trim is None else shifted(look.trim, rng)
        coarse = style == "pixel art"
        fill = texture_image(look.texture, colour, rng.uniform(-15, 15), coarse, (place.x, place.y))
        materials: dict[str, RGB | Image.Image] = {
            **FIXED,
            "trim": trim,
            "body": colour if look.texture == PLAIN else fill,
        }
        ink = mix(colour, INK, 0.55) if style == "watercolor" else INK
        draw_shape(canvas, silhouette, look.shape, materials, place, ink, OUTLINE_WIDTH.get(style, OUTLINE))
    if style == NO_STYLE:
        canvas.paste(BLACK, (0, 0), ImageChops.multiply(shading(), silhouette))
    else:
        canvas = {**FINISHES, **HELD_OUT_FINISHES}[style](canvas, silhouette, rng)
    return canvas.resize((SIZE, SIZE), Image.Resampling.BOX), silhouette.resize((SIZE, SIZE), Image.Resampling.BOX)
