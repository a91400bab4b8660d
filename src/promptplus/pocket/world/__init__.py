"""The drawn world: 64 x 64 pictures of named and made-up objects, described by their attributes.

A `Scene` lists what a picture shows, `caption` describes it in words, `render` draws it. Every function is pure: its
result depends on its arguments, a seed or a random generator among them. The held-out concepts, which no training
picture shows and no caption names, are in `promptplus.pocket.held_out`.
"""

import random

from PIL import Image

from promptplus.pocket.world.captions import caption, full_caption
from promptplus.pocket.world.painting import Look, paint
from promptplus.pocket.world.scenes import (
    ATTRIBUTES,
    CLASSES,
    HELD_OUT_COMBINATIONS,
    MADE_UP,
    OBJECTS,
    Scene,
    Thing,
    labels,
    random_scene,
    random_test_scene,
    shapes_by_noun,
    words_of,
)
from promptplus.pocket.world.shapes import SIZE
from promptplus.pocket.world.words import BACKGROUNDS, COLOURS, NO_STYLE, STYLES, TEXTURES

__all__ = [
    "ATTRIBUTES",
    "BACKGROUNDS",
    "CLASSES",
    "COLOURS",
    "HELD_OUT_COMBINATIONS",
    "MADE_UP",
    "NO_STYLE",
    "OBJECTS",
    "SIZE",
    "STYLES",
    "TEXTURES",
    "Scene",
    "Thing",
    "caption",
    "full_caption",
    "labels",
    "look_of",
    "random_scene",
    "random_test_scene",
    "render",
    "words_of",
]


def look_of(thing: Thing) -> Look:
    """The shape, colours, texture and adjectives that `thing` is painted with."""
    adjectives = (thing.adjective,) if thing.adjective else ()
    trim = COLOURS[thing.trim] if thing.trim else None
    return Look(shapes_by_noun()[thing.noun], COLOURS[thing.colour], trim, thing.texture, adjectives)


def render(scene: Scene, seed: int) -> Image.Image:
    """Draw `scene` as a 64 x 64 RGB picture; `seed` decides positions, sizes, tilts and small random marks.

    The random numbers differ from those of ``random.Random(seed)``, which may have made the scene. With the same
    numbers the thing in a picture would decide which way it faces (docs/log.md, 2026-11-24).
    """
    rng = random.Random(f"render {seed}")
    return paint([look_of(thing) for thing in scene.things], scene.background, scene.style, rng)
