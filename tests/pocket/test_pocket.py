"""The bundled model, its world and its judge."""

import json
import random
import statistics
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

import promptplus as pp
from promptplus.datasets import load_pictures, read_note
from promptplus.evaluation import judges
from promptplus.evaluation.judges import ClipJudge, DinoJudge
from promptplus.evaluation.metrics import share, subject_similarity
from promptplus.generation import generate
from promptplus.pocket import CONCEPTS, LEARNED, world
from promptplus.pocket.attribute_judge import AttributeJudge
from promptplus.pocket.clip_judge import MODEL_TYPE, ClipModel
from promptplus.pocket.held_out import (
    COMPOSED,
    DEV,
    HELD_OUT_OBJECTS,
    HELD_OUT_STYLES,
    REPORT,
    composed_body_plan,
    render_object_concept,
)
from promptplus.pocket.world.composed import random_body_plan
from promptplus.pocket.world.painting import FIXED, Placement, random_placement
from promptplus.pocket.world.scenes import shapes_by_noun
from promptplus.templates import OBJECT_TEMPLATES

NAMES = sorted(p.name for p in CONCEPTS.iterdir() if p.is_dir())


@pytest.fixture(scope="module")
def judge() -> AttributeJudge:
    return AttributeJudge.load()


def scenes(count: int, seed: int = 0) -> list[world.Scene]:
    rng = random.Random(seed)
    return [world.random_scene(rng) for _ in range(count)]


def judged_scenes(count: int, seed: int = 0, held_out: bool = False) -> list[world.Scene]:
    rng = random.Random(seed)
    return [world.random_test_scene(rng, held_out) for _ in range(count)]


# ---- the world


def test_the_world_is_rich() -> None:
    assert len(world.OBJECTS) >= 40
    assert len(world.MADE_UP) >= 300
    assert len(set(world.OBJECTS) | set(world.MADE_UP)) == len(world.OBJECTS) + len(world.MADE_UP)
    assert min(map(len, (world.COLOURS, world.TEXTURES, world.BACKGROUNDS, world.STYLES))) >= 5
    assert (len(world.COLOURS), len(world.BACKGROUNDS)) >= (10, 8)
    assert len(world.STYLES) >= 6
    drawn = scenes(2000)
    assert 0.08 < share([len(scene.things) == 2 for scene in drawn])[0] < 0.16


