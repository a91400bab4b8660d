"""Build a study: blinded pictures, balanced pairs, catch trials, and the rules that are fixed before the first vote."""

import hashlib
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from PIL import Image

from promptplus.errors import StudyError, warn
from promptplus.files import check_folder
from promptplus.user_study.catch_trials import CatchTrial, catch_trials
from promptplus.user_study.design import (
    Pair,
    PairKey,
    Question,
    Rules,
    StudyDesign,
    StudyKey,
)
from promptplus.user_study.items import Item
from promptplus.user_study.study_files import BlindedPictures, write_study

CONSENT = """You will see two pictures at a time, made by computer programs, and say which of them answers a question \
better.

Taking part is voluntary. You may stop at any time, and go on later with the code that you get.

Your answers are stored under this random code, and published without it. Your name, your address on the network and \
the time of your answers are not stored. A cookie in this browser holds your place in the study."""
QUESTIONS = {
    "subject": Question(
        name="subject", text="Which picture shows the thing in the real pictures better?", real=True, prompt=False
    ),
    "text": Question(name="text", text="Which picture fits the text better?", real=False, prompt=True),
}
MAX_SIDE = 768  # pixels of a picture in the study: two fit beside each other on a screen (our choice)
MAX_REAL = 4  # real pictures that are shown (our choice)
PAIRS_EACH = 30  # pairs of a participant, by default: about ten minutes with two questions (our choice)


@dataclass(frozen=True)
class StudyPlan:
    """What the maker of a study decides.

    Attributes:
        title, consent: texts of the first page.
        questions: what is asked about every pair.
        participants: how many must answer everything before the study closes.
        pairs: for each two methods and each concept; None: as many as every concept has.
        pairs_each: pairs of one participant; None: all, at most ``PAIRS_EACH``.
        catch: catch trials for each question.
        most_wrong: wrong answers in catch trials that are forgiven.
    """

    title: str = "Which picture is better?"
    consent: str = CONSENT
    questions: Sequence[Question] = tuple(QUESTIONS.values())
    participants: int = 20
    pairs: int | None = None
    pairs_each: int | None = None
    catch: int = 3
    most_wrong: int = 1
    seed: int = 0


def build(
    items: Sequence[Item], real: Mapping[str, Sequence[Image.Image]], plan: StudyPlan, folder: Path
) -> StudyDesign:
    """Build a study in a new folder; the same input gives the same files.

    Args:
        items: what is compared; all have the same methods.
        real: pictures of each concept, for questions that show them.
        plan: the maker's decisions.
        folder: a new or empty folder.

    Returns the design. Raises StudyError where the plan does not fit the items, and OutputError or WriteError where
    the folder cannot be written.
    """
    _check(items, real, plan)
    check_folder(folder, new=True)
    sides = {min(picture.size) for item in items for picture in item.pictures.values()}
    if len(sides) > 1:
        warn(f"pictures have sides of {min(sides)} to {max(sides)} pixels; all are made as small as the smallest")
    blinded = BlindedPictures(min(*sides, MAX_SIDE), plan.seed)
    chosen, per_concept = _choose(items, plan)
    generator = random.Random(_digest(items, blinded, plan))
    shown = {concept: [blinded.add(one) for one in pictures[:MAX_REAL]] for concept, pictures in real.items()}
    pairs, keys = _pairs(chosen, per_concept, shown, blinded, plan, generator)
    unseen = {concept: pictures[MAX_REAL:] or pictures for concept, pictures in real.items()}
    trials = catch_trials(chosen, unseen, plan.questions, plan.catch, generator)
    for number, trial in enumerate(trials):
        pair, key = _catch_pair(number, trial, shown, blinded, generator)
        pairs.append(pair)
        keys[pair.id] = key
    key = StudyKey(methods=tuple(chosen[0].pictures), seed=plan.seed, pairs=dict(sorted(keys.items())))
    key_file = (key.model_dump_json(indent=1) + "\n").encode()
    ordinary = sum(not pair.everyone for pair in pairs)
    design = StudyDesign(
        title=plan.title,
        consent=plan.consent,
        size=blinded.size,
        order_key=f"{generator.getrandbits(128):032x}",
        key_sha256=hashlib.sha256(key_file).hexdigest(),
        questions=tuple(plan.questions),
        pairs=tuple(pairs),
        rules=Rules(
            participants=plan.participants,
            pairs_each=min(plan.pairs_each or PAIRS_EACH, ordinary),
            most_wrong=plan.most_wrong,
        ),
    )
    write_study(folder, design, key_file, trials, blinded)
    return design


