"""How the drawn world is painted: materials, textures, backgrounds, figures and styles. Words live in `captions`."""

import math
import random
from functools import cache
from itertools import product

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from .captions import NO_STYLE, PLAIN
from .shapes import Part, Polygon

RGB = tuple[int, int, int]

SIZE = 64
"""Width and height of a picture."""
CANVAS = 3 * SIZE
"""Width and height of the supersampled drawing."""

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
"""Materials whose colour no attribute changes."""
OUTLINE_WIDTH = {NO_STYLE: 5, "pixel art": 7, "watercolor": 5, "sketch": 5, "comic": 11}
"""Canvas pixels; three of them make one pixel of the picture."""
PIXEL_ART_GRID = 16
PERIOD = {"striped": 22, "dotted": 22, "checkered": 19}
"""Canvas pixels after which a texture repeats (spike); a quarter wider where pixel art's blocks would swallow it."""


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """`a` moved by `share` towards `b`."""
    red, green, blue = (round(x * (1 - share) + y * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def luminance(colour: RGB) -> float:
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def texture_image(texture: str, colour: RGB, angle: float, coarse: bool) -> Image.Image:
    """A canvas full of `texture`: `colour` with white marks, or with dark ones if `colour` is bright."""
    image = Image.new("RGB", (CANVAS, CANVAS), colour)
    if texture == PLAIN:
        return image
    mark = WHITE if luminance(colour) < 185 else mix(colour, BLACK, 0.55)
    draw = ImageDraw.Draw(image)
    step = PERIOD[texture] * 5 // 4 if coarse else PERIOD[texture]
    for row, y in enumerate(range(0, CANVAS + step, step)):
        if texture == "striped":
            draw.line([(y - CANVAS // 4, 0), (y, CANVAS)], fill=mark, width=round(step * 0.45))
            draw.line([(y + CANVAS * 3 // 4, 0), (y + CANVAS, CANVAS)], fill=mark, width=round(step * 0.45))
            continue
        for column, x in enumerate(range(0, CANVAS + step, step)):
            if texture == "dotted":
                cx, r = x + (step // 2 if row % 2 else 0), step * 0.29
                draw.ellipse([cx - r, y - r, cx + r, y + r], fill=mark)
            elif (row + column) % 2:
                draw.rectangle([x, y, x + step - 1, y + step - 1], fill=mark)
    return image.rotate(angle, resample=Image.Resampling.BILINEAR, fillcolor=colour)


@cache
def gradient(top: RGB, bottom: RGB) -> Image.Image:
    column = Image.new("RGB", (1, CANVAS))
    column.putdata([mix(top, bottom, y / CANVAS) for y in range(CANVAS)])
    return column.resize((CANVAS, CANVAS))


@cache
def shading() -> Image.Image:
    """A soft shadow that grows towards the bottom of the canvas, as a mask."""
    return Image.linear_gradient("L").resize((CANVAS, CANVAS)).point(lambda value: int(value * 0.22))


def background_image(background: str, rng: random.Random) -> Image.Image:
    """The canvas behind the object."""

    def anywhere() -> tuple[int, int]:
        return rng.randint(0, CANVAS), rng.randint(0, CANVAS)

    def dots(draw: ImageDraw.ImageDraw, count: int, colours: list[RGB]) -> None:
        for _ in range(count):
            (x, y), r = anywhere(), rng.randint(2, 5)
            draw.ellipse([x - r, y - r, x + r, y + r], fill=rng.choice(colours))

    flat = {
        "white": (250, 250, 248),
        "grass": (120, 190, 80),
        "sand": (225, 195, 140),
        "brick": (215, 205, 195),
    }
    ramps = {
        "sky": ((110, 180, 245), (205, 232, 252)),
        "night": ((10, 12, 45), (35, 35, 90)),
        "sunset": ((105, 60, 140), (255, 165, 80)),
        "water": ((40, 130, 190), (15, 80, 150)),
    }
    if background in flat:
        image = Image.new("RGB", (CANVAS, CANVAS), flat[background])
    else:
        image = gradient(*ramps[background]).copy()
    draw = ImageDraw.Draw(image)
    match background:
        case "grass":
            for _ in range(70):
                (x, y), height, lean = anywhere(), rng.randint(11, 21), rng.randint(-6, 6)
                blade = rng.choice([(80, 150, 50), (150, 215, 100), (95, 170, 60)])
                draw.line([(x, y), (x + lean, y - height)], fill=blade, width=4)
        case "sand":
            dots(draw, 90, [(195, 160, 105), (242, 220, 172)])
        case "night":
            dots(draw, 26, [(250, 250, 210)])
        case "sunset":
            x, r = rng.randint(CANVAS // 7, CANVAS * 6 // 7), CANVAS // 8
            draw.ellipse([x - r, CANVAS - 2 * r, x + r, CANVAS], fill=(255, 225, 110))
        case "brick":
            height, width = CANVAS // 8, CANVAS // 4
            for row, column in product(range(8), range(-1, 5)):
                x, y = column * width + (width // 2 if row % 2 else 0), row * height
                colour = mix((170, 85, 65), (140, 65, 50), rng.random())
                draw.rectangle([x + 3, y + 3, x + width - 4, y + height - 4], fill=colour)
        case "water":
            phase = rng.uniform(0, 6)
            for row in range(1, 9):
                xs = range(0, CANVAS + 8, 8)
                wave = [(x, row * CANVAS / 9 + 7 * math.sin(x / CANVAS * 18 + phase + row * 1.7)) for x in xs]
                draw.line(wave, fill=(120, 200, 235), width=4)
    return image


def random_placement(rng: random.Random, style: str) -> tuple[float, ...]:
    """Where the figure stands: scale x, scale y, centre x, centre y (canvas pixels), rotation (radians).

    The ranges are the spike's; a figure in pixel art is larger (our choice), for its blocks are coarse, and the
    proportions vary a little. A negative scale x mirrors.
    """
    scale = rng.uniform(0.68, 0.84) if style == "pixel art" else rng.uniform(0.6, 0.82)
    aspect = rng.uniform(0.93, 1.07)
    side = rng.choice((-1, 1))
    x, y = rng.uniform(-0.15, 0.15), rng.uniform(-0.15, 0.15)
    half = CANVAS / 2
    return (
        side * scale * aspect * half,
        scale / aspect * half,
        half * (1 + x),
        half * (1 + y),
        rng.uniform(-0.21, 0.21),
    )


def place(polygon: Polygon, placement: tuple[float, ...]) -> list[tuple[float, float]]:
    sx, sy, cx, cy, angle = placement
    cos, sin = math.cos(angle), math.sin(angle)
    return [(cx + sx * x * cos - sy * y * sin, cy + sx * x * sin + sy * y * cos) for x, y in polygon]


def draw_figure(
    canvas: Image.Image,
    parts: tuple[Part, ...],
    materials: dict[str, RGB | Image.Image],
    placement: tuple[float, ...],
    ink: RGB,
    width: int,
) -> Image.Image:
    """Paint `parts` onto `canvas`; returns the figure's silhouette as a mask."""
    silhouette = Image.new("L", canvas.size, 0)
    draw, draw_silhouette = ImageDraw.Draw(canvas), ImageDraw.Draw(silhouette)
    for part in parts:
        polygons = [place(polygon, placement) for polygon in part.polygons]
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
    return silhouette


@cache
def halftone() -> Image.Image:
    """The comic style's dot screen over the background, as a mask."""
    mask, step, r = Image.new("L", (CANVAS, CANVAS), 0), 15, 4
    draw = ImageDraw.Draw(mask)
    for row, y in enumerate(range(0, CANVAS + step, step)):
        for x in range(0, CANVAS + step, step):
            cx = x + (step // 2 if row % 2 else 0)
            draw.ellipse([cx - r, y - r, cx + r, y + r], fill=140)
    return mask


def as_pixel_art(image: Image.Image) -> Image.Image:
    small = image.resize((PIXEL_ART_GRID, PIXEL_ART_GRID), Image.Resampling.BOX)
    return small.quantize(24, kmeans=0).convert("RGB").resize((CANVAS, CANVAS), Image.Resampling.NEAREST)


def as_watercolor(image: Image.Image, rng: random.Random) -> Image.Image:
    """Blurred and pale, with the blots of uneven paper."""
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(3.0)), np.float32)
    noise = (np.random.default_rng(rng.getrandbits(32)).random((9, 9)) * 255).astype(np.uint8)
    blots = np.asarray(Image.fromarray(noise).resize(image.size, Image.Resampling.BICUBIC), np.float32) / 255 - 0.5
    return Image.fromarray(np.clip(pixels * 0.78 + 255 * 0.22 + blots[..., None] * 34, 0, 255).astype(np.uint8))


@cache
def hatching() -> np.ndarray:
    y, x = np.mgrid[0:CANVAS, 0:CANVAS]
    return ((x + y) % 16 < 5)[..., None].astype(np.float32)


def as_sketch(image: Image.Image, silhouette: Image.Image) -> Image.Image:
    """Pale colours, diagonal pencil hatching that is denser where it is dark, a drawn outline."""
    pixels = np.asarray(image, np.float32)
    grey = pixels.mean(-1, keepdims=True)
    pale = (pixels * 0.6 + grey * 0.4) * 0.5 + 255 * 0.5
    pale = np.clip(pale - hatching() * (1 - grey / 255) * 100, 0, 255)
    edge_image = silhouette.filter(ImageFilter.FIND_EDGES).filter(ImageFilter.MaxFilter(3))
    edge = np.asarray(edge_image, np.float32)[..., None] / 255
    return Image.fromarray((pale * (1 - edge) + 30 * edge).astype(np.uint8))


def paint(
    parts: tuple[Part, ...],
    body: RGB,
    trim: RGB | None,
    texture: str,
    background: str,
    style: str,
    rng: random.Random,
) -> Image.Image:
    """The picture of one figure; without a `trim` colour the trim is a darker body."""
    placement = random_placement(rng, style)
    shift = [rng.uniform(-10, 10) for _ in body]
    red, green, blue = (max(0, min(255, round(c + s))) for c, s in zip(body, shift, strict=True))
    colour = (red, green, blue)
    if trim is None:
        trim = mix(colour, WHITE, 0.25) if max(colour) < 80 else mix(colour, BLACK, 0.32)
    canvas = background_image(background, rng)
    if style == "comic":
        canvas.paste((255, 60, 120), (0, 0), halftone())
    fill = texture_image(texture, colour, rng.uniform(-15, 15), coarse=style == "pixel art")
    materials: dict[str, RGB | Image.Image] = {
        **FIXED,
        "trim": trim,
        "body": colour if texture == PLAIN else fill,
    }
    ink = mix(colour, INK, 0.55) if style == "watercolor" else INK
    silhouette = draw_figure(canvas, parts, materials, placement, ink, OUTLINE_WIDTH[style])
    if style in (NO_STYLE, "comic"):
        canvas.paste(BLACK, (0, 0), ImageChops.multiply(shading(), silhouette))
    if style == "pixel art":
        canvas = as_pixel_art(canvas)
    elif style == "watercolor":
        canvas = as_watercolor(canvas, rng)
    elif style == "sketch":
        canvas = as_sketch(canvas, silhouette)
    return canvas.resize((SIZE, SIZE), Image.Resampling.BOX)
