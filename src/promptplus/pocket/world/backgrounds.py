"""What stands behind the drawn world's figures. Colours from the pocket spike or our choice."""

import math
import random
from functools import cache
from itertools import product

from PIL import Image, ImageDraw

from promptplus.pocket.world.shapes import CANVAS, RGB, mix
from promptplus.pocket.world.words import BACKGROUNDS

FLAT: dict[str, RGB] = {
    "white": (250, 250, 248),
    "grass": (120, 190, 80),
    "sand": (225, 195, 140),
    "brick": (215, 205, 195),
}
RAMPS: dict[str, tuple[RGB, RGB]] = {
    "sky": ((110, 180, 245), (205, 232, 252)),
    "night": ((10, 12, 45), (35, 35, 90)),
    "sunset": ((105, 60, 140), (255, 165, 80)),
    "water": ((40, 130, 190), (15, 80, 150)),
}
"""Colours at the top and at the bottom."""
assert {*FLAT, *RAMPS} == {*BACKGROUNDS}


@cache
def gradient(top: RGB, bottom: RGB) -> Image.Image:
    column = Image.new("RGB", (1, CANVAS))
    column.putdata([mix(top, bottom, y / CANVAS) for y in range(CANVAS)])
    return column.resize((CANVAS, CANVAS))


def background_image(background: str, rng: random.Random) -> Image.Image:
    """A canvas of `background`; what lies about on it is drawn from `rng`."""
    if background in FLAT:
        image = Image.new("RGB", (CANVAS, CANVAS), FLAT[background])
    else:
        image = gradient(*RAMPS[background]).copy()
    if decorate := DECORATIONS.get(background):
        decorate(ImageDraw.Draw(image), rng)
    return image


def anywhere(rng: random.Random) -> tuple[int, int]:
    return rng.randint(0, CANVAS), rng.randint(0, CANVAS)


def dots(
    draw: ImageDraw.ImageDraw, rng: random.Random, count: int, radius: tuple[int, int], colours: list[RGB]
) -> None:
    for _ in range(count):
        (x, y), r = anywhere(rng), rng.randint(*radius)
        draw.ellipse([x - r, y - r, x + r, y + r], fill=rng.choice(colours))


def grass(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    for _ in range(36):
        (x, y), height, lean = anywhere(rng), rng.randint(14, 24), rng.randint(-6, 6)
        draw.line([(x, y), (x + lean, y - height)], fill=rng.choice([(90, 160, 58), (146, 210, 98)]), width=7)


def sand(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    dots(draw, rng, 36, (4, 7), [(203, 170, 116), (240, 217, 168)])


def night(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    dots(draw, rng, 22, (3, 6), [(250, 250, 210)])


def sunset(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    x, r = rng.randint(CANVAS // 7, CANVAS * 6 // 7), CANVAS // 8
    draw.ellipse([x - r, CANVAS - 2 * r, x + r, CANVAS], fill=(255, 225, 110))


def brick(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    height, width = CANVAS // 8, CANVAS // 4
    for row, column in product(range(8), range(-1, 5)):
        x, y = column * width + (width // 2 if row % 2 else 0), row * height
        colour = mix((170, 85, 65), (145, 66, 52), rng.random())
        draw.rectangle([x + 3, y + 3, x + width - 4, y + height - 4], fill=colour)


def water(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    phase = rng.uniform(0, 6)
    for row in range(1, 9):
        xs = range(0, CANVAS + 8, 8)
        wave = [(x, row * CANVAS / 9 + 7 * math.sin(x / CANVAS * 18 + phase + row * 1.7)) for x in xs]
        draw.line(wave, fill=(120, 200, 235), width=6)


DECORATIONS = {"grass": grass, "sand": sand, "night": night, "sunset": sunset, "brick": brick, "water": water}
