"""The held-out concepts: objects and styles that no training picture shows and no caption names.

They serve as concepts to learn by inversion. Fourteen of the objects are drawn by hand (`world.held_out_shapes`); ten
are composed at random, as the shapes of made-up nouns are. The concepts of `DEV` are for choosing settings; those of
`REPORT` are measured for tables only.
"""

import random
from dataclasses import replace

from PIL import Image

from promptplus.pocket.world import MADE_UP, NO_STYLE, OBJECTS, look_of, random_test_scene
from promptplus.pocket.world.composed import BodyPlan, compose, random_body_plan
from promptplus.pocket.world.held_out_shapes import HELD_OUT_SHAPES, TONES_AND_TEXTURES
from promptplus.pocket.world.painting import Look, paint
from promptplus.pocket.world.shapes import RGB
from promptplus.pocket.world.styles import HELD_OUT_FINISHES
from promptplus.pocket.world.words import PLAIN, made_up_names

HELD_OUT_STYLES = tuple(HELD_OUT_FINISHES)
COMPOSED: tuple[tuple[int, RGB, RGB, str], ...] = (
    (2, (160, 110, 150), (60, 190, 230), PLAIN),
    (9, (245, 200, 70), (190, 60, 90), PLAIN),
    (19, (60, 175, 170), (240, 190, 60), PLAIN),
    (21, (230, 160, 60), (150, 45, 80), "dotted"),
    (32, (250, 140, 120), (20, 100, 120), PLAIN),
    (40, (80, 140, 235), (250, 150, 70), PLAIN),
    (42, (205, 165, 115), (160, 110, 150), PLAIN),
    (48, (120, 190, 80), (120, 60, 150), "striped"),
    (54, (190, 180, 110), (110, 20, 60), PLAIN),
    (65, (240, 130, 180), (70, 130, 90), PLAIN),
)
"""Seed, body colour, trim colour, texture of each composed concept.

No colour is one of the named colours. The seeds were picked by eye, so that the shapes differ from one another.
"""


def composed_body_plan(seed: int) -> tuple[BodyPlan, random.Random]:
    """The body plan of a composed concept, and the generator that draws its proportions next.

    No made-up noun has the same body plan (tested).
    """
    rng = random.Random(f"composed concept {seed}")
    return random_body_plan(rng), rng


def _looks() -> dict[str, Look]:
    looks = {name: Look(shape, *TONES_AND_TEXTURES[name]) for name, shape in HELD_OUT_SHAPES.items()}
    names = made_up_names(len(MADE_UP) + len(COMPOSED), frozenset(OBJECTS))[-len(COMPOSED) :]
    for name, (seed, body, trim, texture) in zip(names, COMPOSED, strict=True):
        looks[name] = Look(compose(*composed_body_plan(seed)), body, trim, texture)
    return looks


HELD_OUT_OBJECTS = _looks()
"""The look of each held-out object, by name; objects drawn by hand first."""
DRAWN_FOR_DEV = ("robot", "teapot", "key", "octopus", "camera", "dinosaur", "lighthouse")
COMPOSED_FOR_DEV = tuple(
    name for number, name in enumerate(HELD_OUT_OBJECTS) if number >= len(HELD_OUT_SHAPES) and number % 2
)
DEV = (*DRAWN_FOR_DEV, *COMPOSED_FOR_DEV)
REPORT = tuple(name for name in HELD_OUT_OBJECTS if name not in DEV)
assert len(DEV) == len(REPORT) == 12


def render_object_concept(name: str, background: str, seed: int) -> Image.Image:
    """Draw one of `HELD_OUT_OBJECTS` as a 64 x 64 picture."""
    return paint([HELD_OUT_OBJECTS[name]], background, NO_STYLE, random.Random(seed))


def render_mixture(shape: str, looks: str, background: str, seed: int) -> Image.Image:
    """Draw the shape of one of `HELD_OUT_OBJECTS` in the colours and texture of another, 64 x 64."""
    look = HELD_OUT_OBJECTS[looks]
    mixed = replace(HELD_OUT_OBJECTS[shape], body=look.body, trim=look.trim, texture=look.texture)
    return paint([mixed], background, NO_STYLE, random.Random(seed))


def render_style_concept(style: str, seed: int) -> Image.Image:
    """Draw a random named object in one of `HELD_OUT_STYLES`, 64 x 64."""
    scene = random_test_scene(random.Random(seed))
    return paint([look_of(thing) for thing in scene.things], scene.background, style, random.Random(seed))
