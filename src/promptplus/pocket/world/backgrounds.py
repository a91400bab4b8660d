"""The eight backgrounds of the drawn world. All colours and sizes are our choice."""

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
GRADIENTS: dict[str, tuple[RGB, RGB]] = {
    "sky": ((110, 180, 245), (205, 232, 252)),
    "night": ((10, 12, 45), (35, 35, 90)),
    "sunset": ((105, 60, 140), (255, 165, 80)),
    "water": ((40, 130, 190), (15, 80, 150)),
}
"""Colours at the top and at the bottom of a vertical gradient."""
assert {*FLAT, *GRADIENTS} == {*BACKGROUNDS}


@cache
def gradient(top: RGB, bottom: RGB) -> Image.Image:
    """A canvas that changes linearly from the colour `top` to the colour `bottom`."""
    column = Image.new("RGB", (1, CANVAS))
    column.putdata([mix(top, bottom, y / CANVAS) for y in range(CANVAS)])
    return column.resize((CANVAS, CANVAS))


def background_image(background: str, rng: random.Random) -> Image.Image:
    """A canvas of one of `BACKGROUNDS`; `rng` decides where blades of grass, stars, bricks … lie."""
    if background in FLAT:
        image = Image.new("RGB", (CANVAS, CANVAS), FLAT[background])
    else:
        image = gradient(*GRADIENTS[background]).copy()
    if decorate := DECORATIONS.get(background):
        decorate(ImageDraw.Draw(image), rng)
    return image


def random_point(rng: random.Random) -> tuple[int, int]:
    """A point of the canvas, in canvas pixels."""
    return rng.randint(0, CANVAS), rng.randint(0, CANVAS)


def dots(
    draw: ImageDraw.ImageDraw, rng: random.Random, count: int, radius: tuple[int, int], colours: list[RGB]
) -> None:
    """Draw `count` filled circles at random places; `radius` is the least and the greatest, in canvas pixels."""
    for _ in range(count):
        (x, y), r = random_point(rng), rng.randint(*radius)
        draw.ellipse([x - r, y - r, x + r, y + r], fill=rng.choice(colours))


def grass(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """Leaning blades of grass."""
    for _ in range(36):
        (x, y), height, lean = random_point(rng), rng.randint(14, 24), rng.randint(-6, 6)
        draw.line([(x, y), (x + lean, y - height)], fill=rng.choice([(90, 160, 58), (146, 210, 98)]), width=7)


def sand(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """Light and dark pebbles."""
    dots(draw, rng, 36, (4, 7), [(203, 170, 116), (240, 217, 168)])


def night(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """Stars."""
    dots(draw, rng, 22, (3, 6), [(250, 250, 210)])


def sunset(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """A sun that stands on the lower edge."""
    x, r = rng.randint(CANVAS // 7, CANVAS * 6 // 7), CANVAS // 8
    draw.ellipse([x - r, CANVAS - 2 * r, x + r, CANVAS], fill=(255, 225, 110))


def brick(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """Eight rows of bricks, each brick of a slightly different red."""
    height, width = CANVAS // 8, CANVAS // 4
    for row, column in product(range(8), range(-1, 5)):
        x, y = column * width + (width // 2 if row % 2 else 0), row * height
        colour = mix((170, 85, 65), (145, 66, 52), rng.random())
        draw.rectangle([x + 3, y + 3, x + width - 4, y + height - 4], fill=colour)


def water(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """Eight wave lines."""
    phase = rng.uniform(0, 6)
    for row in range(1, 9):
        xs = range(0, CANVAS + 8, 8)
        wave = [(x, row * CANVAS / 9 + 7 * math.sin(x / CANVAS * 18 + phase + row * 1.7)) for x in xs]
        draw.line(wave, fill=(120, 200, 235), width=6)


DECORATIONS = {"grass": grass, "sand": sand, "night": night, "sunset": sunset, "brick": brick, "water": water}
"""What is drawn on top of the flat colour or gradient, by background."""
