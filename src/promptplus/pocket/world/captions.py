"""How a scene of the drawn world is put into words.

Captions paraphrase, drop attributes and wrap themselves into Textual Inversion's neutral templates ("a dark photo of
the …"), whose adjectives change nothing in the picture: the text encoder learns to ignore them, so that the templates
used by inversion are in distribution.
"""

import random

from promptplus.pocket.world.scenes import Scene, Thing, figures
from promptplus.pocket.world.words import NO_STYLE, PLAIN
from promptplus.templates import OBJECT_TEMPLATES

ANY_OBJECT = ("object", "thing")
TEXTURE_WORDS = {"dotted": ("dotted", "polka dot")}
"""Paraphrases of textures; the others have none."""
TRIM_FORMS = ("with {1} {2}", "with {1} {2}", "with {0} body and {1} {2}", "and {1} {2}")
"""Body colour, trim colour, the trim's name. The third names the body's colour, which is then not said before."""
PAIR_FORMS = ("{0} and {1}", "{0} and {1}", "{0} next to {1}", "{0} left of {1}", "{1} right of {0}")
BACKGROUND_FORMS = (
    "on a {} background",
    "on a {} background",
    "with a {} background",
    "in front of a {} background",
)
STYLE_FORMS = ("{0}, {1}", "{0}, {1}", "{0}, {1} style", "{0} in {1} style", "a {1} of {0}")
PICTURE_FORMS = ("{}", "{}", "a photo of {}", "a picture of {}", "an image of {}")

# How often captions vary. From the pocket spike or our choice.
BARE = 0.05
"""Share of captions that are one attribute word alone."""
KEEP_COLOUR, KEEP_TEXTURE, KEEP_OBJECT, KEEP_BACKGROUND, KEEP_STYLE = 0.88, 0.9, 0.95, 0.78, 0.94
KEEP_TRIM = 0.92
SAY_PLAIN, SAY_NO_STYLE = 0.3, 0.5
NO_ARTICLE = 0.1
TEMPLATE = 0.35
SWAP = 0.15
"""Share of captions that say "striped red" instead of "red striped"."""


def with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def texture_word(texture: str, rng: random.Random) -> str:
    return rng.choice(TEXTURE_WORDS.get(texture, (texture,)))


def bare_caption(scene: Scene, rng: random.Random) -> str:
    """One attribute, nothing else: "red", "polka dot", "sketch", "night background"."""
    thing = rng.choice(scene.things)
    words = [thing.noun, thing.noun, thing.colour, texture_word(thing.texture, rng)]
    return rng.choice([*words, f"{scene.background} background", scene.style])


def thing_words(thing: Thing, rng: random.Random, short: bool) -> str:
    """A noun with its adjectives, without an article; `short` leaves the neutral paraphrases out."""
    words = [thing.colour] if rng.random() < KEEP_COLOUR else []
    if rng.random() < (SAY_PLAIN if thing.texture == PLAIN else KEEP_TEXTURE):
        words.append(texture_word(thing.texture, rng))
    if rng.random() < SWAP:
        words.reverse()
    trim = ""
    if thing.trim and rng.random() < KEEP_TRIM:
        form = rng.choice(TRIM_FORMS[:1] if short else TRIM_FORMS)
        if "{0}" in form and thing.colour in words:
            words.remove(thing.colour)
        trim = " " + form.format(thing.colour, thing.trim, figures()[thing.noun].trim)
    if thing.adjective:
        words.insert(0, thing.adjective)
    noun = thing.noun if rng.random() < KEEP_OBJECT else rng.choice(ANY_OBJECT)
    return " ".join([*words, noun]) + trim


def full_caption(scene: Scene) -> str:
    """All attributes of a scene, said plainly: what the caption test prompts with."""
    things = []
    for thing in scene.things:
        noun = " ".join(filter(None, [thing.adjective, thing.colour, thing.texture, thing.noun]))
        trim = f" with {thing.trim} {figures()[thing.noun].trim}" if thing.trim else ""
        things.append(with_article(noun) + trim)
    return f"{' and '.join(things)} on a {scene.background} background, {scene.style}"


def caption(scene: Scene, rng: random.Random) -> str:
    """Put `scene` into words as a person might: some attributes are dropped, others paraphrased."""
    if rng.random() < BARE:
        return bare_caption(scene, rng)
    pair = len(scene.things) > 1
    things = [thing_words(thing, rng, short=pair) for thing in scene.things]
    place = " " + rng.choice(BACKGROUND_FORMS).format(scene.background) if rng.random() < KEEP_BACKGROUND else ""
    said = rng.random() < (SAY_NO_STYLE if scene.style == NO_STYLE else KEEP_STYLE)
    forms, style = STYLE_FORMS if said else ("{0}",), scene.style
    if pair:
        words = rng.choice(PAIR_FORMS).format(*map(with_article, things)) + place
        return rng.choice(forms).format(words, style)
    if rng.random() < TEMPLATE:
        return rng.choice(forms[:4]).format(rng.choice(OBJECT_TEMPLATES).format(things[0] + place), style)
    words = (things[0] if rng.random() < NO_ARTICLE else with_article(things[0])) + place
    return rng.choice(forms if said else PICTURE_FORMS).format(words, style)
