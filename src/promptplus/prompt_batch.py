"""Prompts and their negative prompts, encoded in one frame, so that the pipeline can take them together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Self

import torch
from torch import Tensor

from promptplus.conditioning import Conditioning, Frame, StagedPrompt, encode_prompts
from promptplus.errors import PromptError, short
from promptplus.layers import LayerMap
from promptplus.prompts import PPlusPrompt
from promptplus.text_states import TextStates


class Encoders(NamedTuple):
    """How a batch is encoded.

    Attributes:
        prompts, negatives: encode ``texts[row][layer]``; see ``PPlus.text_states``.
        without_negative: what the pipeline takes where no negative prompt is given.
        dtype: of the text states.
    """

    prompts: Callable[..., TextStates]
    negatives: Callable[..., TextStates]
    without_negative: Callable[[TextStates, int], TextStates]
    dtype: torch.dtype


@dataclass(frozen=True)
class PromptBatch:
    """Prompts, resolved for the layers of a model.

    Attributes:
        layers: the layers.
        staged: the prompts.
        negatives: one for each prompt; none: what the stock pipeline takes without one.
        frame: what all of them share.
    """

    layers: LayerMap
    staged: tuple[StagedPrompt, ...]
    negatives: tuple[StagedPrompt, ...]
    frame: Frame

    @classmethod
    def of(cls, prompts: Sequence[PPlusPrompt], negatives: Sequence[PPlusPrompt] | None, layers: LayerMap) -> Self:
        """Resolve prompts, and one negative prompt for all or one for each.

        Raises:
            PromptError: the numbers differ, a mask cannot be read, or the model cannot take masks.
            LayerError: a prompt names a layer that the model does not have.
        """
        if negatives is not None and len(negatives) not in (1, len(prompts)):
            raise PromptError(f"{len(prompts)} prompts but {len(negatives)} negatives; give one, or one for each")
        known = {one: StagedPrompt.of(one, layers) for one in dict.fromkeys((*prompts, *(negatives or ())))}
        staged, others = (tuple(known[one] for one in each) for each in (prompts, negatives or ()))
        others *= len(staged) if len(others) == 1 else 1
        frame = Frame.of((*staged, *others))
        if frame.regions and layers.by_depth:
            raise PromptError(
                "masks of prompt parts need a U-Net, as of Stable Diffusion; this model is a diffusion transformer: "
                "leave the #mask out"
            )
        return cls(layers, staged, others, frame)

    def encode(
        self,
        encoders: Encoders,
        pooled: Sequence[int],
        own: Mapping[tuple[int, ...], Tensor],
        context: int | None,
    ) -> tuple[Conditioning, Conditioning]:
        """The text states of the prompts and of their negative prompts, in equal shapes.

        Args:
            pooled: the layers whose common text gives the pooled embedding; none: the default text.
            own: given states by layers.
            context: the text encoder's context in tokens where compel reads the texts; else None.

        Raises PromptError where a text or given states cannot be used.
        """
        whole = [pooled_text(prompt, pooled) for prompt in self.staged]

        def prompts(chunks: int) -> Conditioning:
            encode = partial(encoders.prompts, chunks=chunks)
            return encode_prompts(self.staged, self.frame, whole, encode, encoders.dtype)

        made = prompts(0 if context is None else 1)
        chunks = 0 if context is None else made.tokens // context
        if not self.negatives:
            without = Conditioning.same_everywhere(encoders.without_negative(made.plain, chunks), self.frame)
            return made.with_states(own), without
        encode = partial(encoders.negatives, chunks=chunks)
        defaults = [negative.default for negative in self.negatives]
        without = encode_prompts(self.negatives, self.frame, defaults, encode, encoders.dtype)
        if context is not None and without.tokens > made.tokens:
            made = prompts(without.tokens // context)
        return made.with_states(own), without


def pooled_text(prompt: StagedPrompt, chosen: Sequence[int]) -> str:
    """The text of a prompt's pooled embedding: what the chosen layers read at first, outside of all masks.

    The default where none are chosen. Raises PromptError where the chosen layers have different texts.
    """
    texts = [text.text for text in prompt.stages[0].texts]
    found = list(dict.fromkeys(texts[layer] for layer in chosen)) or [prompt.default]
    if len(found) > 1:
        raise PromptError(f"pooled_layers have different texts, {short(found[0])} and {short(found[1])}; choose others")
    return found[0]
