"""The drawn world: 64 x 64 pictures of one object each, described by five attributes.

A `Scene` says what is in the picture, `render` draws it, `caption` puts it into words. Everything is a pure function
of its seed. Colours, sizes and line widths are from the pocket spike or our choice; shapes live in `shapes`, brushes in
`painting`, words in `captions`.
"""

import random
import zlib
from dataclasses import dataclass
from itertools import product

from PIL import Image

from .captions import NO_STYLE, PLAIN, caption
from .painting import RGB, SIZE, paint
from .shapes import NAMED, UNSEEN

__all__ = [
    "ATTRIBUTES",
    "BACKGROUNDS",
    "CLASSES",
    "COLOURS",
    "CONCEPTS",
    "HELD_OUT",
    "OBJECTS",
    "SIZE",
    "STYLES",
    "TEXTURES",
    "Scene",
    "caption",
    "labels",
    "random_scene",
    "render",
    "render_concept",
]


OBJECTS = tuple(NAMED)
COLOURS: dict[str, RGB] = {
    "red": (220, 30, 35),
    "orange": (245, 135, 20),
    "yellow": (245, 215, 30),
    "green": (40, 165, 60),
    "blue": (35, 85, 220),
    "purple": (130, 45, 175),
    "pink": (250, 120, 185),
    "brown": (125, 75, 35),
    "white": (245, 245, 245),
    "black": (35, 35, 38),
}
TEXTURES = (PLAIN, "striped", "dotted", "checkered")
BACKGROUNDS = ("white", "sky", "grass", "sand", "night", "sunset", "brick", "water")
STYLES = (NO_STYLE, "pixel art", "watercolor", "sketch", "comic")
CONCEPTS = tuple(UNSEEN)
TRIMMED = tuple(name for name, parts in NAMED.items() if any(part.material == "trim" for part in parts))
"""The objects whose trim can take a second colour."""

CLASSES: dict[str, tuple[str, ...]] = {
    "object": OBJECTS,
    "colour": tuple(COLOURS),
    "texture": TEXTURES,
    "background": BACKGROUNDS,
    "style": STYLES,
}
ATTRIBUTES = tuple(CLASSES)

HELD_OUT = frozenset(
    triple for triple in product(OBJECTS, COLOURS, TEXTURES) if zlib.crc32(" ".join(triple).encode()) % 10 == 0
)
"""A tenth of all (object, colour, texture) triples: never in a training picture."""

CONCEPT_LOOK: dict[str, tuple[RGB, RGB, str]] = {
    "robot": ((70, 200, 190), (235, 90, 150), PLAIN),
    "teapot": ((90, 60, 170), (250, 200, 40), "dotted"),
    "umbrella": ((235, 70, 60), (60, 190, 230), PLAIN),
    "snail": ((245, 160, 40), (90, 170, 90), "striped"),
    "key": ((230, 190, 50), (60, 110, 220), PLAIN),
}
"""Body colour, trim colour and texture of each unseen concept: two tones, as no training picture has."""

TEXTURE_WEIGHTS = (2, 1, 1, 1)
STYLE_WEIGHTS = (3, 1, 1, 1, 1)


@dataclass(frozen=True)
class Scene:
    """What a picture shows; every attribute is one of `CLASSES[attribute]`.

    `trim` is no attribute: a second colour for the roof, fins, handle or hind wings, which some training pictures have
    so that two-tone things are not foreign to the model. None: a darker shade of `colour`.
    """

    object: str
    colour: str
    texture: str
    background: str
    style: str
    trim: str | None = None

    @property
    def held_out(self) -> bool:
        return (self.object, self.colour, self.texture) in HELD_OUT


def random_scene(rng: random.Random, held_out: bool = False, trim_share: float = 0) -> Scene:
    """Draw a scene from the training combinations, or, `held_out`, from those never trained on.

    `trim_share` is how many of the objects that have a trim get one of another colour.
    """
    while True:
        name, colour = rng.choice(OBJECTS), rng.choice(CLASSES["colour"])
        others = [other for other in COLOURS if other != colour]
        scene = Scene(
            object=name,
            colour=colour,
            texture=rng.choices(TEXTURES, TEXTURE_WEIGHTS)[0],
            background=rng.choice(BACKGROUNDS),
            style=rng.choices(STYLES, STYLE_WEIGHTS)[0],
            trim=rng.choice(others) if name in TRIMMED and rng.random() < trim_share else None,
        )
        if scene.held_out == held_out:
            return scene


def labels(scene: Scene) -> tuple[int, ...]:
    """The five class indices of `scene`, in the order of `ATTRIBUTES`."""
    return tuple(words.index(getattr(scene, name)) for name, words in CLASSES.items())


def render(scene: Scene, seed: int) -> Image.Image:
    """Draw `scene` as a 64 x 64 RGB picture; `seed` decides place, size, tilt and every small accident."""
    trim = COLOURS[scene.trim] if scene.trim else None
    return paint(
        NAMED[scene.object],
        COLOURS[scene.colour],
        trim,
        scene.texture,
        scene.background,
        scene.style,
        random.Random(seed),
    )


def render_concept(name: str, background: str, seed: int) -> Image.Image:
    """Draw one of the unseen `CONCEPTS` in its own two tones, 64 x 64."""
    body, trim, texture = CONCEPT_LOOK[name]
    return paint(UNSEEN[name], body, trim, texture, background, NO_STYLE, random.Random(seed))
