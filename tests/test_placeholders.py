import copy
from typing import Any

import pytest

from promptplus.errors import ConceptError, PromptError
from promptplus.placeholders import PlaceholderTokenizer, check_token


@pytest.fixture
def tokenize(pipe: Any) -> PlaceholderTokenizer:
    return PlaceholderTokenizer(pipe.tokenizer, pipe.tokenizer.model_max_length)


@pytest.mark.parametrize(
    "text", ["", "a red house", "  A Red   HOUSE, comic!", "unseenword zzz", "a red house on a white background " * 9]
)
def test_plain_text_has_the_stock_ids(pipe: Any, tokenize: PlaceholderTokenizer, text: str) -> None:
    stock = pipe.tokenizer(text, padding="max_length", truncation=True, max_length=tokenize.length).input_ids
    assert list(tokenize(text, {}).ids) == list(stock)


def test_a_placeholder_takes_as_many_positions_as_it_has_vectors(tokenize: PlaceholderTokenizer) -> None:
    text = tokenize("a <X> house <y>", {"<x>": 3, "<y>": 1})
    assert text.slots == ((2, "<x>", 0), (3, "<x>", 1), (4, "<x>", 2), (6, "<y>", 0))
    around = tokenize("a house", {}).ids
    assert (text.ids[1], text.ids[5]) == (around[1], around[2])
    eos = tokenize.tokenizer.eos_token_id
    assert max(text.ids) == eos
    assert text.ids.index(eos) == 7


def test_what_is_cut_is_named(tokenize: PlaceholderTokenizer) -> None:
    text = tokenize("red " * (tokenize.length - 2) + "blue <x>", {"<x>": 1})
    assert text.cut == "blue <x>"
    assert text.slots == ()
    assert tokenize("red " * (tokenize.length - 2), {}).cut == ""


def test_unknown_placeholder_is_refused_with_the_known_ones(tokenize: PlaceholderTokenizer) -> None:
    with pytest.raises(PromptError, match=r"no concept defines <dog> .*: <cat>"):
        tokenize("a <dog>", {"<cat>": 1})


@pytest.mark.parametrize(
    "token", ["cat", "<a b>", "", "<>", "<<a>>", "<Cat>", "<cafe\u0301>", "<|endoftext|>", "<../x>", 3]
)
def test_bad_tokens(pipe: Any, token: Any) -> None:
    with pytest.raises(ConceptError):
        check_token(token, pipe.tokenizer)


def test_good_tokens(pipe: Any) -> None:
    assert check_token("<cat-2>", pipe.tokenizer) == "<cat-2>"


def test_a_word_that_takes_the_place_of_another_one_is_known(pipe: Any) -> None:
    """As where one textual inversion is unloaded from a pipeline and the next one loaded."""
    tokenizers = [copy.deepcopy(pipe.tokenizer) for _ in range(2)]
    for tokenizer, word in zip(tokenizers, ("<one>", "<two>"), strict=True):
        tokenizer.add_tokens([word])
    own = tokenizers[0]
    tokenize = PlaceholderTokenizer(own, 40)
    assert tokenize("a <one>", {}).ids[2] == len(own) - 1
    own._tokenizer = tokenizers[1]._tokenizer  # as diffusers does it when it unloads
    assert tokenize("a <two>", {}).ids[2] == len(own) - 1
    with pytest.raises(PromptError, match="<one>"):
        tokenize("a <one>", {})
