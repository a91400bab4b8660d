"""Mistakes in calls of the stock pipeline are named; right calls pass without a word."""

import warnings
from typing import Any

import pytest
import torch

import promptplus as pp
from promptplus.errors import PromptError
from tests.conftest import latents, make_concept


def test_a_concept_in_a_stock_call_is_warned_about_once(pplus: pp.PPlus) -> None:
    pplus.add(make_concept(pplus, "<cat>", 1))
    with pytest.warns(UserWarning, match=r"reads <cat> as plain characters; .*pplus\.encode") as caught:
        latents(pplus.pipe, prompt="a photo of a <cat>")
    (warning,) = [one for one in caught if one.category is UserWarning]
    assert warning.filename.endswith("conftest.py")  # the line that called the pipeline
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        latents(pplus.pipe, prompt="a photo of a <cat>")


def test_other_stock_calls_and_our_own_pass_without_a_word(pplus: pp.PPlus) -> None:
    pplus.add(make_concept(pplus, "<cat>", 1))
    pplus.add(make_concept(pplus, "<dog>", 1))
    pplus.forget("<dog>")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        latents(pplus.pipe, prompt="a photo of a cat")
        latents(pplus.pipe, prompt="a photo of a <dog>")
        latents(pplus.pipe, **pplus.encode("a photo of a <cat>"))


@pytest.mark.parametrize("given", ["prompt_embeds", "negative_prompt_embeds"])
def test_half_a_prompt_is_refused_with_a_sentence(pplus: pp.PPlus, given: Any) -> None:
    packed = {given: pplus.encode("a red house")[given]}
    other = {"prompt": "a red house"} if given.startswith("negative") else {"negative_prompt": "blurry"}
    for call in (other, {} if given == "prompt_embeds" else other):
        with pytest.raises(PromptError, match=f"{given} are packed by PPlus.encode.*pass both"):
            latents(pplus.pipe, **packed, **call)


def test_a_negative_of_none_is_an_empty_one(pplus: pp.PPlus) -> None:
    with_none, empty = pplus.encode("a red house", None), pplus.encode("a red house", "")
    assert torch.equal(with_none["negative_prompt_embeds"], empty["negative_prompt_embeds"])
