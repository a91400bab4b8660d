"""Copies, files and further owners of a pipeline while P+ is installed."""

import copy
from pathlib import Path
from typing import Any

import torch

import promptplus as pp
from tests.compatibility.cases import (
    ALL,
    IMAGE_TO_IMAGE,
    PICTURE,
    TOLERANCE,
    Expected,
    another,
    check,
    compatible,
    distance,
    draw,
    own,
)


@compatible("copy.deepcopy of the pipeline", *ALL)
def test_a_copy_of_the_pipeline(shared: Any, plain: Expected) -> None:
    """It has hooks of its own: what was encoded works in it, and P+ can be installed in it."""
    with pp.PPlus(shared) as pplus:
        packed, copied = own(pplus), copy.deepcopy(shared)
    copied.set_progress_bar_config(disable=True)
    assert distance(draw(copied, **packed), plain.own) < TOLERANCE
    with pp.PPlus(copied) as pplus:
        check(pplus, plain)


@compatible("save_pretrained while P+ is there", *ALL)
def test_saved_files_are_those_without_hooks(shared: Any, tmp_path: Path) -> None:
    shared.save_pretrained(tmp_path / "without")
    with pp.PPlus(shared) as pplus:
        draw(shared, **own(pplus))
        shared.save_pretrained(tmp_path / "with")
    files = [sorted((tmp_path / name).rglob("*.*")) for name in ("without", "with")]
    assert len(files[0]) > 8
    for without, with_ in zip(*files, strict=True):
        assert without.relative_to(tmp_path / "without") == with_.relative_to(tmp_path / "with")
        assert without.read_bytes() == with_.read_bytes()


@compatible("from_pipe while P+ is there", *IMAGE_TO_IMAGE)
def test_a_pipeline_that_is_made_later(shared: Any, model: str) -> None:
    call = {"image": PICTURE, "strength": 0.9, "num_inference_steps": 2}
    expected = Expected.of(another(shared, IMAGE_TO_IMAGE[model]), **call)
    with pp.PPlus(shared) as pplus:
        check(pplus, expected, another(shared, IMAGE_TO_IMAGE[model]), **call)


@compatible("two PPlus on one denoiser", *ALL)
def test_two_owners(shared: Any, plain: Expected) -> None:
    with pp.PPlus(shared) as first:
        with pp.PPlus(shared) as second:
            check(first, plain)
            check(second, plain)
        check(first, plain)
    assert torch.equal(draw(shared, prompt="a red house", negative_prompt="blurry"), plain.stock)
