"""Things of which one attribute is learned: their pictures, captions and prompts, and what the judge says of pictures.

A thing has a shape that no training picture of the model shows, and a colour, texture and style that have words. Its
colour, texture or shape is learned from five pictures in the usual style, its style from five pictures in that style.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.held_out import DEV, HELD_OUT_OBJECTS, REPORT
from promptplus.pocket.world import BACKGROUNDS, CLASSES, COLOURS, NO_STYLE, OBJECTS, Scene, Thing, look_of
from promptplus.pocket.world.captions import with_article
from promptplus.pocket.world.painting import Look, paint
from promptplus.pocket.world.shapes import Shape
from promptplus.pocket.world.words import PLAIN

LEARNED = ("colour", "texture", "style", "shape")
"""The attributes that are learned, each on its own."""
CLASS_WORDS = {"colour": "nice", "texture": "nice", "style": NO_STYLE, "shape": "object"}
"""The word in the token's place in layers that are not learned, and the initializer. It changes nothing in a picture.

In the training captions of the pocket model “nice” says nothing, “cartoon” is the usual style, and “object” stands for
any noun.
"""
PICTURES = 5  # of each thing
SHAPE_RENDERS = 4  # of each shape that the judge compares a picture with; our choice
PARTS = {"dev": DEV, "report": REPORT}
"""The unseen shapes that settings are chosen on, and the reported ones."""


@dataclass(frozen=True)
class UnseenThing:
    """What five pictures show: a held-out shape in a colour, texture and style that have words.

    Attributes:
        shape: a key of ``HELD_OUT_OBJECTS``.
        colour, texture, style: words; the texture is not plain and the style not the usual one.
    """

    shape: str
    colour: str
    texture: str
    style: str

    def to_learn(self, attribute: str) -> "UnseenThing":
        """The thing as the pictures show it that an attribute is learned from: in the usual style, but for a style."""
        return self if attribute == "style" else replace(self, style=NO_STYLE)

    def pictures(self) -> list[Image.Image]:
        """Five pictures on different backgrounds, 64 x 64."""
        backgrounds = random.Random(f"backgrounds of {self.shape}").sample(BACKGROUNDS, PICTURES)
        return [self._draw(background, number) for number, background in enumerate(backgrounds)]

    def template(self, attribute: str) -> str:
        """One caption for all pictures, with ``{}`` for an attribute. No word says the shape or the backgrounds."""
        return caption(attribute, self.colour, self.texture, self.style, "object")

    def true_picture(self, attribute: str, scene: Scene, seed: int) -> Image.Image:
        """What a perfect answer to a prompt shows: the scene, drawn with this thing's attribute."""
        look, style = look_of(scene.things[0]), scene.style
        match attribute:
            case "colour":
                look = replace(look, body=COLOURS[self.colour])
            case "texture":
                look = replace(look, texture=self.texture)
            case "style":
                style = self.style
            case _:
                look = replace(look, shape=_shape(self.shape))
        return paint([look], scene.background, style, random.Random(f"true picture {seed}"))

    def _draw(self, background: str, number: int) -> Image.Image:
        look = Look(HELD_OUT_OBJECTS[self.shape].shape, COLOURS[self.colour], None, self.texture)
        return paint([look], background, self.style, random.Random(f"learned {self.shape} {number}"))


def caption(attribute: str, colour: str, texture: str, style: str, noun: str, background: str = "") -> str:
    """A caption with all of these words but the attribute's, which ``{}`` stands for."""
    words = {"colour": colour, "texture": texture, "shape": noun, "style": style} | {attribute: "{}"}
    named = " ".join([with_article(words["colour"]), words["texture"], words["shape"]])
    place = f" on a {background} background" if background else ""
    return f"{named}{place}, {words['style']}"


def unseen_things(part: str) -> list[UnseenThing]:
    """The twelve things of a part, ``dev`` or ``report``; colours, textures and styles are spread evenly."""
    rng, shapes = random.Random(f"single attributes, {part}"), PARTS[part]

    def spread(words: Sequence[str]) -> list[str]:
        return rng.sample(list(islice(cycle(rng.sample(words, len(words))), len(shapes))), len(shapes))

    columns = spread(list(COLOURS)), spread([t for t in CLASSES["texture"] if t != PLAIN])
    styles = spread([style for style in CLASSES["style"] if style != NO_STYLE])
    return [UnseenThing(*values) for values in zip(shapes, *columns, styles, strict=True)]


