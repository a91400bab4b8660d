"""Scenes: what a picture of the drawn world shows. A background, a style, and one or two things with attributes."""

import random
import zlib
from dataclasses import dataclass
from functools import cache
from itertools import product

from promptplus.pocket.world.composed import compose, random_body_plan
from promptplus.pocket.world.creatures import CREATURES
from promptplus.pocket.world.shapes import Shape
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

NAMED: dict[str, Shape] = {**THINGS, **CREATURES}
OBJECTS = tuple(NAMED)
MADE_UP_COUNT = 800
"""How many made-up nouns there are, each with a composed shape (our choice)."""
MADE_UP = made_up_names(MADE_UP_COUNT, frozenset(OBJECTS))

CLASSES: dict[str, tuple[str, ...]] = {
    "object": OBJECTS,
    "colour": tuple(COLOURS),
    "texture": TEXTURES,
    "background": BACKGROUNDS,
    "style": STYLES,
}
ATTRIBUTES = tuple(CLASSES)
"""What the attribute judge classifies. Objects: named ones only, no made-up nouns."""

HELD_OUT_COMBINATIONS = frozenset(
    triple for triple in product(OBJECTS, COLOURS, TEXTURES) if zlib.crc32(" ".join(triple).encode()) % 10 == 0
)
"""A tenth of all triples (object, colour, texture); no training picture shows one."""

TEXTURE_WEIGHTS = (3, 1.2, 1.2, 1.2, 1.2)
STYLE_WEIGHTS = (3, 1, 1, 1, 1, 1, 1)
MADE_UP_SHARE, PAIR_SHARE, ADJECTIVE_SHARE, TRIM_SHARE = 0.4, 0.12, 0.2, 0.35
"""Probabilities: that a thing has a made-up noun; that a scene has two things; that a thing has an adjective; that the
trim of a thing has a second colour (our choice)."""
COARSE_STYLE = "pixel art"
"""A style whose large blocks hide small shapes."""
NOT_LABELLED = -100
"""A label that `torch.nn.functional.cross_entropy` ignores."""


@dataclass(frozen=True)
class Thing:
    """One object of a scene.

    Args:
        noun: key of `shapes_by_noun()`.
        colour: key of `COLOURS`.
        texture: one of `TEXTURES`.
        trim: key of `COLOURS`; None means that the trim is a darker body colour.
        adjective: one of `ADJECTIVES`.
    """

    noun: str
    colour: str
    texture: str = PLAIN
    trim: str | None = None
    adjective: str | None = None

    @property
    def held_out(self) -> bool:
        """Whether this is one of `HELD_OUT_COMBINATIONS`."""
        return (self.noun, self.colour, self.texture) in HELD_OUT_COMBINATIONS


@dataclass(frozen=True)
class Scene:
    """A background, a style and one thing, or two: the first stands on the left."""

    things: tuple[Thing, ...]
    background: str
    style: str = NO_STYLE


@cache
def shapes_by_noun() -> dict[str, Shape]:
    """The shape of every noun, named or made-up."""
    composed = {}
    for number, noun in enumerate(MADE_UP):
        rng = random.Random(f"made-up noun {number}")
        composed[noun] = compose(random_body_plan(rng), rng)
    return {**NAMED, **composed}


def random_thing(rng: random.Random, made_up: bool, plain: bool = False, alone: bool = True) -> Thing:
    """A random thing with a made-up noun, or with a named one.

    Args:
        made_up: use a made-up noun.
        plain: no adjective and no second colour.
        alone: the scene has no other thing. Only such things get adjectives: a tiny thing beside another one would be
            too small to recognise.
    """
    noun, colour = rng.choice(MADE_UP if made_up else OBJECTS), rng.choice(CLASSES["colour"])
    two_tone = shapes_by_noun()[noun].trim and not plain and rng.random() < TRIM_SHARE
    return Thing(
        noun,
        colour,
        texture=rng.choices(TEXTURES, TEXTURE_WEIGHTS)[0],
        trim=rng.choice([other for other in COLOURS if other != colour]) if two_tone else None,
        adjective=rng.choice(ADJECTIVES) if alone and not plain and rng.random() < ADJECTIVE_SHARE else None,
    )


def random_scene(rng: random.Random) -> Scene:
    """A random scene for training: no thing is a held-out combination, and none is too small for its style."""
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
    """A random scene of one named thing, without adjective and second colour; a held-out combination if `held_out`."""
    while (thing := random_thing(rng, made_up=False, plain=True)).held_out != held_out:
        pass
    return Scene((thing,), rng.choice(BACKGROUNDS), rng.choices(STYLES, STYLE_WEIGHTS)[0])


def labels(scene: Scene) -> tuple[int, ...]:
    """Class indices in the order of `ATTRIBUTES`.

    `NOT_LABELLED` stands for a made-up noun, and for the object, colour and texture of a scene with two things.
    """
    first = scene.things[0]
    words = {"object": first.noun, "colour": first.colour, "texture": first.texture}
    indices = {
        name: CLASSES[name].index(word) if word in CLASSES[name] else NOT_LABELLED for name, word in words.items()
    }
    if len(scene.things) > 1:
        indices = dict.fromkeys(words, NOT_LABELLED)
    return (*indices.values(), BACKGROUNDS.index(scene.background), STYLES.index(scene.style))


def words_of(scene: Scene) -> dict[str, str]:
    """The word of each attribute of a scene with one named thing."""
    return {name: CLASSES[name][label] for name, label in zip(ATTRIBUTES, labels(scene), strict=True)}
