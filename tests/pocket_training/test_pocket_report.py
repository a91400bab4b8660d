"""The pocket's report: its targets, and that it does not run with other judges."""

import copy
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pocket_training import measures, targets
from pocket_training.recovery import ConceptSimilarity
from promptplus import pocket as package
from promptplus.pocket.held_out import HELD_OUT_OBJECTS, REPORT
from promptplus.pocket.world import ATTRIBUTES, NO_STYLE, OBJECTS
from promptplus.pocket.world.painting import paint
from promptplus.pocket.world.scenes import shapes_by_noun

Results = dict[str, Any]


@pytest.fixture
def results() -> Results:
    """Numbers that just meet every target."""
    share = {
        kind: {name: [least, least - 0.01, least + 0.01] for name, least in by_name.items()}
        for kind, by_name in targets.CAPTIONS.items()
    }
    perfect = {name: [1.0, 0.99, 1.0] for name in ATTRIBUTES}
    captions = {"pictures": 1000, "renders": dict(perfect), "reconstructions": perfect}
    captions |= {"psnr": 28.0, "frechet": 0.003, "frechet_floor": 0.001}
    words = {"class_word": "car", "floor": 0.2, "ceiling": 0.6, "caption": "a red car", "noun": "a red blorpeen"}
    words |= {"r_words": 0.5, "r_noun": 0.1, "recognised": 1.0}
    curve = [0.0, 0.01, 0.3, 0.6, 0.7, 0.8, 0.9, 1.0]
    found: Results = {
        f"captions/{kind}": copy.deepcopy({**captions, "generated": share[kind]}) for kind in targets.KINDS
    }
    found |= {f"words/{name}": dict(words) for name in REPORT}
    found |= {f"concept/{n}/{seed}": {"similarity": 0.54, "recognised": 0.9} for n in REPORT for seed in targets.SEEDS}
    crossings = {name: [2.0, 1.5, 2.5] for name in ("object", "colour", "object < colour")}
    found["curves"] = {"pairs": 64, "sizes": [0, 1, 3, 6, 8, 11, 13, 16], "crossings": crossings}
    found["curves"]["relative"] = {"object": curve, "colour": curve}
    found["judges"] = {"clip_zero_shot": {"object": 0.9}, "dino_nearest_neighbour": 0.9}
    found["split"] = {"pictures": 260, "object": [0.85, 0.8, 0.9], "colour": [1, 1, 1], "one_prompt": [1, 1, 1]}
    found["mixing"] = {"coarse": [0.6, 0.3, 0.8], "coarse,medium": [0.5, 0.3, 0.8], "seconds": 3.0}
    found["speed"] = {"threads": 2, "usual_steps": 12, "picture_in_batch": [0.6, 0.3], "picture_alone": [2.0, 1.0]}
    found["speed"]["xti_step"] = 0.3
    return {**found, "size": {"all": 32.0}, "weights": "abc"}


def unmet(results: Results) -> list[str]:
    return [target.name for target in targets.all_targets(results) if not target.met]


def test_targets_are_met_at_their_edge(results: Results) -> None:
    assert not unmet(results)
    count = len(targets.all_targets(results))
    assert f"{count} of {count} met" in targets.markdown(results)


@pytest.mark.parametrize(
    ("place", "value", "what"),
    [
        (("captions/trained", "generated", "object"), [0.949, 0.93, 0.96], "captions, trained: object"),
        (("captions/held out", "generated", "style"), [0.93, 0.92, 0.95], "captions, held out: style"),
        (("captions/trained", "reconstructions", "colour"), [0.97, 0.96, 0.98], "colours lost by it"),
        (("captions/trained", "psnr"), 27.9, "autoencoder"),
        (("concept/guitar/1", "similarity"), 0.41, "held-out concepts, least r"),
        (("words/guitar", "r_noun"), 0.51, "novelty, r of any words"),
        (("curves", "crossings", "object < colour"), [0.5, -0.1, 1.0], "colour crosses half after the object"),
        (("judges", "clip_zero_shot", "object"), 0.89, "judge CLIP, zero-shot objects"),
        (("judges", "dino_nearest_neighbour"), 0.89, "judge DINO, nearest neighbour"),
        (("size", "all"), 32.1, "bundled"),
        (("captions/trained", "frechet"), 0.0031, "Fréchet distance"),
        (("split", "object"), [0.84, 0.8, 0.9], "split test: object from the coarse layers' prompt"),
        (("mixing", "coarse"), [0.59, 0.3, 0.8], "a mix has one's shape and the other's appearance"),
        (("speed", "picture_in_batch"), [0.6, 0.31], "a picture in a batch of 16, 12 steps"),
        (("speed", "xti_step"), 0.31, "an XTI step, batch 8"),
    ],
)
def test_each_target_looks_at_its_own_number(results: Results, place: tuple[str, ...], value: Any, what: str) -> None:
    inner = results
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    assert unmet(results) in ([what], ["held-out concepts, mean r", what])
    assert f"| {what} |" in targets.markdown(results)
    assert "**no**" in targets.markdown(results)


def test_the_middle_layer_is_called_inert_only_where_it_is(results: Results) -> None:
    assert "it is inert" in targets.markdown(results)
    results["curves"]["relative"]["object"] = [0.0, 0.2, 0.3, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert "it is inert" not in targets.markdown(results)


def test_judges_with_other_weights_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measures.changed_judges() == []
    root = Path(package.__file__).parent
    for name in measures.JUDGES:
        shutil.copytree(root / name, tmp_path / name)
    shutil.copy(root / "card.json", tmp_path)
    monkeypatch.setattr(package, "__file__", str(tmp_path / "__init__.py"))
    weights = next((tmp_path / "dino").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00\x00")
    assert measures.changed_judges() == ["dino"]


def test_a_second_judge_knows_the_shape_of_fresh_renders(pplus: Any) -> None:
    """Shape alone: all 24 held-out shapes are drawn in the concept's colours."""
    robot, teapot = ConceptSimilarity(pplus, "robot"), ConceptSimilarity(pplus, "teapot")
    assert robot.recognised(robot.renders()) >= 0.8
    assert robot.recognised(teapot.renders()) <= 0.2
    assert robot.ceiling() > teapot.similarity(robot.renders())


def test_the_nearest_nouns_are_nouns_and_the_nearest_first(pplus: Any) -> None:
    concept = ConceptSimilarity(pplus, "robot")
    named = concept.nearest_nouns(OBJECTS)
    assert sorted(named) == sorted(OBJECTS)
    look = HELD_OUT_OBJECTS["robot"]
    first, last = (
        concept.similarity([paint([replace(look, shape=shapes_by_noun()[noun])], "white", NO_STYLE, random.Random(0))])
        for noun in (named[0], named[-1])
    )
    assert first > last