def _check(items: Sequence[Item], real: Mapping[str, Sequence[Image.Image]], plan: StudyPlan) -> None:
    """Raise StudyError where a question shows what is not there, or the catch rule decides nothing."""
    asked = {question.name: question for question in plan.questions}
    if not asked or len(asked) < len(plan.questions):
        raise StudyError("give every question once, and at least one")
    needs_real = [question.name for question in plan.questions if question.real]
    if needs_real and any(not real.get(item.concept) for item in items):
        raise StudyError(f"the question {needs_real[0]!r} shows real pictures; name their folder: --real FOLDER")
    needs_prompt = [question.name for question in plan.questions if question.prompt]
    without = next((item for item in items if not item.prompt), None)
    if needs_prompt and without:
        raise StudyError(
            f"the question {needs_prompt[0]!r} shows the prompt, and that of {without.concept}/{without.name} is not "
            'known; write a prompts.json into its folder, as {"a.png": "a red car"}, or leave the question out'
        )
    if plan.catch and plan.most_wrong >= plan.catch * len(plan.questions):
        raise StudyError(
            f"{plan.most_wrong} wrong answers of {plan.catch * len(plan.questions)} catch trials exclude nobody; "
            "lower --most-wrong"
        )


def _choose(items: Sequence[Item], plan: StudyPlan) -> tuple[list[Item], int]:
    """The items that are compared, and how many each concept has: the same number for all."""
    by_concept: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_concept[item.concept].append(item)
    least = min(map(len, by_concept.values()))
    count = plan.pairs or least
    if count > least:
        fewest = min(by_concept, key=lambda concept: len(by_concept[concept]))
        raise StudyError(
            f"{fewest} has {least} pictures of each method, fewer than the {count} pairs; give more, or --pairs"
        )
    left = sum(len(several) - count for several in by_concept.values())
    if left and plan.pairs is None:
        warn(f"left out {left} items, so that every concept has the same number: {count}")
    generator = random.Random(f"{plan.seed}:items")
    return [one for several in by_concept.values() for one in generator.sample(several, count)], count


def _digest(items: Sequence[Item], blinded: BlindedPictures, plan: StudyPlan) -> str:
    """A hash of everything that is compared. Random draws from it cannot be guessed from the seed alone."""
    digest = hashlib.sha256(repr(plan).encode())
    for item in items:
        digest.update(repr((item.concept, item.name, item.prompt)).encode())
        for method, picture in item.pictures.items():
            digest.update(method.encode() + picture.convert("RGB").tobytes())
    return digest.hexdigest()


def _pairs(
    items: Sequence[Item],
    per_concept: int,
    real: Mapping[str, Sequence[str]],
    blinded: BlindedPictures,
    plan: StudyPlan,
    generator: random.Random,
) -> tuple[list[Pair], dict[str, PairKey]]:
    """All pairs. Of every two methods and concept, each method is on the left as often as on the right, up to one.

    In the order of the pairs, every round holds each two methods and each concept once, so that any share of the pairs
    is balanced too.
    """
    ids = {(item.concept, item.name, method): blinded.add(p) for item in items for method, p in item.pictures.items()}
    questions = tuple(question.name for question in plan.questions)
    shows_prompt = any(question.prompt for question in plan.questions)
    rounds: list[list[tuple[Pair, PairKey]]] = [[] for _ in range(per_concept)]
    for methods in combinations(items[0].pictures, 2):
        turn = generator.randrange(2)
        for position, item in enumerate(items):
            a, b = methods[:: 1 if turn else -1]
            turn = 1 - turn
            pair = Pair(
                id=f"{generator.getrandbits(64):016x}",
                a=ids[item.concept, item.name, a],
                b=ids[item.concept, item.name, b],
                prompt=item.prompt if shows_prompt else "",
                real=tuple(real.get(item.concept, ())),
                questions=questions,
                everyone=False,
            )
            key = PairKey(concept=item.concept, item=item.name, a=a, b=b)
            rounds[position % per_concept].append((pair, key))
    for one in rounds:
        generator.shuffle(one)
    made = [pair for one in rounds for pair in one]
    return [pair for pair, _ in made], {pair.id: key for pair, key in made}


def _catch_pair(
    number: int,
    trial: CatchTrial,
    real: Mapping[str, Sequence[str]],
    blinded: BlindedPictures,
    generator: random.Random,
) -> tuple[Pair, PairKey]:
    """A catch trial as a pair. Right answers are A and B in turn."""
    pictures = blinded.add(trial.right), blinded.add(trial.wrong)
    a, b = pictures if number % 2 == 0 else pictures[::-1]
    pair = Pair(
        id=f"{generator.getrandbits(64):016x}",
        a=a,
        b=b,
        prompt=trial.prompt,
        real=tuple(real.get(trial.concept, ())),
        questions=(trial.question,),
        everyone=True,
    )
    return pair, PairKey(concept=trial.concept, item="", a="", b="", right="A" if number % 2 == 0 else "B")
