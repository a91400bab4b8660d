"""The settings that determine a generated or edited picture."""

import hashlib
import importlib.metadata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict

from promptplus.denoisers import denoiser_of
from promptplus.generation import DrawingOptions
from promptplus.lora import Lora
from promptplus.pplus import PPlus
from promptplus.prompt_masks import mask_path, read_masks
from promptplus.prompts import PPlusPrompt
from promptplus.start_image import StartImage


def _with_strength(lora: Any) -> Any:
    """Version 0.1 wrote (name, hash) without the strength, which was 1."""
    if not isinstance(lora, list | tuple):
        return lora
    values = cast(list[Any], lora)
    return (*values, 1.0) if len(values) == 2 else tuple(values)


LoraRecord = Annotated[tuple[str, str, float], BeforeValidator(_with_strength)]
"""Name, SHA-256 and strength of a LoRA file."""


class EditRecord(BaseModel):
    """How an edited picture was made, besides the settings that all pictures have: see ``editing.EditSettings``.

    Attributes:
        source: the prompt that describes the picture.
        method, skip: as in ``EditSettings``.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    source: str
    method: str
    skip: float


class GenerationParameters(BaseModel):
    """All settings that determine a generated picture. With the same files it can be made again, bit for bit.

    Attributes:
        prompt, negative: the prompts, in the grammar.
        model: the model, as ``load`` takes it.
        steps, guidance, clip_skip, seed: the arguments of ``generate``.
        width, height: as they were given; None: the model's.
        image, mask: name and SHA-256 of the file of the start picture and of its mask; None: there was none.
        strength: of the start picture.
        masks: SHA-256 of each mask file that the prompts name, by path.
        compel: whether compel read the prompts' weights.
        concepts: SHA-256 of each concept's rows, by token.
        loras: name, SHA-256 and strength of each LoRA file.
        edit: of an edited picture, whose ``prompt`` is the target.
        batch: the seeds of the pictures that were made together, its own among them: they decide the rounding.
        scheduler, dtype: of the pipeline.
        version: of promptplus.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    prompt: str
    negative: str = ""
    model: str
    steps: int
    guidance: float
    clip_skip: int | None = None
    seed: int = 0
    width: int | None = None
    height: int | None = None
    image: tuple[str, str] | None = None
    mask: tuple[str, str] | None = None
    strength: float | None = None
    masks: dict[str, str] = {}
    compel: bool = False
    concepts: dict[str, str] = {}
    loras: list[LoraRecord] = []
    edit: EditRecord | None = None
    batch: list[int] = []
    scheduler: str = ""
    dtype: str = ""
    version: str = ""

    @classmethod
    def of(cls, pplus: PPlus, loras: Sequence[Lora] = (), **values: Any) -> Self:
        """The parameters of a pipeline with its concepts.

        Args:
            pplus: the pipeline.
            loras: the LoRA files that are loaded into it.
            values: all other fields. Default of ``scheduler``: the pipeline's.

        Raises PromptError where a mask that a prompt names cannot be read.
        """
        made_by: dict[str, Any] = {"scheduler": type(pplus.pipe.scheduler).__name__, **values}
        edit: EditRecord | None = values.get("edit")
        texts = (values["prompt"], values.get("negative", ""), edit.source if edit else "")
        return cls(
            **made_by,
            masks=mask_hashes(map(PPlusPrompt.parse, texts)),
            loras=lora_records(loras),
            concepts={token: concept.sha256 for token, concept in pplus.concepts.items()},
            dtype=str(denoiser_of(pplus.pipe).dtype).removeprefix("torch."),
            version=importlib.metadata.version("promptplus"),
        )

    def options(self, pplus: PPlus, start: StartImage | None) -> DrawingOptions:
        """The arguments of ``generate`` besides prompts, seeds and ``clip_skip``."""
        own = type(pplus.pipe.scheduler).__name__
        return {
            "steps": self.steps,
            "guidance": self.guidance,
            "scheduler": None if self.scheduler in ("", own) else self.scheduler,
            "width": self.width,
            "height": self.height,
            "start": start,
        }


def file_hash(path: Path) -> str:
    """SHA-256 of a file: 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def mask_hashes(prompts: Iterable[PPlusPrompt]) -> dict[str, str]:
    """SHA-256 of the mask files that prompts name, by path. Raises PromptError where a mask cannot be read."""
    hashes: dict[str, str] = {}
    for prompt in prompts:
        read_masks(prompt)
        hashes |= {mask: file_hash(mask_path(mask)) for mask in prompt.mask_files}
    return hashes


def lora_records(loras: Sequence[Lora]) -> list[tuple[str, str, float]]:
    """Name, hash and strength of LoRA files, as generation parameters hold them."""
    return [(lora.path.name, file_hash(lora.path), lora.strength) for lora in loras]
