"""The command line and the Python that make the studio's pictures again."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptplus.generation_parameters import GenerationParameters
from promptplus.models import POCKET
from promptplus.studio.concept_files import ConceptFile, shown


@dataclass(frozen=True)
class ModelSource:
    """What a pipeline was loaded from, as the options of the command line say it; None: the default."""

    name: str
    device: str | None = None
    dtype: str | None = None

    @property
    def options(self) -> list[str]:
        """The command line's options."""
        name = None if self.name == POCKET else self.name
        return _options({"--model": name, "--device": self.device, "--dtype": self.dtype})

    @property
    def call(self) -> str:
        """The Python that loads it."""
        given = {"device": self.device, "dtype": self.dtype}
        return ", ".join([f"pp.load({self.name!r}", *(f"{k}={v!r}" for k, v in given.items() if v)]) + ")"


@dataclass(frozen=True)
class Recipe:
    """How to make something again.

    Attributes:
        command: lines for a shell, with the default folder of the command.
        python: a program that uses the stock pipeline.
    """

    command: str
    python: str


def pictures_recipe(
    parameters: GenerationParameters, concepts: Sequence[ConceptFile], seeds: Sequence[int], model: ModelSource
) -> Recipe:
    """The recipe of pictures from consecutive seeds."""
    one = parameters
    options = {"--negative": one.negative, "--seed": seeds[0], "--count": len(seeds)}
    options |= {"--steps": one.steps, "--guidance": f"{one.guidance:g}"}
    given = [*_concept_options(concepts), *_options({**options, **_size(one)}), *model.options]
    return Recipe(_shell("generate", one.prompt, *given), _python(one, concepts, seeds, model))


def edit_recipe(
    parameters: GenerationParameters,
    picture: Path,
    concepts: Sequence[ConceptFile],
    seeds: Sequence[int],
    model: ModelSource,
) -> Recipe:
    """The recipe of edits of a picture."""
    one, edit = parameters, parameters.edit
    assert edit is not None
    options = {"--source": edit.source, "--target": one.prompt, "--negative": one.negative}
    options |= {"--seed": seeds[0], "--count": len(seeds), "--steps": one.steps, "--guidance": f"{one.guidance:g}"}
    options |= {"--skip": f"{edit.skip:g}"}
    given = [*_concept_options(concepts), *_options(options), *model.options]
    lines = [
        *_head(concepts, model, "from promptplus.editing.edit import EditSettings"),
        f"settings = EditSettings(steps={one.steps}, guidance={one.guidance!r}, skip={edit.skip!r})",
        f"edited = pp.edit(pplus, {shown(picture)!r}, source={edit.source!r}, target={one.prompt!r},",
        f"                 negative={one.negative!r}, seed={seeds[0]}, settings=settings)",
        'edited.save("edited.png")',
    ]
    return Recipe(_shell("edit", shown(picture), *given), "\n".join(lines))


def mix_recipe(shape: ConceptFile, style: ConceptFile, layers: str, token: str, out: Path, then: Recipe) -> Recipe:
    """The recipe of a mix, and of its pictures: ``then``."""
    options = {"--shape": shown(shape.path), "--style": shown(style.path), "--shape-layers": layers, "--token": token}
    command = _shell("mix", *_options({**options, "--out": shown(out)}))
    lines = [
        f"shape = pp.Concept.load({shown(shape.path)!r})",
        f"style = pp.Concept.load({shown(style.path)!r})",
        f"mixed = pp.mix(shape, style, {token!r}, shape_layers={layers!r})",
        f"mixed.save({shown(out)!r})",
    ]
    imports, rest = then.python.split("\n\n", 1)
    return Recipe(f"{command}\n{then.command}", "\n".join([imports, "", *lines, rest]))


def _python(
    parameters: GenerationParameters, concepts: Sequence[ConceptFile], seeds: Sequence[int], model: ModelSource
) -> str:
    one = parameters
    size = "".join(f", {name[2:]}={value}" for name, value in _size(one).items())
    lines = [
        *_head(concepts, model, "import torch"),
        f"prompt = {one.prompt!r}",
        f"seeds = range({seeds[0]}, {seeds[0] + len(seeds)})",
        f"embeds = pplus.encode([prompt] * len(seeds), negative={one.negative or None!r})",
        "noise = [torch.Generator().manual_seed(seed) for seed in seeds]",
        f"images = pplus.pipe(**embeds, num_inference_steps={one.steps}, guidance_scale={one.guidance!r}{size},",
        "                    generator=noise).images",
    ]
    return "\n".join(lines)


def _head(concepts: Sequence[ConceptFile], model: ModelSource, also: str) -> list[str]:
    """Imports, the pipeline and its concepts."""
    return [
        "import promptplus as pp",
        also,
        "",
        f"pplus = pp.PPlus({model.call})",
        *(f"pplus.add(pp.Concept.load({shown(one.path)!r}))" for one in concepts),
    ]


def _concept_options(concepts: Sequence[ConceptFile]) -> list[str]:
    return [text for one in concepts for text in ("--concept", shown(one.path))]


def _options(values: dict[str, Any]) -> list[str]:
    """Options and their values; what is None or empty is left out."""
    return [text for name, value in values.items() if value not in (None, "") for text in (name, str(value))]


def _size(parameters: GenerationParameters) -> dict[str, int]:
    sides = {"--width": parameters.width, "--height": parameters.height}
    return {name: value for name, value in sides.items() if value is not None}


def _shell(*arguments: object) -> str:
    return shlex.join(["promptplus", *map(str, arguments)])
