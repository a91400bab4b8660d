"""Takeovers: prompt 2 gets exactly its layers and steps, and curves say what they should."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import promptplus as pp
from promptplus.errors import SettingsError
from promptplus.evaluation.judges import ClipJudge
from promptplus.experiments.takeover import (
    FORM,
    PromptPair,
    Takeover,
    Values,
    classify_by_clip,
    combine_judges,
    draw_pairs,
    fill_form,
    measure,
    single_takeovers,
    split_by_judge,
    step_takeovers,
    subset_takeovers,
    takeover_pictures,
    window_takeovers,
)
from promptplus.experiments.takeover_curves import bands, crossing, intervals, relative
from promptplus.generation import denoise, generate
from promptplus.pocket.world import Scene, Thing, render
from promptplus.profiles import PHRASES

PAIR = PromptPair(
    {"colour": "red", "object": "house", "style": "watercolor"}, {"colour": "blue", "object": "car", "style": "sketch"}
)
STEPS = 4


def seen_by(pplus: pp.PPlus, takeover: Takeover) -> list[list[str]]:
    """For each step, which prompt each layer gets: 1 or 2."""
    texts = [PAIR.prompt("first"), PAIR.prompt("second")]
    states = [pplus.encode(text)["prompt_embeds"][0, :, : pplus.width] for text in texts]
    steps: list[list[str]] = []

    def note(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        packed = kwargs["encoder_hidden_states"][-1].unflatten(-1, (len(pplus.layers), -1))
        steps.append([str(1 + int(torch.equal(packed[:, i], states[1]))) for i in range(len(pplus.layers))])

    handle = pplus.pipe.unet.register_forward_pre_hook(note, with_kwargs=True)
    try:
        takeover_pictures(pplus, [PAIR], takeover, [0], FORM, STEPS, 3.0)
    finally:
        handle.remove()
    return steps


def test_an_article_fits_its_word() -> None:
    form = "a {colour} {object}, {style}"
    assert (
        fill_form(form, {"colour": "orange", "object": "owl", "style": "oil painting"}) == "an orange owl, oil painting"
    )
    assert fill_form("A {object}", {"object": "umbrella"}) == "An umbrella"
    assert fill_form(form, {"colour": "red", "object": "plaza", "style": "comic"}) == "a red plaza, comic"


def test_prompt_2_gets_its_layers_in_its_steps(pplus: pp.PPlus) -> None:
    layers = (0, 5, 15)
    mixed = ["2" if i in layers else "1" for i in range(16)]
    plain = ["1"] * 16
    for (start, end), expected in {
        (0.0, 1.0): [mixed] * 4,
        (0.5, 1.0): [plain] * 2 + [mixed] * 2,
        (0.0, 0.25): [mixed] + [plain] * 3,
        (0.25, 0.75): [plain, mixed, mixed, plain],
        (1.0, 1.0): [plain] * 4,
    }.items():
        assert seen_by(pplus, Takeover(layers, start, end)) == expected
    assert seen_by(pplus, Takeover(())) == [plain] * 4


def test_taking_over_with_the_same_prompt_changes_nothing(pplus: pp.PPlus) -> None:
    kwargs = pplus.encode("a red house")
    call: dict[str, Any] = {"steps": 3, "guidance": 3.0}
    (plain,) = denoise(pplus.pipe, kwargs, [0], **call)
    (again,) = denoise(pplus.pipe, kwargs, [0], **call, prompt_schedule={1: kwargs["prompt_embeds"]})
    assert list(plain.get_flattened_data()) == list(again.get_flattened_data())


def test_the_ends_are_the_two_prompts(pplus: pp.PPlus) -> None:
    for takeovers in (subset_takeovers(pplus.layers), single_takeovers(pplus.layers), step_takeovers(pplus.layers)):
        for takeover, which in ((takeovers[0], "first"), (takeovers[-1], "second")):
            (picture,) = takeover_pictures(pplus, [PAIR], takeover, [3], FORM, 2, 3.0)
            (stock,) = generate(pplus, [PAIR.prompt(which)], [3], steps=2, guidance=3.0)
            assert list(picture.get_flattened_data()) == list(stock.get_flattened_data())


def test_takeovers_cover_what_they_should(pplus: pp.PPlus) -> None:
    layers = pplus.layers
    assert [len(t.layers) for t in subset_takeovers(layers)] == [0, 1, 3, 6, 8, 11, 13, 16]
    blocks = [(0, 1), (2, 3), (4, 5), (7, 8, 9), (10, 11, 12), (13, 14, 15)]  # but the mid block, which is layer 6
    assert [t.layers for t in single_takeovers(layers)[1:-1]] == [*((i,) for i in range(16)), *blocks]
    assert [round(t.start, 3) for t in step_takeovers(layers, 5)] == [1, 0.75, 0.5, 0.25, 0]
    windows = window_takeovers(layers, 2)[1:-1]
    assert sorted(i for t in windows for i in t.layers) == sorted(2 * list(range(16)))
    assert {(t.start, t.end) for t in windows} == {(0, 0.5), (0.5, 1)}


def test_measure_means_over_seeds(pplus: pp.PPlus) -> None:
    """A judge that counts: each picture's score is its running number."""
    asked: list[Values] = []

    def score(images: Sequence[Image.Image], wanted: Sequence[Values]) -> dict[str, np.ndarray]:
        asked.extend(wanted)
        first = len(asked) - len(wanted)
        return {"object": np.arange(first, first + len(images), dtype=float)}

    pairs = [PAIR, PromptPair(PAIR.second, PAIR.first)]
    takeovers = [Takeover(()), Takeover((3,))]
    found = measure(pplus, pairs, takeovers, [0, 1], score, steps=1)
    assert found["object"].tolist() == [[0.5, 4.5], [2.5, 6.5]]
    assert [values["object"] for values in asked[:4]] == ["car", "car", "house", "house"]


