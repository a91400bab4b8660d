"""The words of the drawn world: how a scene is put into a caption.

Captions paraphrase, drop attributes and wrap themselves into Textual Inversion's neutral templates ("a dark photo of
the …"), whose adjectives change nothing in the picture: the text encoder learns to ignore them, so that the templates
used by inversion are in distribution.
"""

import random
from typing import TYPE_CHECKING

from promptplus.templates import OBJECT_TEMPLATES

if TYPE_CHECKING:
    from .world import Scene

NO_STYLE = "none"
PLAIN = "plain"
ANY_OBJECT = ("object", "thing")
TEXTURE_WORDS = {
    PLAIN: (PLAIN,),
    "striped": ("striped",),
    "dotted": ("dotted", "polka dot"),
    "checkered": ("checkered",),
}
BACKGROUND_FORMS = (
    "on a {} background",
    "on a {} background",
    "with a {} background",
    "in front of a {} background",
)
STYLE_FORMS = ("{0}, {1}", "{0}, {1}", "{0}, {1} style", "{0} in {1} style", "a {1} of {0}")

PICTURE_FORMS = ("{}", "{}", "a photo of {}", "a picture of {}", "an image of {}")

# How often captions vary. From the pocket spike, except TEMPLATE, SWAP and KEEP_TRIM (our choice).
BARE = 0.07
"""Share of captions that are one attribute word alone."""
KEEP_COLOUR, KEEP_TEXTURE, KEEP_OBJECT, KEEP_BACKGROUND, KEEP_STYLE = 0.85, 0.85, 0.93, 0.75, 0.88
KEEP_TRIM = 0.9
SAY_PLAIN = 0.25
NO_ARTICLE = 0.1
TEMPLATE = 0.35
SWAP = 0.15
"""Share of captions that say "striped red" instead of "red striped"."""


def with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def bare_caption(scene: "Scene", rng: random.Random) -> str:
    """One attribute, nothing else: "red", "polka dot", "sketch", "night background"."""
    words = [
        scene.object,
        scene.colour,
        rng.choice(TEXTURE_WORDS[scene.texture]),
        f"{scene.background} background",
        scene.object if scene.style == NO_STYLE else scene.style,
    ]
    return rng.choice(words)


def caption(scene: "Scene", rng: random.Random, full: bool = False) -> str:
    """Put `scene` into words; `full` names all five attributes plainly, otherwise some are dropped or paraphrased."""

    def keep(probability: float) -> bool:
        return full or rng.random() < probability

    def sometimes(probability: float) -> bool:
        return not full and rng.random() < probability

    if sometimes(BARE):
        return bare_caption(scene, rng)
    adjectives = [scene.colour] if keep(KEEP_COLOUR) else []
    if keep(SAY_PLAIN if scene.texture == PLAIN else KEEP_TEXTURE):
        adjectives.append(TEXTURE_WORDS[scene.texture][0] if full else rng.choice(TEXTURE_WORDS[scene.texture]))
    if sometimes(SWAP):
        adjectives.reverse()
    name = scene.object if keep(KEEP_OBJECT) else rng.choice(ANY_OBJECT)
    noun = " ".join([*adjectives, name])
    if scene.trim and keep(KEEP_TRIM):
        noun += f" with {scene.trim} trim"
    place = " " + rng.choice(BACKGROUND_FORMS).format(scene.background) if keep(KEEP_BACKGROUND) else ""
    style = scene.style if scene.style != NO_STYLE and keep(KEEP_STYLE) else None
    if sometimes(TEMPLATE):
        text = rng.choice(OBJECT_TEMPLATES).format(noun + place)
        return rng.choice(STYLE_FORMS[:-1]).format(text, style) if style else text
    text = (noun if sometimes(NO_ARTICLE) else with_article(noun)) + place
    if style:
        return rng.choice(STYLE_FORMS).format(text, style)
    return text if full else rng.choice(PICTURE_FORMS).format(text)
