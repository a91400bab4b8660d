"""A minimal stand-in for ComfyUI, written from the description of what its functions do; it shares no code with it.

It has what the nodes use: ``clip.tokenize`` and ``clip.encode_from_tokens_scheduled``, and a model whose
``set_model_attn2_patch`` is called by real attention blocks, with the same arguments and ``extra_options``. The sampler
batches conditionings as ComfyUI does: those of equal width run together, each repeated to a common number of tokens.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from promptplus import load
from tests import tiny_models
from tests.integrations.hosts import Kind
from tests.integrations.stand_in_unet import UNetModel

Tokens = dict[str, list[list[tuple[Any, float]]]]
_WEIGHT = re.compile(r"\(([^():]*):([\d.]+)\)")


# ---- the model


class LoadedModel:
    """What ComfyUI wraps the network in."""

    def __init__(self, diffusion_model: Any) -> None:
        self.diffusion_model = diffusion_model


class ModelPatcher:
    """A model with patches: a clone shares the weights and has patches of its own."""

    def __init__(self, model: LoadedModel, options: dict[str, Any] | None = None) -> None:
        self.model = model
        self.model_options = options or {"transformer_options": {}}

    def clone(self) -> "ModelPatcher":
        return ModelPatcher(self.model, _copy(self.model_options))

    def set_model_attn2_patch(self, patch: Callable[..., Any]) -> None:
        patches = self.model_options["transformer_options"].setdefault("patches", {})
        patches["attn2_patch"] = [*patches.get("attn2_patch", []), patch]


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(one) for key, one in value.items()}
    return [_copy(one) for one in value] if isinstance(value, list) else value


# ---- the sampler


def batches(conds: Sequence[tuple[int, dict[str, Any]]]) -> list[list[tuple[int, dict[str, Any]]]]:
    """Which conditionings run together: those with the same entries, of equal width, and with few repetitions."""

    def together(first: dict[str, Any], other: dict[str, Any]) -> bool:
        if first.keys() != other.keys() or first.get("control") is not other.get("control"):
            return False
        for key in ("c_crossattn", "crossattn_controlnet"):
            if key in first:
                a, b = first[key].shape, other[key].shape
                if a[2] != b[2] or math.lcm(a[1], b[1]) // min(a[1], b[1]) > 4:
                    return False
        return True

    left, made = list(conds), []
    while left:
        made.append([one for one in left if together(left[0][1], one[1])])
        left = [one for one in left if not any(one is taken for taken in made[-1])]
    return made


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """Text states of several conditionings, each repeated to a common number of tokens."""
    tokens = math.lcm(*(one.shape[1] for one in tensors))
    return torch.cat([one.repeat(1, tokens // one.shape[1], 1) for one in tensors])


def denoised(patcher: ModelPatcher, x: Tensor, t: Tensor, positive: Any, negative: Any, scale: float) -> Tensor:
    """The guided output of one step. Several conditionings of one side are averaged."""
    conds: list[tuple[int, dict[str, Any]]] = []
    for side, conditioning in enumerate((positive, negative)):
        for states, extra in conditioning:
            cond = {"c_crossattn": states.repeat(len(x), 1, 1), "y": extra.get("pooled_output")}
            if "cross_attn_controlnet" in extra:
                cond["crossattn_controlnet"] = extra["cross_attn_controlnet"].repeat(len(x), 1, 1)
            conds.append((side, {**cond, **({"control": extra["control"]} if "control" in extra else {})}))
    sums, counts = [torch.zeros_like(x), torch.zeros_like(x)], [0, 0]
    for batch in batches(conds):
        sides, parts = [side for side, _ in batch], [cond for _, cond in batch]
        options = {**patcher.model_options["transformer_options"], "cond_or_uncond": sides}
        context = joined([cond["c_crossattn"] for cond in parts])
        if "control" in parts[0]:
            shown = [cond.get("crossattn_controlnet", cond["c_crossattn"]) for cond in parts]
            parts[0]["control"](joined(shown))
        network = patcher.model.diffusion_model
        pooled = [cond["y"].expand(len(x), -1) for cond in parts] if network.label is not None else []
        y = torch.cat(pooled) if pooled else None
        out = network(torch.cat([x] * len(batch)), torch.cat([t] * len(batch)), context, y, options)
        for side, one in zip(sides, out.chunk(len(batch)), strict=True):
            sums[side] = sums[side] + one
            counts[side] += 1
    cond, uncond = (total / count for total, count in zip(sums, counts, strict=True))
    return uncond + scale * (cond - uncond)


# ---- the text encoder


class TextEncoder:
    """Text encoders of a diffusers pipeline behind ComfyUI's calls.

    ``(word:1.3)`` is a weight, and texts that are too long go on in further sections.
    """

    def __init__(self, pipe: Any) -> None:
        self.encoders = {"l": (pipe.tokenizer, pipe.text_encoder)}
        if hasattr(pipe, "tokenizer_2"):
            self.encoders["g"] = (pipe.tokenizer_2, pipe.text_encoder_2)
        self.calls = 0

    def tokenize(self, text: str) -> Tokens:
        pieces: list[tuple[str, float]] = []
        end = 0
        for match in _WEIGHT.finditer(text):
            pieces += [(text[end : match.start()], 1.0), (match[1], float(match[2]))]
            end = match.end()
        pieces.append((text[end:], 1.0))
        return {name: self._sections(tokenizer, pieces) for name, (tokenizer, _) in self.encoders.items()}

    @staticmethod
    def _sections(tokenizer: Any, pieces: Sequence[tuple[str, float]]) -> list[list[tuple[Any, float]]]:
        body = [(i, w) for text, w in pieces if text for i in tokenizer(text, add_special_tokens=False).input_ids]
        room = tokenizer.model_max_length - 2
        sections = []
        for start in range(0, max(1, len(body)), room):
            inner = body[start : start + room]
            padding = [(tokenizer.pad_token_id, 1.0)] * (room - len(inner))
            sections.append([(tokenizer.bos_token_id, 1.0), *inner, (tokenizer.eos_token_id, 1.0), *padding])
        return sections

    def encode_from_tokens_scheduled(self, tokens: Tokens) -> list[list[Any]]:
        self.calls += 1
        states, pooled = zip(*(self._encode(name, sections) for name, sections in tokens.items()), strict=True)
        return [[torch.cat(states, dim=-1), {"pooled_output": pooled[-1]}]]

    def _encode(self, name: str, sections: list[list[tuple[Any, float]]]) -> tuple[Tensor, Tensor | None]:
        tokenizer, model = self.encoders[name]
        empty = self._sections(tokenizer, [])[0]
        outputs = [self._states(model, [token for token, _ in section]) for section in (*sections, empty)]
        weighted = []
        for section, (states, _) in zip(sections, outputs[:-1], strict=True):
            weights = torch.tensor([weight for _, weight in section])[None, :, None]
            nothing = outputs[-1][0]
            weighted.append(torch.where(weights == 1, states, nothing + weights * (states - nothing)))
        return torch.cat(weighted, dim=1), outputs[0][1]

    def _states(self, model: Any, tokens: list[Any]) -> tuple[Tensor, Tensor | None]:
        """The states of one section, in which a tensor is an embedding."""
        ids = torch.tensor([[token if isinstance(token, int) else 0 for token in tokens]])
        rows = {i: token for i, token in enumerate(tokens) if not isinstance(token, int)}

        def place(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
            for position, row in rows.items():
                output[:, position] = row
            return output

        handle = model.get_input_embeddings().register_forward_hook(place)
        try:
            with torch.no_grad():
                out = model(ids, output_hidden_states=True)
        finally:
            handle.remove()
        if len(self.encoders) == 1:
            return out.last_hidden_state, out.pooler_output
        return out.hidden_states[-2], getattr(out, "text_embeds", None)


class StandIn:
    """The stand-in, with the pocket model's text encoder for Stable Diffusion 1 and a tiny pair for SDXL."""

    name = "stand-in"

    def __init__(self) -> None:
        self.pipes = {"sd1": load("pocket", device="cpu"), "sdxl": tiny_models.sdxl()}

    def clip(self, kind: Kind) -> TextEncoder:
        return TextEncoder(self.pipes[kind])

    def model(self, kind: Kind) -> ModelPatcher:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            width = self.pipes[kind].unet.config.cross_attention_dim
            depths, middle, pooled = ((1, 1, 1, 0), 1, 0) if kind == "sd1" else ((0, 1, 2), 2, 48)
            return ModelPatcher(LoadedModel(UNetModel(width, depths, middle, pooled).eval().requires_grad_(False)))

    def sample(self, model: ModelPatcher, positive: Any, negative: Any, batch: int = 1) -> Tensor:
        x = torch.randn(batch, 4, 16, 16, generator=torch.Generator().manual_seed(0))
        for t in (0.9, 0.4):
            x = x - 0.5 * denoised(model, x, torch.full((batch,), t), positive, negative, scale=4.0)
        return x