def test_a_render_is_a_function_of_its_scene_and_seed() -> None:
    scene = scenes(1)[0]
    first, again, other = (np.asarray(world.render(scene, seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (world.SIZE, world.SIZE, 3)


def test_which_way_a_thing_faces_does_not_follow_from_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """On backgrounds that draw nothing first, where a scene and its picture could begin with the same numbers."""
    placed: list[tuple[str, str, Placement]] = []
    for seed in range(20_000):
        scene = world.random_scene(random.Random(seed))
        (thing, *others) = scene.things
        if others or thing.noun not in world.OBJECTS or scene.background not in ("white", "sky"):
            continue
        monkeypatch.setattr(world, "paint", lambda looks, background, style, rng: random_placement(rng, (), 0, 1))
        placed.append((thing.noun, thing.colour, cast(Any, world.render(scene, seed))))
    facing = Counter((noun, place.sx > 0) for noun, _, place in placed)
    guessed = sum(max(facing[noun, False], facing[noun, True]) for noun in world.OBJECTS)
    assert guessed / len(placed) < 0.65  # .97 where the two begin alike
    for colour in world.COLOURS:
        assert abs(statistics.mean(place.angle for _, other, place in placed if other == colour)) < 0.025


@pytest.mark.parametrize("attribute", ["noun", "colour", "texture", "trim", "adjective"])
def test_every_attribute_of_a_thing_is_drawn(attribute: str) -> None:
    thing = world.Thing("house", "red", "striped", "green", "tall")
    other = {"noun": "cat", "colour": "blue", "texture": "dotted", "trim": "yellow", "adjective": "wide"}
    scene = world.Scene((thing,), "sky")
    changed = world.Scene((replace(thing, **{attribute: other[attribute]}),), "sky")
    assert not np.array_equal(np.asarray(world.render(scene, 3)), np.asarray(world.render(changed, 3)))


def test_shapes_fill_their_square_and_name_their_trim() -> None:
    for noun, shape in shapes_by_noun().items():
        reach = max(max(abs(x), abs(y)) for part in shape.parts for polygon in part.polygons for x, y in polygon)
        assert 0.8 < reach < 1.2, noun
        materials = {part.material for part in shape.parts}
        assert "body" in materials, noun
        assert ("trim" in materials) == (shape.trim is not None), noun
        assert materials <= {"body", "trim", *FIXED}, noun


def test_training_scenes_never_have_a_held_out_combination() -> None:
    assert not any(thing.held_out for scene in scenes(2000) for thing in scene.things)
    assert all(scene.things[0].held_out for scene in judged_scenes(50, held_out=True))
    combinations = len(world.OBJECTS) * len(world.COLOURS) * len(world.TEXTURES)
    assert 0.07 < len(world.HELD_OUT_COMBINATIONS) / combinations < 0.13


def test_concepts_are_in_no_training_scene_and_no_caption() -> None:
    assert not set(HELD_OUT_OBJECTS) & {*world.OBJECTS, *world.MADE_UP}
    assert not set(HELD_OUT_STYLES) & set(world.STYLES)
    assert not set(DEV) & set(REPORT)
    assert (len(DEV), len(REPORT), len(HELD_OUT_STYLES)) == (12, 12, 4)
    plans = {random_body_plan(random.Random(f"made-up noun {n}")) for n in range(len(world.MADE_UP))}
    assert not plans & {composed_body_plan(seed)[0] for seed, *_ in COMPOSED}


# ---- captions


def test_no_caption_is_cut(pipe: Any) -> None:
    rng = random.Random(0)
    texts = [world.caption(scene, rng) for scene in scenes(5000)]
    texts += [world.full_caption(scene) for scene in scenes(1000)]
    longest = max(len(ids) for ids in pipe.tokenizer(texts).input_ids)
    assert longest <= pipe.tokenizer.model_max_length


def test_a_full_caption_names_every_attribute() -> None:
    for scene in judged_scenes(200):
        text, thing = world.full_caption(scene), scene.things[0]
        for word in (thing.noun, thing.colour, thing.texture, scene.background, scene.style):
            assert word in text, (scene, text)


def test_captions_drop_and_paraphrase() -> None:
    scene = world.Scene((world.Thing("house", "red", "dotted", "green", "tall"),), "sky", "sketch")
    rng = random.Random(0)
    texts = [world.caption(scene, rng) for _ in range(500)]
    assert len(set(texts)) > 100
    for word, least, most in (("red", 0.7, 1), ("polka dot", 0.2, 0.7), ("sky", 0.6, 0.95), ("green roof", 0.7, 1)):
        assert least < share([word in text for text in texts])[0] < most, word


def test_inversions_templates_are_words_the_model_was_trained_on(pipe: Any) -> None:
    for template in OBJECT_TEMPLATES:
        words = template.format("house").replace("-", " - ").split()
        assert len(pipe.tokenizer(template.format("house"), add_special_tokens=False).input_ids) == len(words)


def test_every_bundled_concept_is_whole(pplus: pp.PPlus) -> None:
    assert tuple(NAMES) == tuple(sorted((*HELD_OUT_OBJECTS, *HELD_OUT_STYLES)))
    split = json.loads((CONCEPTS / "split.json").read_text())
    assert (tuple(split["dev"]), tuple(split["report"])) == (DEV, REPORT)
    for name in NAMES:
        assert [p.size for p in load_pictures(CONCEPTS / name)] == [(64, 64)] * 5
        note = read_note(CONCEPTS / name)
        assert note.token == f"<{name}>"
        assert note.kind in ("object", "style")
        assert note.class_word in (*world.OBJECTS, world.NO_STYLE)
        assert note.initializer
        assert len(pplus.pipe.tokenizer(note.initializer, add_special_tokens=False).input_ids) == 1


def test_the_learned_concepts_belong_to_these_weights(pplus: pp.PPlus) -> None:
    """Replacing the model's weights means learning them again: ``python -m pocket_training learn``."""
    files = sorted(LEARNED.glob("*.safetensors"))
    assert files
    for file in files:
        concept = pp.Concept.load(file)
        assert concept.token == f"<{file.stem}>"
        assert concept.provenance["method"] == "xti"
        assert concept.base_model == "pocket"
        pplus.add(concept)  # warns, and so fails, where the token table is another


def test_the_pipeline_loads_in_stock_diffusers_and_draws_what_it_drew() -> None:
    from diffusers import StableDiffusionPipeline

    from promptplus.pocket import PIPELINE

    stock = StableDiffusionPipeline.from_pretrained(PIPELINE, dtype=torch.float32)
    stock.set_progress_bar_config(disable=True)
    card = json.loads((PIPELINE.parent / "card.json").read_text())
    generator = torch.Generator().manual_seed(0)
    picture = stock(card["prompt"], num_inference_steps=10, guidance_scale=5.0, generator=generator).images[0]
    small = np.asarray(picture.resize((4, 4), Image.Resampling.BOX), int)
    assert abs(small - np.array(card["picture"])).max() <= 2


def test_the_weights_are_those_of_the_card() -> None:
    import hashlib

    from promptplus.pocket import PIPELINE

    card = json.loads((PIPELINE.parent / "card.json").read_text())
    assert set(card["sha256"]) >= {
        "pipeline/unet",
        "pipeline/vae",
        "pipeline/text_encoder",
        "judge",
        "judge_clip",
        "dino",
    }
    for folder, expected in card["sha256"].items():
        weights = next((PIPELINE.parent / folder).glob("*.safetensors"))
        assert hashlib.sha256(weights.read_bytes()).hexdigest() == expected, folder


def test_the_judge_knows_fresh_renders(judge: AttributeJudge) -> None:
    drawn = judged_scenes(200, seed=77)
    answers = judge.classify([world.render(scene, 700_000_000 + i) for i, scene in enumerate(drawn)])
    for attribute, least in {"object": 0.95, "colour": 0.9, "texture": 0.85, "background": 0.97, "style": 0.9}.items():
        column = world.ATTRIBUTES.index(attribute)
        truth = [world.CLASSES[attribute][world.labels(scene)[column]] for scene in drawn]
        right = [a == b for a, b in zip(answers[attribute], truth, strict=True)]
        assert share(right)[0] >= least, attribute


def test_the_judge_of_words_names_fresh_renders() -> None:
    judge, drawn = ClipJudge.load(), judged_scenes(200, seed=78)
    embedded = judge.embed([world.render(scene, 710_000_000 + i) for i, scene in enumerate(drawn)])
    texts = judge.embed_texts([f"a photo of a {noun}" for noun in world.OBJECTS])
    answers = [world.OBJECTS[i] for i in (embedded @ texts.T).argmax(1).tolist()]
    assert share([noun == scene.things[0].noun for noun, scene in zip(answers, drawn, strict=True)])[0] >= 0.85


def test_a_drawn_clip_is_read_as_it_was_written(tmp_path: Path) -> None:
    judge = ClipJudge.load()
    text = {**judge.model.text_config, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    torch.manual_seed(0)
    model = ClipModel(text, {"object": ["house", "cat"]}).half().float().eval()
    model.save(tmp_path)
    judge.tokenizer.save_pretrained(tmp_path)
    judge.processor.save_pretrained(tmp_path)
    read = ClipJudge.load(tmp_path)
    picture, words = Image.new("RGB", (80, 80), "red"), ["a house", "a red cat on a white background"]
    written = ClipJudge(model, judge.processor, judge.tokenizer)
    assert torch.equal(read.embed([picture]), written.embed([picture]))
    assert torch.equal(read.embed_texts(words), written.embed_texts(words))
    assert read.embed_texts(words).shape == (2, 16)
    assert judges._model_type(tmp_path) == MODEL_TYPE
    assert MODEL_TYPE in judges.CLIP_LOADERS
    assert not judges._model_type(tmp_path / "nowhere")


def test_the_judge_of_likeness_tells_concepts_apart() -> None:
    judge, names = DinoJudge.load(), (*DEV, *REPORT)
    real = {name: judge.embed(load_pictures(CONCEPTS / name)) for name in names}
    right = []
    for name in names:
        renders = [render_object_concept(name, place, 800_000_000 + i) for i, place in enumerate(world.BACKGROUNDS)]
        fresh = judge.embed(renders)
        scores = {other: subject_similarity(real[other], fresh) for other in names}
        right.append(max(scores, key=scores.__getitem__) == name)
    assert share(right)[0] >= 0.9


@pytest.mark.slow
def test_captions_are_followed(pplus: pp.PPlus, judge: AttributeJudge) -> None:
    """A floor far below what the card reports, on few pictures: it catches broken weights, not small regressions."""
    colours = [("red", "green", "blue", "yellow")[i % 4] for i in range(len(world.OBJECTS))]
    prompts = [f"a {c} {thing} on a white background" for c, thing in zip(colours, world.OBJECTS, strict=True)]
    answers = judge.classify(generate(pplus, prompts, range(len(prompts)), steps=8))
    assert share([a == b for a, b in zip(answers["object"], world.OBJECTS, strict=True)])[0] >= 0.6
    assert share([a == b for a, b in zip(answers["colour"], colours, strict=True)])[0] >= 0.6


def test_metrics() -> None:
    one = torch.eye(3)
    assert subject_similarity(one, one) == pytest.approx(1 / 3)
    p, low, high = share([True] * 8 + [False] * 2)
    assert (p, round(low, 3), round(high, 3)) == (0.8, 0.49, 0.943)  # Wilson's interval of 8 in 10
