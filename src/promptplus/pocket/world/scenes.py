"""What a picture of the drawn world shows: a background, a style, and one or two things with their attributes."""

import random
import zlib
from dataclasses import dataclass
from functools import cache
from itertools import product

from promptplus.pocket.world.composed import compose, draw_plan
from promptplus.pocket.world.creatures import CREATURES
from promptplus.pocket.world.shapes import Figure
from promptplus.pocket.world.things import THINGS
from promptplus.pocket.world.words import (
    ADJECTIVES,
    BACKGROUNDS,
    COLOURS,
    NO_STYLE,
    PLAIN,
    STYLES,
    TEXTURES,
    made_up_names,
)

NAMED: dict[str, Figure] = {**THINGS, **CREATURES}
OBJECTS = tuple(NAMED)
MADE_UP_COUNT = 800
"""Made-up nouns, each for a composed figure: a few hundred span the token space (our choice)."""
MADE_UP = made_up_names(MADE_UP_COUNT, frozenset(OBJECTS))

CLASSES: dict[str, tuple[str, ...]] = {
    "object": OBJECTS,
    "colour": tuple(COLOURS),
    "texture": TEXTURES,
    "background": BACKGROUNDS,
    "style": STYLES,
}
ATTRIBUTES = tuple(CLASSES)
"""What the attribute judge tells; objects by name, not by made-up nouns."""

HELD_OUT = frozenset(
    triple for triple in product(OBJECTS, COLOURS, TEXTURES) if zlib.crc32(" ".join(triple).encode()) % 10 == 0
)
"""A tenth of all (object, colour, texture) triples: never in a training picture."""

TEXTURE_WEIGHTS = (3, 1.2, 1.2, 1.2, 1.2)
STYLE_WEIGHTS = (3, 1, 1, 1, 1, 1, 1)
MADE_UP_SHARE, PAIR_SHARE, ADJECTIVE_SHARE, TRIM_SHARE = 0.4, 0.12, 0.2, 0.35
"""Shares of the things with a made-up noun, of the scenes with two things, of the things with an adjective, and of the
things with a trim whose trim has a second colour (our choice)."""
COARSE_STYLE = "pixel art"
"""Its blocks swallow small figures."""
NOT_LABELLED = -100
"""In `labels`: what a loss ignores."""


@dataclass(frozen=True)
class Thing:
    """`noun` is a key of `figures()`, `colour` and `trim` of `COLOURS`; without `trim` the trim is a darker body."""

    noun: str
    colour: str
    texture: str = PLAIN
    trim: str | None = None
    adjective: str | None = None

    @property
    def held_out(self) -> bool:
        return (self.noun, self.colour, self.texture) in HELD_OUT


@dataclass(frozen=True)
class Scene:
    """One thing, or two of which the first stands on the left."""

    things: tuple[Thing, ...]
    background: str
    style: str = NO_STYLE


@cache
def figures() -> dict[str, Figure]:
    """The figure of every noun, named or made up."""
    composed = {}
    for number, noun in enumerate(MADE_UP):
        rng = random.Random(f"made-up noun {number}")
        composed[noun] = compose(draw_plan(rng), rng)
    return {**NAMED, **composed}


def random_thing(rng: random.Random, made_up: bool, plain: bool = False, alone: bool = True) -> Thing:
    """A thing with a made-up noun or a named one; `plain`: without an adjective and a second colour.

    Only things that are `alone` get adjectives: a tiny one of two could not be made out.
    """
    noun, colour = rng.choice(MADE_UP if made_up else OBJECTS), rng.choice(CLASSES["colour"])
    two_tone = figures()[noun].trim and not plain and rng.random() < TRIM_SHARE
    return Thing(
        noun,
        colour,
        texture=rng.choices(TEXTURES, TEXTURE_WEIGHTS)[0],
        trim=rng.choice([other for other in COLOURS if other != colour]) if two_tone else None,
        adjective=rng.choice(ADJECTIVES) if alone and not plain and rng.random() < ADJECTIVE_SHARE else None,
    )


def random_scene(rng: random.Random) -> Scene:
    """Draw a scene for training: none of its things is held out, and none too small for its style."""
    things: list[Thing] = []
    count = 2 if rng.random() < PAIR_SHARE else 1
    while len(things) < count:
        thing = random_thing(rng, made_up=rng.random() < MADE_UP_SHARE, alone=count == 1)
        if not thing.held_out:
            things.append(thing)
    small = count > 1 or things[0].adjective == "tiny"
    while (style := rng.choices(STYLES, STYLE_WEIGHTS)[0]) == COARSE_STYLE and small:
        pass
    return Scene(tuple(things), rng.choice(BACKGROUNDS), style)


def random_test_scene(rng: random.Random, held_out: bool = False) -> Scene:
    """One named thing without adjective or second colour, from the trained combinations or from the held-out ones."""
    while (thing := random_thing(rng, made_up=False, plain=True)).held_out != held_out:
        pass
    return Scene((thing,), rng.choice(BACKGROUNDS), rng.choices(STYLES, STYLE_WEIGHTS)[0])


def labels(scene: Scene) -> tuple[int, ...]:
    """Class indices in the order of `ATTRIBUTES`; `NOT_LABELLED` for made-up nouns and where two things may differ."""
    first = scene.things[0]
    words = {"object": first.noun, "colour": first.colour, "texture": first.texture}
    indices = {
        name: CLASSES[name].index(word) if word in CLASSES[name] else NOT_LABELLED for name, word in words.items()
    }
    if len(scene.things) > 1:
        indices = dict.fromkeys(words, NOT_LABELLED)
    return (*indices.values(), BACKGROUNDS.index(scene.background), STYLES.index(scene.style))
