"""Tokenizers of the tiny models: the real classes, with vocabularies made in code or the pocket model's."""

import inspect
import re
import string

from diffusers import SanaPipeline
from transformers import CLIPTokenizer, GemmaTokenizer, T5Tokenizer

from promptplus.pocket import PIPELINE
from promptplus.pocket.world.words import BACKGROUNDS, COLOURS

CONTEXT = 77
"""The context length of CLIP's text encoders in the releases."""
WORDS = (*COLOURS, *BACKGROUNDS, "a", "the", "of", "cube", "lizard", "house", "car", "photo")
"""Words that are one token for T5 and Gemma; all others are spelled."""
CHARACTERS = ("▁", *string.ascii_letters, *string.digits, *string.punctuation)


def clip(pad_token: str) -> CLIPTokenizer:
    """The pocket's, with the releases' context length."""
    return CLIPTokenizer.from_pretrained(PIPELINE / "tokenizer", pad_token=pad_token, model_max_length=CONTEXT)


def t5() -> T5Tokenizer:
    """Unigrams: words are likelier than their letters."""
    special = [(token, 0.0) for token in ("<pad>", "</s>", "<unk>")]
    pieces = [*((f"▁{word}", -2.0) for word in WORDS), *((character, -5.0) for character in CHARACTERS)]
    return T5Tokenizer(vocab=[*special, *pieces], extra_ids=0, model_max_length=512)


def gemma() -> GemmaTokenizer:
    """Byte pairs: merges that build each word letter by letter. Each text begins with <bos>, and no space is added.

    The words of the instruction that Sana puts in front of each prompt are tokens too, so that it does not get long.
    """
    instruction = inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
    words = [f"▁{word}" for word in (*WORDS, *re.findall(r"[A-Za-z]+", " ".join(instruction)))]
    merges = dict.fromkeys((word[:end], word[end]) for word in words for end in range(1, len(word)))
    special = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
    pieces = dict.fromkeys([*special, "\n", *CHARACTERS, *("".join(pair) for pair in merges)])
    vocab = {piece: i for i, piece in enumerate(pieces)}
    return GemmaTokenizer(vocab=vocab, merges=list(merges), add_bos_token=True)
