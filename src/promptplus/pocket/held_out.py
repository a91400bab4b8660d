"""The concepts that are kept for inversion: in no training picture, and no caption names them.

Fourteen of the objects are drawn by hand, ten composed as made-up nouns are. `dev` concepts serve search and tuning;
`report` concepts are looked at for tables alone.
"""

import random

from promptplus.pocket.world.composed import Plan, compose, draw_plan
from promptplus.pocket.world.painting import Look
from promptplus.pocket.world.scenes import MADE_UP, OBJECTS
from promptplus.pocket.world.shapes import RGB
from promptplus.pocket.world.styles import UNSEEN_FINISHES
from promptplus.pocket.world.unseen import LOOKS, UNSEEN
from promptplus.pocket.world.words import PLAIN, made_up_names

UNSEEN_STYLES = tuple(UNSEEN_FINISHES)
COMPOSED: tuple[tuple[int, RGB, RGB, str], ...] = (
    (2, (160, 110, 150), (60, 190, 230), PLAIN),
    (9, (245, 200, 70), (190, 60, 90), PLAIN),
    (19, (60, 175, 170), (240, 190, 60), PLAIN),
    (21, (230, 160, 60), (150, 45, 80), "dotted"),
    (32, (250, 140, 120), (20, 100, 120), PLAIN),
    (40, (80, 140, 235), (250, 150, 70), PLAIN),
    (42, (205, 165, 115), (160, 110, 150), PLAIN),
    (48, (120, 190, 80), (120, 60, 150), "striped"),
    (54, (190, 180, 110), (110, 20, 60), PLAIN),
    (65, (240, 130, 180), (70, 130, 90), PLAIN),
)
"""Seed, body, trim, texture: two tones, none of them quite a named colour; seeds picked by eye for their variety."""


def composed_plan(seed: int) -> tuple[Plan, random.Random]:
    """A composed concept's plan, which is no made-up noun's (tested), and the generator that gives its proportions."""
    rng = random.Random(f"composed concept {seed}")
    return draw_plan(rng), rng


def object_looks() -> dict[str, Look]:
    looks = {name: Look(figure, *LOOKS[name]) for name, figure in UNSEEN.items()}
    names = made_up_names(len(MADE_UP) + len(COMPOSED), frozenset(OBJECTS))[-len(COMPOSED) :]
    for name, (seed, body, trim, texture) in zip(names, COMPOSED, strict=True):
        looks[name] = Look(compose(*composed_plan(seed)), body, trim, texture)
    return looks


UNSEEN_OBJECTS = object_looks()
DRAWN_FOR_DEV = ("robot", "teapot", "key", "octopus", "camera", "dinosaur", "lighthouse")
DEV = (*DRAWN_FOR_DEV, *(name for number, name in enumerate(UNSEEN_OBJECTS) if number >= len(UNSEEN) and number % 2))
REPORT = tuple(name for name in UNSEEN_OBJECTS if name not in DEV)
assert len(DEV) == len(REPORT) == 12
