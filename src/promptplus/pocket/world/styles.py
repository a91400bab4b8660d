"""Styles of the drawn world: six that captions name beside "cartoon", and four held-out ones.

A style is a function (painted canvas, silhouette of the shapes, random generator) → canvas.
"""

import random
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from promptplus.pocket.world.shapes import CANVAS
from promptplus.pocket.world.words import NO_STYLE, STYLES

Finish = Callable[[Image.Image, Image.Image, random.Random], Image.Image]

OUTLINE_WIDTH = {"pixel art": 8, "watercolor": 5, "comic": 11, "stained glass": 13}
"""Width of outlines in canvas pixels, by style (three canvas pixels make one pixel of the picture)."""
OUTLINE = 6
"""Width of outlines in the other styles."""
PIXEL_ART_GRID = 16
"""Blocks per side."""


def edges(silhouette: Image.Image, width: int) -> np.ndarray:
    """A mask of the silhouette's outline, `width` canvas pixels wide: float32 [H, W, 1] in [0, 1]."""
    outline = silhouette.filter(ImageFilter.FIND_EDGES).filter(ImageFilter.MaxFilter(width | 1))
    return np.asarray(outline, np.float32)[..., None] / 255


def to_image(pixels: np.ndarray) -> Image.Image:
    """Pixels [H, W, 3] in [0, 255], clipped → picture."""
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def pixel_art(image: Image.Image, silhouette: Image.Image, rng: random.Random) -> Image.Image:
    """16 x 16 blocks of at most 24 colours."""
    small = image.resize((PIXEL_ART_GRID, PIXEL_ART_GRID), Image.Resampling.BOX)
    return small.quantize(24, kmeans=0).convert("RGB").resize((CANVAS, CANVAS), Image.Resampling.NEAREST)


def watercolor(image: Image.Image, silhouette: Image.Image, rng: random.Random) -> Image.Image:
    """Blurred and pale, with large light and dark spots."""
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(3.0)), np.float32)
    noise = (np.random.default_rng(rng.getrandbits(32)).random((5, 5)) * 255).astype(np.uint8)
    blots = np.asarray(Image.fromarray(noise).resize(image.size, Image.Resampling.BICUBIC), np.float32) / 255 - 0.5
    return to_image(pixels * 0.72 + 255 * 0.28 + blots[..., None] * 34)


@cache
def hatching() -> np.ndarray:
    """A mask of diagonal lines, float32 [H, W, 1], 0 or 1."""
    y, x = np.mgrid[0:CANVAS, 0:CANVAS]
    return ((x + y) % 18 < 6)[..., None].astype(np.float32)


def sketch(image: Image.Image, silhouette: Image.Image, rng: random.Random) -> Image.Image:
    """Pale colours, diagonal hatching that is stronger in dark places, a dark outline."""
    pixels = np.asarray(image, np.float32)
    grey = pixels.mean(-1, keepdims=True)
    pale = (pixels * 0.6 + grey * 0.4) * 0.5 + 255 * 0.5
    pale = np.clip(pale - hatching() * (1 - grey / 255) * 100, 0, 255)
    outline = edges(silhouette, 3)
    return to_image(pale * (1 - outline) + 30 * outline)


