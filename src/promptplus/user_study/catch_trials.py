"""Catch trials: pairs with a known right answer, which show who does not look."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from promptplus.user_study.design import Question
from promptplus.user_study.items import Item

TILES = 8  # per side of a scrambled picture: nothing in it can be recognised (our choice)


@dataclass(frozen=True)
class CatchTrial:
    """A question about two pictures, one of which is clearly right."""

    question: str
    concept: str
    prompt: str
    right: Image.Image = field(repr=False)
    wrong: Image.Image = field(repr=False)


def catch_trials(
    items: Sequence[Item],
    real: Mapping[str, Sequence[Image.Image]],
    questions: Sequence[Question],
    count: int,
    generator: random.Random,
) -> list[CatchTrial]:
    """``count`` catch trials for each question, on different items where there are enough.

    A question with real pictures alone: a real picture is right; wrong is one of another concept, or where there is
    none, a scrambled one. Other questions: a method's picture is right, and a scrambled one is wrong.
    """
    trials: list[CatchTrial] = []
    for question in questions:
        order = generator.sample(list(items), len(items))
        for number in range(count):
            item = order[number % len(order)]
            others = [name for name in real if name != item.concept]
            if question.real and not question.prompt and real.get(item.concept):
                right = generator.choice(list(real[item.concept]))
                wrong = (
                    generator.choice(list(real[generator.choice(others)])) if others else _scrambled(right, generator)
                )
            else:
                right = item.pictures[generator.choice(list(item.pictures))]
                wrong = _scrambled(right, generator)
            prompt = item.prompt if question.prompt else ""
            trials.append(CatchTrial(question.name, item.concept, prompt, right, wrong))
    return trials


def _scrambled(picture: Image.Image, generator: random.Random) -> Image.Image:
    """A picture cut into tiles that change places: the same colours, and nothing to recognise."""
    side = min(picture.size) // TILES * TILES
    picture = picture.convert("RGB").resize((side, side))
    step = side // TILES
    places = [(x, y) for y in range(0, side, step) for x in range(0, side, step)]
    result = Image.new("RGB", picture.size)
    for (x, y), place in zip(generator.sample(places, len(places)), places, strict=True):
        result.paste(picture.crop((x, y, x + step, y + step)), place)
    return result
