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


@pytest.mark.parametrize(
    ("written", "read"),
    [(r"a \<x> house", "a <x> house"), (r"\<s>", "<s>"), (r"a \</w>", "a </w>"), (r"\\<x>", r"\<x>")],
)
def test_a_backslash_makes_a_token_plain_text(tokenize: PlaceholderTokenizer, written: str, read: str) -> None:
    text = tokenize(written, {"<x>": 1})
    assert not text.slots
    stock = tokenize.tokenizer(read, padding="max_length", truncation=True, max_length=tokenize.length).input_ids
    assert list(text.ids) == list(stock)


def test_a_token_after_an_escaped_one_counts(tokenize: PlaceholderTokenizer) -> None:
    assert [slot.token for slot in tokenize(r"\<x> and <x>", {"<x>": 1}).slots] == ["<x>"]


def test_the_syntax_of_loras_has_a_remedy(tokenize: PlaceholderTokenizer) -> None:
    with pytest.raises(PromptError, match=r"load the LoRA's file instead: --lora pixel\.safetensors:0\.8"):
        tokenize("a cat <lora:pixel:0.8>", {})
    with pytest.raises(PromptError, match=r"for plain text write \\<s>"):
        tokenize("a <s>", {})


def test_words_that_are_cut_are_spelled_as_words(tokenize: PlaceholderTokenizer) -> None:
    text = tokenize("red " * (tokenize.length - 4) + "unseenword zebra <x> <x>", {"<x>": 2})
    assert text.cut.endswith("word zebra <x> <x>")
    assert "</w>" not in text.cut


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