@cache
def halftone() -> Image.Image:
    """A mask: the dot screen of the comic style."""
    mask, step, r = Image.new("L", (CANVAS, CANVAS), 0), 18, 5
    draw = ImageDraw.Draw(mask)
    for row, y in enumerate(range(0, CANVAS + step, step)):
        for x in range(0, CANVAS + step, step):
            cx = x + (step // 2 if row % 2 else 0)
            draw.ellipse([cx - r, y - r, cx + r, y + r], fill=150)
    return mask


def comic(image: Image.Image, silhouette: Image.Image, rng: random.Random) -> Image.Image:
    """A pink dot screen behind the shapes."""
    behind = image.copy()
    behind.paste((255, 60, 120), (0, 0), halftone())
    return Image.composite(image, behind, silhouette)


def neon(image: Image.Image, silhouette: Image.Image, rng: random.Random) -> Image.Image:
    """Dark, with a glowing outline."""
    pixels = np.asarray(image, np.float32)
    line = edges(silhouette, 7)
    glow = np.asarray(silhouette.filter(ImageFilter.GaussianBlur(9)), np.float32)[..., None] / 255
    halo = glow * (1 - np.asarray(silhouette, np.float32)[..., None] / 255)
    cyan = np.array([90.0, 255.0, 240.0], np.float32)
    return to_image(pixels * 0.6 * (1 - line) + cyan * np.maximum(line, 0.8 * halo))


def stained_glass(image: Image.Image, silhouette: Image.Image, rng: random.Random) -> Image.Image:
    """Saturated colours between crossing dark lines."""
    pixels = np.asarray(image, np.float32)
    grey = pixels.mean(-1, keepdims=True)
    y, x = np.mgrid[0:CANVAS, 0:CANVAS]
    lead = ((x + 2 * y) % 96 < 9) | ((2 * x - y) % 96 < 9)
    return to_image((grey + (pixels - grey) * 1.3) * np.where(lead, 0.25, 1.0)[..., None])


def blueprint(image: Image.Image, silhouette: Image.Image, rng: random.Random) -> Image.Image:
    """White lines on blue paper."""
    grey = np.asarray(image.convert("L").filter(ImageFilter.FIND_EDGES).filter(ImageFilter.MaxFilter(3)), np.float32)
    share = np.clip(grey / 110, 0, 1)[..., None]
    tone = np.asarray(image.convert("L"), np.float32)[..., None] / 255
    blue = np.array([20.0, 60.0, 150.0], np.float32) * (0.7 + 0.6 * tone)
    return to_image(blue * (1 - share) + 245 * share)


def sepia(image: Image.Image, silhouette: Image.Image, rng: random.Random) -> Image.Image:
    """Brown tones with dark corners, like an old photograph."""
    tone = np.asarray(image.convert("L"), np.float32)[..., None] / 255
    y, x = np.mgrid[-1 : 1 : CANVAS * 1j, -1 : 1 : CANVAS * 1j]
    dark = 1 - 0.55 * np.clip(x * x + y * y - 0.3, 0, 1)[..., None]
    return to_image((np.array([60.0, 35.0, 15.0]) + tone * np.array([190.0, 170.0, 125.0])) * dark)


def thermal(image: Image.Image, silhouette: Image.Image, rng: random.Random) -> Image.Image:
    """False colours from blue over red to yellow, by brightness."""
    tone = np.asarray(image.convert("L").filter(ImageFilter.GaussianBlur(2)), np.float32) / 255
    stops = [0.0, 0.35, 0.65, 1.0]
    channels = ([20, 140, 250, 255], [10, 20, 90, 245], [110, 150, 30, 120])
    return to_image(np.stack([np.interp(tone, stops, channel) for channel in channels], -1))


def chalk(image: Image.Image, silhouette: Image.Image, rng: random.Random) -> Image.Image:
    """Pale, hatched colours on a dark green board."""
    pixels = np.asarray(image, np.float32)
    inside = np.asarray(silhouette, np.float32)[..., None] / 255
    board = np.array([34.0, 64.0, 52.0], np.float32)
    rubbed = board + (pixels * 0.5 + 127 - board) * np.where(hatching() > 0, 0.75, 0.3)
    outline = edges(silhouette, 7)
    return to_image((board * (1 - inside) + rubbed * inside) * (1 - outline) + 235 * outline)


FINISHES: dict[str, Finish] = {
    "pixel art": pixel_art,
    "watercolor": watercolor,
    "sketch": sketch,
    "comic": comic,
    "neon": neon,
    "stained glass": stained_glass,
}
HELD_OUT_FINISHES: dict[str, Finish] = {"blueprint": blueprint, "sepia": sepia, "thermal": thermal, "chalk": chalk}
"""Held-out styles: no training picture has one and no caption names one."""
assert {NO_STYLE, *FINISHES} == {*STYLES}
