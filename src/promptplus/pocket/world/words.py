"""The words for colours, textures, backgrounds, styles and adjectives, and the made-up nouns. All are our choice."""

import random

from promptplus.pocket.world.shapes import RGB

PLAIN = "plain"
NO_STYLE = "cartoon"
"""The style of a picture that no function of `styles` changes."""

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
TEXTURES = (PLAIN, "striped", "dotted", "checkered", "ringed")
BACKGROUNDS = ("white", "sky", "grass", "sand", "night", "sunset", "brick", "water")
STYLES = (NO_STYLE, "pixel art", "watercolor", "sketch", "comic", "neon", "stained glass")
ADJECTIVES = ("tall", "wide", "tiny", "tilted")

STARTS = (
    "b",
    "bl",
    "d",
    "dr",
    "f",
    "fl",
    "g",
    "gr",
    "j",
    "k",
    "kl",
    "m",
    "n",
    "p",
    "pl",
    "qu",
    "s",
    "sn",
    "t",
    "tr",
    "v",
    "w",
    "z",
)
VOWELS = ("a", "e", "i", "o", "u", "oo", "ee")
ENDS = ("b", "ck", "d", "f", "g", "lp", "m", "mp", "n", "ng", "p", "rk", "sh", "t", "x", "zz")


def made_up_names(count: int, taken: frozenset[str]) -> tuple[str, ...]:
    """The first `count` pronounceable words without a meaning ("blorpeen") that are not in `taken`; always the same."""
    rng = random.Random("made-up names")
    names: dict[str, None] = {}
    while len(names) < count:
        name = "".join(rng.choice(part) for part in (STARTS, VOWELS, ENDS, VOWELS, ENDS))
        if name not in taken:
            names[name] = None
    return tuple(names)
