"""What a denoiser gets of texts: states for each layer, a mask and a pooled embedding where it takes them.

``TextStates`` keeps layers apart; gradients flow through it. ``PackedText`` is what the denoiser is called with, and
``PromptEmbeds`` what a stock pipeline is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, NotRequired, Self, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptplus.packing import pack
from promptplus.text_encoders import EncodedTexts
from promptplus.text_encoding import send


class PromptEmbeds(TypedDict):
    """Keyword arguments of a diffusers pipeline, as ``PPlus.encode`` returns them: ``pipe(**pplus.encode(…))``.

    The pooled embeddings are there for Stable Diffusion XL, the masks for PixArt and Sana.
    """

    prompt_embeds: Float[Tensor, "batch tokens packed"]
    negative_prompt_embeds: Float[Tensor, "batch tokens packed"]
    pooled_prompt_embeds: NotRequired[Float[Tensor, "batch pooled"]]
    negative_pooled_prompt_embeds: NotRequired[Float[Tensor, "batch pooled"]]
    prompt_attention_mask: NotRequired[Int[Tensor, "batch packed_tokens"]]
    negative_prompt_attention_mask: NotRequired[Int[Tensor, "batch packed_tokens"]]
    negative_prompt: NotRequired[None]


class PackedText(NamedTuple):
    """Text states as one tensor, as denoisers with per-layer hooks take them.

    Attributes:
        states: packed, see ``packing``.
        mask: the masks of all layers, one after the other; 1 where a token counts.
        pooled: an embedding of each whole text.
    """

    states: Float[Tensor, "batch tokens packed"]
    mask: Int[Tensor, "batch packed_tokens"] | None = None
    pooled: Float[Tensor, "batch pooled"] | None = None

    @classmethod
    def of_prompts(cls, embeds: PromptEmbeds) -> Self:
        """The prompts' half of a pipeline's arguments."""
        return cls(embeds["prompt_embeds"], embeds.get("prompt_attention_mask"), embeds.get("pooled_prompt_embeds"))

    @classmethod
    def of_negatives(cls, embeds: PromptEmbeds) -> Self:
        """The negative prompts' half of a pipeline's arguments."""
        mask, pooled = embeds.get("negative_prompt_attention_mask"), embeds.get("negative_pooled_prompt_embeds")
        return cls(embeds["negative_prompt_embeds"], mask, pooled)

    def followed_by(self, other: "PackedText") -> "PackedText":
        """Both batches as one."""
        pairs = zip(self, other, strict=True)
        return PackedText(*(None if a is None or b is None else torch.cat([a, b]) for a, b in pairs))  # pyright: ignore[reportArgumentType]

    def to(self, device: torch.device | None, dtype: torch.dtype) -> "PackedText":
        """The same on another device, the embeddings in another dtype."""
        mask = None if self.mask is None else self.mask.to(device)
        pooled = None if self.pooled is None else self.pooled.to(device, dtype)
        return PackedText(self.states.to(device, dtype), mask, pooled)


@dataclass(frozen=True)
class TextStates:
    """The text states of a batch, layer by layer.

    Attributes:
        states: what each layer attends to.
        mask: 1 where a token counts, 0 where it is padding; None where the denoiser takes no mask.
        pooled: an embedding of each whole text; None where the denoiser takes none.
    """

    states: Float[Tensor, "batch layers tokens width"]
    mask: Int[Tensor, "batch layers tokens"] | None = None
    pooled: Float[Tensor, "batch pooled"] | None = None

    @classmethod
    def of(cls, encoded: EncodedTexts, index: Int[Tensor, "batch columns"], layers: int) -> Self:
        """What one text encoder gives for the unique texts of a plan, for every prompt and layer.

        Args:
            index: for each prompt, the rows of its layers' texts, and after them of the text that is pooled, if any.
            layers: the number of layers.
        """
        own = index[:, :layers]
        mask = None if encoded.mask is None else encoded.mask[own]
        return cls(encoded.states[own], mask, None if encoded.pooled is None else encoded.pooled[index[:, layers]])

    @classmethod
    def side_by_side(cls, parts: Sequence[Self]) -> Self:
        """The states of several text encoders as one; mask and pooled embedding come from those that have one."""
        masks = [part.mask for part in parts if part.mask is not None]
        pooled = [part.pooled for part in parts if part.pooled is not None]
        states = parts[0].states if len(parts) == 1 else torch.cat([part.states for part in parts], dim=-1)
        return cls(states, masks[0] if masks else None, pooled[0] if pooled else None)

    def zeros(self) -> "TextStates":
        """All zeros, in the same shapes."""
        pooled = None if self.pooled is None else torch.zeros_like(self.pooled)
        return replace(self, states=torch.zeros_like(self.states), pooled=pooled)

    def to(self, dtype: torch.dtype) -> "TextStates":
        """The embeddings in another dtype."""
        return replace(
            self, states=self.states.to(dtype), pooled=None if self.pooled is None else self.pooled.to(dtype)
        )

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, rows: list[int] | slice) -> "TextStates":
        """Some rows of the batch. A list of them does not wait for the device."""
        chosen = rows if isinstance(rows, slice) else send(rows, self.states.device)
        mask, pooled = (None if part is None else part[chosen] for part in (self.mask, self.pooled))
        return TextStates(self.states[chosen], mask, pooled)

    def of_one_layer(self) -> "TextStates":
        """The first layer's states alone, without gradients: plain states, for a denoiser without per-layer hooks."""
        mask = None if self.mask is None else self.mask[:, :1]
        pooled = None if self.pooled is None else self.pooled.detach()
        return TextStates(self.states[:, :1].detach(), mask, pooled)

    def expand(self, count: int) -> "TextStates":
        """The only row of the batch, ``count`` times."""
        return self[[0] * count]

    def with_gradients_apart(self, dtype: torch.dtype) -> "TextStates":
        """Leaves of a graph of their own with the same values: gradients gather there, in this dtype."""

        def leaf(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.detach().to(dtype).requires_grad_(tensor.requires_grad)

        return replace(self, states=leaf(self.states), pooled=leaf(self.pooled))

    @property
    def differentiable(self) -> list[Float[Tensor, "..."]]:
        """The tensors that take gradients."""
        return [part for part in (self.states, self.pooled) if part is not None and part.requires_grad]

    def packed(self) -> PackedText:
        """All layers in one tensor."""
        return PackedText(pack(self.states), None if self.mask is None else self.mask.flatten(1), self.pooled)


def to_prompt_embeds(prompt: PackedText, negative: PackedText) -> PromptEmbeds:
    """Pipeline arguments of prompts and as many negative prompts."""
    embeds: PromptEmbeds = {"prompt_embeds": prompt.states, "negative_prompt_embeds": negative.states}
    if prompt.pooled is not None and negative.pooled is not None:
        embeds["pooled_prompt_embeds"] = prompt.pooled
        embeds["negative_pooled_prompt_embeds"] = negative.pooled
    if prompt.mask is not None and negative.mask is not None:
        embeds["prompt_attention_mask"] = prompt.mask
        embeds["negative_prompt_attention_mask"] = negative.mask
        embeds["negative_prompt"] = None  # PixArt and Sana have another default, which they refuse beside embeddings
    return embeds