def prompt_scenes(thing: UnseenThing, count: int) -> list[Scene]:
    """New scenes for the prompts of a thing: a named object with no attribute of the thing, so that leaks are seen."""
    rng, own = random.Random(f"prompts for {thing.shape}"), {thing.colour, thing.texture, thing.style}
    scenes: list[Scene] = []
    while len(scenes) < count:
        colour, texture, style = (rng.choice(CLASSES[name]) for name in ("colour", "texture", "style"))
        if own.isdisjoint((colour, texture, style)):
            scenes.append(Scene((Thing(rng.choice(OBJECTS), colour, texture),), rng.choice(BACKGROUNDS), style))
    return scenes


def prompt(scene: Scene, attribute: str) -> str:
    """A prompt for a scene, with ``{}`` in the place of one attribute."""
    (thing,) = scene.things
    return caption(attribute, thing.colour, thing.texture, scene.style, thing.noun, scene.background)


class SingleAttributeJudge:
    """Says which attributes pictures have: the attribute judge, and for shapes that have no word the nearest render.

    Args:
        judge: it has heads for colour, texture, background, style and the named objects.
        shapes: the held-out shapes that a picture may have, beside those of all named objects.
    """

    def __init__(self, judge: AttributeJudge, shapes: Sequence[str]) -> None:
        self.judge, self.shapes = judge, (*shapes, *OBJECTS)
        self._known: dict[Scene, Tensor] = {}

    def score(
        self, attribute: str, thing: UnseenThing, scenes: Sequence[Scene], images: Sequence[Image.Image]
    ) -> "Scores":
        """What pictures of these scenes are like, in which the thing's attribute was to replace the scene's."""
        seen = self.judge.classify(images)
        has = self.shapes_seen(scenes, images) if attribute == "shape" else seen[attribute]
        asked = [_asked(scene, attribute) for scene in scenes]
        kept = {name: [seen[name][i] == each[name] for i, each in enumerate(asked)] for name in asked[0]}
        return Scores([word == getattr(thing, attribute) for word in has], kept)

    def shapes_seen(self, scenes: Sequence[Scene], images: Sequence[Image.Image]) -> list[str]:
        """The shape of each picture: that whose renders, in the scene's colour and all, have the nearest features."""
        return [
            self.shapes[int((self._references(scene) @ feature).argmax())]
            for scene, feature in zip(scenes, self.judge.embed(images), strict=True)
        ]

    def _references(self, scene: Scene) -> Float[Tensor, "shapes features"]:
        """The mean features of each shape's renders in a scene."""
        if scene in self._known:
            return self._known[scene]
        looks = [replace(look_of(scene.things[0]), shape=shape) for shape in map(_shape, self.shapes)]
        renders = [
            paint([look], scene.background, scene.style, random.Random(f"shape {number}"))
            for look in looks
            for number in range(SHAPE_RENDERS)
        ]
        self._known[scene] = self.judge.embed(renders).view(len(looks), SHAPE_RENDERS, -1).mean(1)
        return self._known[scene]


@dataclass(frozen=True)
class Scores:
    """What the pictures of one concept are like.

    Attributes:
        has: for each picture, whether it has the learned attribute.
        kept: for each other attribute, whether each picture has what its prompt asked for.
    """

    has: Sequence[bool]
    kept: Mapping[str, Sequence[bool]]

    @property
    def clean(self) -> list[bool]:
        """For each picture, whether all other attributes are as asked: nothing else of the thing leaked."""
        return [all(each) for each in zip(*self.kept.values(), strict=True)]

    @property
    def shares(self) -> dict[str, float]:
        """Shares of pictures: that have the attribute, in which nothing else leaks, and both."""
        both = [one and other for one, other in zip(self.has, self.clean, strict=True)]
        return {
            name: sum(hits) / len(hits) for name, hits in (("has", self.has), ("clean", self.clean), ("both", both))
        }


def _shape(name: str) -> Shape:
    return HELD_OUT_OBJECTS[name].shape if name in HELD_OUT_OBJECTS else look_of(Thing(name, "red")).shape


def _asked(scene: Scene, attribute: str) -> dict[str, str]:
    """The attributes that a prompt for a scene names in words: all but the one in the token's place."""
    (thing,) = scene.things
    words = {"object": thing.noun, "colour": thing.colour, "texture": thing.texture}
    words |= {"background": scene.background, "style": scene.style}
    return {name: word for name, word in words.items() if name != ("object" if attribute == "shape" else attribute)}
