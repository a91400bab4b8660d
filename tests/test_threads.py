"""Any number of threads may encode, with several PPlus on one pipeline, beside stock calls and a training."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from PIL import Image
from torch import Tensor

import promptplus as pp
from promptplus.generation import generate
from tests import tiny_models
from tests.conftest import make_concept

Call = tuple[Callable[[], Tensor], Tensor]


def calls(pipe: Any) -> tuple[list[pp.PPlus], list[Call]]:
    """Two PPlus on one pipeline, and calls of both and of the stock pipeline with the right result of each."""
    one, two = pp.PPlus(pipe), pp.PPlus(pipe)
    concept = make_concept(one, "<x>", 1, vectors=2)
    one.add(concept)
    one.add(make_concept(one, "<y>", 2))
    two.add(replace(concept, rows=-concept.rows))  # the same token, other rows
    prompts = ["a <x>", "a <y> || coarse: a <x> and a <x>", "a red car", "a <x> " + "and a house " * 3]
    made: list[Callable[[], Tensor]] = [
        lambda p=p, owner=owner: owner.encode(p)["prompt_embeds"]
        for owner in (one, two)
        for p in prompts
        if owner is one or "<y>" not in p
    ]
    turns = threading.Lock()  # of stock calls alone: two at once disturb each other's tokenizer also without P+

    def stock(text: str) -> Tensor:
        with turns:
            return pipe.encode_prompt(text, "cpu", 1, False)[0]

    made += [lambda t=text: stock(t) for text in ("a red car", "a blue house on a white background")]
    with torch.no_grad():
        return [one, two], [(call, call().clone()) for call in made]


def wrong_results(todo: list[Call], threads: int, each: int) -> int:
    """Run mixed calls in several threads that start together; returns the number of wrong results."""
    begin = threading.Barrier(threads)

    def work(number: int) -> int:
        order = random.Random(number)
        begin.wait()
        wrong = 0
        with torch.no_grad():
            for _ in range(each):
                call, expected = order.choice(todo)
                wrong += not torch.allclose(call(), expected, rtol=1e-4, atol=1e-5)
        return wrong

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(work, range(threads)))


def test_every_thread_gets_its_own_rows(pipe: Any) -> None:
    owners, todo = calls(pipe)
    assert wrong_results(todo, threads=8, each=10) == 0
    for owner in owners:
        owner.remove()


@pytest.mark.slow
def test_eight_threads_with_a_thousand_calls_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a tiny model and without checks of shapes: the shorter a call, the more often threads meet."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    owners, todo = calls(tiny_models.stable_diffusion())
    assert wrong_results(todo, threads=8, each=1000) == 0
    for owner in owners:
        owner.remove()


@pytest.mark.slow
def test_encoding_beside_a_training_changes_neither(pplus: pp.PPlus, pictures: list[Image.Image]) -> None:
    options: dict[str, Any] = {"token": "<new>", "initializer": "object", "steps": 6, "batch_size": 2}
    alone = pp.invert(pplus, pictures, progress=False, **options)
    owners, todo = calls(pplus.pipe)
    learned: list[pp.Concept] = []
    training = threading.Thread(
        target=lambda: learned.append(pp.invert(pplus, pictures, progress=False, preview_every=3, **options))
    )
    training.start()
    wrong = wrong_results(todo, threads=2, each=40)
    training.join()
    assert wrong == 0
    torch.testing.assert_close(learned[0].rows, alone.rows, rtol=1e-4, atol=1e-6)
    assert all(weight.requires_grad for weight in pplus.pipe.text_encoder.parameters())
    for owner in owners:
        owner.remove()


def test_pictures_in_threads_are_those_of_one_thread(pplus: pp.PPlus) -> None:
    """The scheduler's state belongs to a call, too."""
    prompts = ["a red house", "a blue car", "a green cat", "a cube"]

    def draw(number: int) -> Image.Image:
        return generate(pplus, [prompts[number]], [number], steps=4 + number)[0]

    alone = [draw(number) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(draw, range(4)))
    assert [one.tobytes() for one in alone] == [one.tobytes() for one in together]


def test_two_trainings_at_once_leave_the_pipeline_as_it_was(pplus: pp.PPlus, pictures: list[Image.Image]) -> None:
    def learn(number: int) -> pp.Concept:
        options: dict[str, Any] = {"token": f"<n{number}>", "initializer": "object", "batch_size": 1}
        return pp.invert(pplus, pictures, progress=False, steps=3 + 3 * number, **options)

    alone = [learn(number) for number in range(2)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(learn, range(2)))
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one.rows, other.rows, rtol=1e-4, atol=1e-6)
    parts = (pplus.pipe.unet, pplus.pipe.text_encoder, pplus.pipe.vae)
    assert all(weight.requires_grad and weight.grad is None for part in parts for weight in part.parameters())


def test_words_that_are_added_to_the_tokenizer_later_are_known(pipe: Any, tmp_path: Path) -> None:
    import copy

    parts = {name: copy.deepcopy(pipe.components[name]) for name in ("text_encoder", "tokenizer")}
    own = type(pipe)(**{**pipe.components, **parts}, requires_safety_checker=False)
    with pp.PPlus(own) as pplus:
        before = pplus.tokenize("a zzz").ids
        own.tokenizer.add_tokens(["zzz"])
        own.text_encoder.resize_token_embeddings(len(own.tokenizer), mean_resizing=False)
        after = pplus.tokenize("a zzz")
        assert after.ids != before
        assert after.ids[2] == len(own.tokenizer) - 1
        pplus.add(make_concept(pplus, "<x>", 1))
        changed = pplus.encode("a <x>")["prompt_embeds"].unflatten(-1, (16, -1))
        assert not torch.equal(changed[:, :, 0], changed[:, :, 1])
