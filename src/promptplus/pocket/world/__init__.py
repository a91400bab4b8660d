"""The drawn world: 64 x 64 pictures of named and made-up things, described by their attributes.

A `Scene` says what is in the picture, `caption` puts it into words, `render` draws it; everything is a pure function of
its seed. `UNSEEN` concepts are drawn for inversion alone: no training picture shows them and no caption names them.
"""

import random
from dataclasses import replace

from PIL import Image

from promptplus.pocket.held_out import UNSEEN_OBJECTS, UNSEEN_STYLES
from promptplus.pocket.world.captions import caption, full_caption
from promptplus.pocket.world.painting import Look, paint
from promptplus.pocket.world.scenes import (
    ATTRIBUTES,
    CLASSES,
    HELD_OUT,
    MADE_UP,
    OBJECTS,
    Scene,
    Thing,
    figures,
    labels,
    random_scene,
    random_test_scene,
)
from promptplus.pocket.world.shapes import SIZE
from promptplus.pocket.world.words import BACKGROUNDS, COLOURS, NO_STYLE, STYLES, TEXTURES

__all__ = [
    "ATTRIBUTES",
    "BACKGROUNDS",
    "CLASSES",
    "COLOURS",
    "HELD_OUT",
    "MADE_UP",
    "NO_STYLE",
    "OBJECTS",
    "SIZE",
    "STYLES",
    "TEXTURES",
    "UNSEEN_OBJECTS",
    "UNSEEN_STYLES",
    "Scene",
    "Thing",
    "caption",
    "full_caption",
    "labels",
    "random_scene",
    "random_test_scene",
    "render",
    "render_mixture",
    "render_object_concept",
    "render_style_concept",
]


def look(thing: Thing) -> Look:
    adjectives = (thing.adjective,) if thing.adjective else ()
    trim = COLOURS[thing.trim] if thing.trim else None
    return Look(figures()[thing.noun], COLOURS[thing.colour], trim, thing.texture, adjectives)


def render(scene: Scene, seed: int) -> Image.Image:
    """Draw `scene` as a 64 x 64 RGB picture; `seed` decides place, size, tilt and every small accident.

    The random numbers are not those of ``random.Random(seed)``, which may have made the scene: what a thing is must not
    tell which way it faces (docs/log.md, 2026-11-24).
    """
    accidents = random.Random(f"render {seed}")
    return paint([look(thing) for thing in scene.things], scene.background, scene.style, accidents)


def render_object_concept(name: str, background: str, seed: int) -> Image.Image:
    """Draw one of `UNSEEN_OBJECTS` in its own two tones, 64 x 64."""
    return paint([UNSEEN_OBJECTS[name]], background, NO_STYLE, random.Random(seed))


def render_mixture(shape: str, looks: str, background: str, seed: int) -> Image.Image:
    """Draw one of `UNSEEN_OBJECTS` in another's tones and texture, 64 x 64."""
    own = UNSEEN_OBJECTS[looks]
    mixed = replace(UNSEEN_OBJECTS[shape], body=own.body, trim=own.trim, texture=own.texture)
    return paint([mixed], background, NO_STYLE, random.Random(seed))


def render_style_concept(style: str, seed: int) -> Image.Image:
    """Draw a random named thing in one of `UNSEEN_STYLES`, 64 x 64."""
    scene = random_test_scene(random.Random(seed))
    return paint([look(thing) for thing in scene.things], scene.background, style, random.Random(seed))
