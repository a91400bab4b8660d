"""The study of concepts of one attribute: its things, texts and judge, and its tables."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import promptplus as pp
from promptplus.experiments import single_attribute as single
from promptplus.experiments.attribute_concepts import (
    CLASS_WORDS,
    LEARNED,
    Scores,
    SingleAttributeJudge,
    prompt,
    prompt_scenes,
    unseen_things,
)
from promptplus.experiments.single_attribute import CUT, OURS, TI, WAYS, differences, learn, shares_table
from promptplus.layers import LayerMap
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.held_out import DEV, REPORT
from promptplus.pocket.world import CLASSES
from promptplus.reproduce import claims

PARTS = {"dev": DEV, "report": REPORT}


@pytest.mark.parametrize("part", PARTS)
def test_things_have_unseen_shapes_and_attributes_that_have_words(part: str) -> None:
    things = unseen_things(part)
    assert [thing.shape for thing in things] == list(PARTS[part])
    for name in ("colour", "texture", "style"):
        values = [getattr(thing, name) for thing in things]
        assert set(values) <= set(CLASSES[name])
        counts = [values.count(value) for value in set(values)]
        assert max(counts) - min(counts) <= 1  # spread evenly
    assert "plain" not in {thing.texture for thing in things}
    assert "cartoon" not in {thing.style for thing in things}


def says(text: str, word: str) -> bool:
    """Whether a text has a word, or words, as a whole: "checkered" does not say "red"."""
    return f" {word} " in f" {text.replace(',', '')} "


def test_captions_say_all_but_the_attribute_and_prompts_are_of_other_scenes() -> None:
    for thing in unseen_things("report"):
        own = {"colour": thing.colour, "texture": thing.texture, "style": thing.style}
        for attribute in LEARNED:
            text = thing.template(attribute)
            assert text.count("{}") == 1
            said = {name for name, word in own.items() if says(text, word)}
            assert said == own.keys() - {attribute}
            assert thing.shape not in text
            for scene in prompt_scenes(thing, 4):
                asked = prompt(scene, attribute)
                assert asked.count("{}") == 1
                asked = asked.replace(f" on a {scene.background} background", "")  # which may be white, too
                assert not any(says(asked, word) for word in own.values())
    scene = prompt_scenes(unseen_things("report")[0], 1)[0]
    (car,) = scene.things
    assert prompt(scene, "texture").format("x") == (
        f"{'an' if car.colour[0] in 'aeiou' else 'a'} {car.colour} x {car.noun} "
        f"on a {scene.background} background, {scene.style}"
    )


@pytest.mark.parametrize("attribute", LEARNED)
def test_the_judge_sees_a_thing_s_attribute_in_true_pictures_and_not_in_the_scene_s_own(attribute: str) -> None:
    judge = SingleAttributeJudge(AttributeJudge.load(), ["umbrella", "snail"])
    thing = unseen_things("report")[1]
    scenes = prompt_scenes(thing, 1 if attribute == "shape" else 3)  # shapes are compared with many renders
    true = judge.score(attribute, thing, scenes, [thing.true_picture(attribute, s, i) for i, s in enumerate(scenes)])
    assert true.shares["has"] > 0.6
    assert true.shares["clean"] > 0.6
    assert "object" in true.kept or attribute == "shape"
    wrong = judge.score(attribute, thing, scenes, [thing.pictures()[0]] * len(scenes))  # everything leaks
    assert wrong.shares["clean"] == 0


def test_shares_count_pictures() -> None:
    scores = Scores([True, True, False, True], {"a": [True, False, True, True], "b": [True, True, True, False]})
    assert scores.clean == [True, False, True, False]
    assert scores.shares == {"has": 0.75, "clean": 0.5, "both": 0.25}


def test_layers_of_an_attribute_and_their_control_share_no_layer(pplus: pp.PPlus) -> None:
    layers: LayerMap = pplus.layers
    for attribute in LEARNED:
        own, other = (set(layers.select(each[attribute])) for each in (single.LAYERS, single.MISMATCHED))
        assert own | other == set(range(16))
        assert not own & other


def fake_scores(ways: int, things: int) -> Any:
    """Random shares by way, attribute and thing."""
    rng = random.Random(0)
    names = [way.name for way in WAYS[:ways]]
    return {
        name: {
            attribute: [{"has": rng.random(), "clean": rng.random(), "both": rng.random()} for _ in range(things)]
            for attribute in LEARNED
        }
        for name in names
    }


def test_tables_hold_the_means_and_differences_are_paired() -> None:
    scores = fake_scores(3, 8)
    table = shares_table(scores)
    assert len(table["attribute"]) == 5 * 3
    colour = np.mean([one["has"] for one in scores[OURS.name]["colour"]])
    assert table["has the attribute [95 %]"][0].startswith(f"{colour:.3f} ")
    gains = differences(scores)
    ours, theirs = (np.mean([[s["both"] for s in scores[w][a]] for a in LEARNED]) for w in (OURS.name, CUT.name))
    assert gains[CUT.name]["all four"].value == pytest.approx(ours - theirs)


def test_claims_follow_the_differences() -> None:
    def study(low: float, high: float, things: int) -> Any:
        each = {"all four": {"value": (low + high) / 2, "low": low, "high": high}}
        values = {"things": [{}] * things, "differences": {TI.name: each}}
        return single.Study("single-attribute", "", "", [], values)

    assert [claims.single_attribute(study(0.1, 0.3, 12))[0].holds] == ["yes"]
    assert claims.single_attribute(study(-0.3, -0.1, 12))[0].holds == "no"
    assert claims.single_attribute(study(-0.1, 0.1, 12))[0].holds == "undecided"
    assert claims.single_attribute(study(0.1, 0.3, 2))[0].holds == "undecided"


def test_each_way_learns_what_it_says(pplus: pp.PPlus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(single.SETTINGS, "steps", 1)
    monkeypatch.setitem(single.SETTINGS, "batch_size", 1)
    thing = unseen_things("dev")[0]
    fine = list(pplus.layers.select(single.LAYERS["colour"]))
    rest = [layer for layer in range(16) if layer not in fine]
    nice = pplus.tokenizer(CLASS_WORDS["colour"], add_special_tokens=False).input_ids
    word = pplus.encoders[0].table.detach()[nice]
    learned = {way.name: learn(pplus, way, thing, "colour").rows for way in WAYS}
    for way in (OURS, CUT):
        assert torch.equal(learned[way.name][rest], word.expand(len(rest), 1, -1))
        assert not torch.equal(learned[way.name][fine[0]], word)
    mismatched = learned[single.MISMATCH.name]
    assert torch.equal(mismatched[fine], word.expand(len(fine), 1, -1))
    assert torch.equal(learned[TI.name], learned[TI.name][:1].expand(16, -1, -1))


@pytest.mark.slow
def test_the_study_is_written_and_read_again(pplus: pp.PPlus, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setitem(single.SETTINGS, "steps", 1)
    monkeypatch.setitem(single.SETTINGS, "batch_size", 1)
    monkeypatch.setattr(single, "WAYS", (OURS, TI))
    made = single.study(pplus, 1, 1)
    made.write(tmp_path)
    again = single.Study.read(tmp_path, "single-attribute")
    assert again is not None
    assert again.values == made.values
    assert isinstance(again.sections[-1].figures[0].picture, Image.Image)
    assert set(made.values["scores"]) == {OURS.name, TI.name, single.WORDS, single.DRAWN}
    assert (tmp_path / "single-attribute-grid.png").stat().st_size < 150_000