def test_judges_are_asked_together_and_told_apart() -> None:
    def count(images: Sequence[Any], _wanted: Sequence[Values]) -> dict[str, np.ndarray]:
        return {"object": np.ones(len(images)), "colour": np.zeros(len(images))}

    def none(images: Sequence[Any], _wanted: Sequence[Values]) -> dict[str, np.ndarray]:
        return {"object": np.full(len(images), 7.0)}

    found = split_by_judge(
        combine_judges({"a": count, "b/c": none, "b": none})([Image.new("RGB", (1, 1))] * 2, [PAIR.first] * 2)
    )
    assert {judge: {name: v.tolist() for name, v in own.items()} for judge, own in found.items()} == {
        "a": {"object": [1, 1], "colour": [0, 0]},
        "b/c": {"object": [7, 7]},
        "b": {"object": [7, 7]},
    }


def test_clip_names_what_a_render_shows() -> None:
    words = {"colour": ("red", "blue", "white"), "object": ("car", "house", "flower")}
    names = classify_by_clip(ClipJudge.load(), PHRASES, words)
    scenes = [Scene((Thing(noun, colour),), "white") for noun in words["object"] for colour in words["colour"]]
    seen = names([render(scene, seed) for seed, scene in enumerate(scenes)])
    right = [seen["object"][i] == scene.things[0].noun for i, scene in enumerate(scenes)]
    assert sum(right) >= 7
    assert sum(seen["colour"][i] == scene.things[0].colour for i, scene in enumerate(scenes)) >= 7


def test_pairs_differ_in_everything() -> None:
    words = {"colour": ("red", "blue", "green"), "object": ("house", "car"), "style": ("sketch", "neon")}
    pairs = draw_pairs(words, 50)
    assert pairs == draw_pairs(words, 50)
    assert pairs != draw_pairs(words, 50, seed=1)
    assert all(pair.first[name] != pair.second[name] for pair in pairs for name in words)
    assert len({pair.prompt("first") for pair in pairs}) > 5
    with pytest.raises(SettingsError, match="style: two words"):
        draw_pairs({**words, "style": ("neon", "neon")}, 1)


def test_curves() -> None:
    assert relative(np.array([[0.2, 0.4, 0.6], [0.2, 0.2, 0.6]])).tolist() == pytest.approx([0, 0.25, 1])
    assert crossing(np.array([0, 0.25, 0.75, 1])) == pytest.approx(1.5)
    assert crossing(np.array([0, 0.1, 0.2])) == 2
    rng = np.random.default_rng(0)
    early = (rng.random((64, 8)) < np.linspace(0, 1, 8) ** 0.3).astype(float)
    late = (rng.random((64, 8)) < np.linspace(0, 1, 8) ** 3).astype(float)
    found = intervals({"object": early, "colour": late}, [("object", "colour")])
    assert found["object"].value < found["colour"].value
    assert found["object < colour"].low > 0
    low, high = bands(late)
    assert (low <= relative(late) + 1e-9).all()
    assert (relative(late) <= high + 1e-9).all()
    assert (high - low)[1:-1].min() > 0
