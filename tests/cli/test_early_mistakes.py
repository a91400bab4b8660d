"""Mistakes that are found before a model is loaded, since loading takes seconds."""

from pathlib import Path

import pytest

import promptplus as pp
from promptplus.pocket import CONCEPTS
from tests.cli.test_cli import run
from tests.conftest import make_concept

PICTURES = str(CONCEPTS / "robot")
PICTURE = str(CONCEPTS / "robot" / "0.png")
LARGER = str(Path(__file__).parents[2] / "docs" / "pictures" / "methods.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("generate", "a car || corse: b"), "no layer 'corse'"),
        (("generate", "a car", "--layer", "99=b"), "no layer '99'"),
        (("generate", "a <dog>"), "no concept defines <dog>"),
        (("generate", "a car", "--negative", "a <dog>"), "no concept defines <dog>"),
        (("generate", "a <lora:x:0.8>"), "--lora x.safetensors:0.8"),
        (("generate", "a car", "--concept", "CONCEPT", "--concept", "CONCEPT"), "two concepts have the token <thing>"),
        (("generate", "a car", "--concept", "CONCEPT=<|endoftext|>"), "already has a word"),
        (("generate", "a car", "--concept", "hub:cat"), "a concept on the hub is hub:owner/name"),
        (("generate", "a car", "--steps", "1001"), "steps are 1 to 1000"),
        (("generate", "a car", "--scheduler", ""), "no scheduler ''"),
        (("generate", "a car", "--guidance", "inf"), "--guidance"),
        (("generate", "--again", "x.png", "--clip-skip", "1"), "leave --clip-skip out"),
        (("generate", "--again", "x.png", "--count", "4"), "leave --count out"),
        (("edit", PICTURE, "--source", "a car"), "the edit changes no layer"),
        (("edit", PICTURE, "--source", "a car", "--layer", "nose=b"), "no layer 'nose'"),
        (("edit", PICTURE, "--source", "a car", "--layer", "nose"), "is not layers="),
        (("edit", PICTURE, "--source", "a car", "--target", "a <dog>"), "no concept defines <dog>"),
        (("edit", PICTURE, "--source", "a <dog>", "--target", "a car"), "no concept defines <dog>"),
        (("edit", PICTURE, "--source", "a car", "--target", "b", "--mask", LARGER), "the mask is 1"),
        (("edit", PICTURE, "--source", "a car", "--target", "b", "--skip", "1"), "skip is a share"),
        (("edit", PICTURE, "--source", "a car", "--target", "b", "--method", "x"), "use noise-maps or ddim"),
        (("edit", PICTURE, "--source", "a car", "--target", "b", "--steps", "1001"), "steps are 1 to 1000"),
        (("edit", "none.png", "--source", "a car", "--target", "b"), "none.png cannot be read"),
        (("analyze", "attributes", "--guidance", "inf"), "--guidance"),
        (("analyze", "attributes", "--steps", "1001"), "steps are 1 to 1000"),
        (("analyze", "attributes", "--colours", "red"), "colour: two words or more"),
        (("analyze", "attention", "--steps", "1001"), "steps are 1 to 1000"),
        (("analyze", "strength", "--strengths", "0,much"), "strengths are numbers"),
        (("analyze", "strength", "--steps", "1001"), "steps are 1 to 1000"),
        (("invert", PICTURES, "--token", "<|endoftext|>"), "already has a word"),
        (("invert", PICTURES, "--learn", "finest"), "no layer 'finest': use a group"),
        (("invert", PICTURES, "--describe", "a red dog"), "write {}, <robot> or car into it"),
        (("invert", PICTURES, "--describe", "{} by {}"), "has {} 2 times; write it once"),
        (("invert", PICTURES, "--describe", "a {}", "--captions"), "captions and describe both say"),
        (("invert", str(CONCEPTS), "--each", "--learn", "finest"), "no layer 'finest'"),
        (("invert", PICTURES, "--describe", "a {}", "--method", "dreambooth"), "describe is no option of the method"),
        (("invert", PICTURES, "--learn", "fine", "--method", "dreambooth"), "learn is no option of the method"),
        (("evaluate", str(CONCEPTS), "--method", "xti@0"), "steps are 1 or more"),
        (("evaluate", str(CONCEPTS), "--baseline", "ti@77"), "--baseline ti@77 is none of the methods"),
    ],
)
def test_a_mistake_is_found_before_the_model_is_loaded(
    arguments: tuple[str, ...],
    message: str,
    pplus: pp.PPlus,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    concept = make_concept(pplus, "<thing>", 1).save(tmp_path / "thing.safetensors")
    monkeypatch.setattr(pp, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    given = [argument.replace("CONCEPT", str(concept)) for argument in arguments]
    code, _, err = run(*given, "--out", str(tmp_path / "out"), capsys=capsys)
    assert code == 2, err
    assert message in " ".join(err.replace("│", " ").split())
    assert not (tmp_path / "out").exists()
