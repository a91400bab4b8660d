"""Captions: a scene of the drawn world, described in words.

A caption may drop attributes, paraphrase them, or put them into one of Textual Inversion's neutral templates ("a dark
photo of the …"). The adjectives of these templates change nothing in the picture. So the text encoder learns to ignore
them, and the templates that inversion uses are part of the training distribution.
"""

import random

from promptplus.pocket.world.scenes import Scene, Thing, shapes_by_noun
from promptplus.pocket.world.words import NO_STYLE, PLAIN
from promptplus.templates import OBJECT_TEMPLATES

ANY_OBJECT = ("object", "thing")
TEXTURE_WORDS = {"dotted": ("dotted", "polka dot")}
"""Words for a texture; a texture that is not listed has its own name only."""
TRIM_FORMS = ("with {1} {2}", "with {1} {2}", "with {0} body and {1} {2}", "and {1} {2}")
"""Formats of (body colour, trim colour, name of the trim). Where the body colour is in the format, it is not repeated
before the noun."""
PAIR_FORMS = ("{0} and {1}", "{0} and {1}", "{0} next to {1}", "{0} left of {1}", "{1} right of {0}")
BACKGROUND_FORMS = (
    "on a {} background",
    "on a {} background",
    "with a {} background",
    "in front of a {} background",
)
STYLE_FORMS = ("{0}, {1}", "{0}, {1}", "{0}, {1} style", "{0} in {1} style", "a {1} of {0}")
PICTURE_FORMS = ("{}", "{}", "a photo of {}", "a picture of {}", "an image of {}")

# Probabilities. All are our choice: some were set in a first experiment that was not kept.
BARE = 0.05
"""Probability that a caption is a single attribute."""
KEEP_COLOUR, KEEP_TEXTURE, KEEP_OBJECT, KEEP_BACKGROUND, KEEP_STYLE = 0.88, 0.9, 0.95, 0.78, 0.94
KEEP_TRIM = 0.92
"""Probabilities that an attribute is named; KEEP_OBJECT: that the noun is not replaced by a word of `ANY_OBJECT`."""
NAME_PLAIN, NAME_NO_STYLE = 0.3, 0.5
"""Probabilities that the usual texture ("plain") and the usual style ("cartoon") are named."""
NO_ARTICLE = 0.1
TEMPLATE = 0.35
"""Probability that a caption of one object uses one of Textual Inversion's templates."""
SWAP = 0.15
"""Probability of "striped red" instead of "red striped"."""


def with_article(noun: str) -> str:
    """`noun` with "a" or "an"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def texture_word(texture: str, rng: random.Random) -> str:
    """A random one of the words for `texture`."""
    return rng.choice(TEXTURE_WORDS.get(texture, (texture,)))


def bare_caption(scene: Scene, rng: random.Random) -> str:
    """A single attribute: "red", "polka dot", "sketch", "night background"."""
    thing = rng.choice(scene.things)
    words = [thing.noun, thing.noun, thing.colour, texture_word(thing.texture, rng)]
    return rng.choice([*words, f"{scene.background} background", scene.style])


def thing_words(thing: Thing, rng: random.Random, short: bool) -> str:
    """A noun with its adjectives and trim, without an article; `short` uses only the shortest form for the trim."""
    words = [thing.colour] if rng.random() < KEEP_COLOUR else []
    if rng.random() < (NAME_PLAIN if thing.texture == PLAIN else KEEP_TEXTURE):
        words.append(texture_word(thing.texture, rng))
    if rng.random() < SWAP:
        words.reverse()
    trim = ""
    if thing.trim and rng.random() < KEEP_TRIM:
        form = rng.choice(TRIM_FORMS[:1] if short else TRIM_FORMS)
        if "{0}" in form and thing.colour in words:
            words.remove(thing.colour)
        trim = " " + form.format(thing.colour, thing.trim, shapes_by_noun()[thing.noun].trim)
    if thing.adjective:
        words.insert(0, thing.adjective)
    noun = thing.noun if rng.random() < KEEP_OBJECT else rng.choice(ANY_OBJECT)
    return " ".join([*words, noun]) + trim


def full_caption(scene: Scene) -> str:
    """All attributes of a scene in a fixed form: the prompts of the caption test."""
    things = []
    for thing in scene.things:
        noun = " ".join(filter(None, [thing.adjective, thing.colour, thing.texture, thing.noun]))
        trim = f" with {thing.trim} {shapes_by_noun()[thing.noun].trim}" if thing.trim else ""
        things.append(with_article(noun) + trim)
    return f"{' and '.join(things)} on a {scene.background} background, {scene.style}"


def caption(scene: Scene, rng: random.Random) -> str:
    """A random caption of `scene`: some attributes are dropped, others paraphrased."""
    if rng.random() < BARE:
        return bare_caption(scene, rng)
    pair = len(scene.things) > 1
    things = [thing_words(thing, rng, short=pair) for thing in scene.things]
    place = " " + rng.choice(BACKGROUND_FORMS).format(scene.background) if rng.random() < KEEP_BACKGROUND else ""
    style_named = rng.random() < (NAME_NO_STYLE if scene.style == NO_STYLE else KEEP_STYLE)
    forms, style = STYLE_FORMS if style_named else ("{0}",), scene.style
    if pair:
        words = rng.choice(PAIR_FORMS).format(*map(with_article, things)) + place
        return rng.choice(forms).format(words, style)
    if rng.random() < TEMPLATE:
        return rng.choice(forms[:4]).format(rng.choice(OBJECT_TEMPLATES).format(things[0] + place), style)
    words = (things[0] if rng.random() < NO_ARTICLE else with_article(things[0])) + place
    return rng.choice(forms if style_named else PICTURE_FORMS).format(words, style)
