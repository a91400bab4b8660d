"""What ``generate`` does with a request: read the files, load the model, make the pictures, print the result."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptplus.cli.common import ModelOptions, complain, open_model, read_concept, say
from promptplus.errors import SettingsError

if TYPE_CHECKING:
    from promptplus.concept import Concept
    from promptplus.generation_parameters import GenerationParameters
    from promptplus.lora import Lora
    from promptplus.pplus import PPlus
    from promptplus.prompts import PPlusPrompt
    from promptplus.start_image import StartImage


@dataclass(frozen=True)
class PictureRequest:
    """The files that a command makes pictures from and into, as they were given.

    Attributes:
        concepts: concept files, as ``FILE`` or ``FILE=<name>``.
        loras: LoRA files, as ``FILE`` or ``FILE:0.8``.
        image, mask, strength: of the start picture.
        out: the folder for the pictures.
    """

    concepts: tuple[str, ...]
    loras: tuple[str, ...]
    image: Path | None
    mask: Path | None
    strength: float | None
    out: Path
    model: ModelOptions
    as_json: bool

    def read(self, same_size: bool = False) -> "PictureFiles":
        """Read and check all files, before a model is loaded.

        Args:
            same_size: whether a mask of another size than the picture's is a mistake; else it is resized.
        """
        from promptplus.files import check_folder
        from promptplus.lora import Lora

        check_folder(self.out)
        loras = [Lora.parse(text) for text in self.loras]
        for one in loras:
            one.check()
        return PictureFiles([read_concept(text) for text in self.concepts], loras, self._start(same_size))

    def _start(self, same_size: bool) -> "StartImage | None":
        from PIL import Image

        from promptplus.pictures import read_picture
        from promptplus.start_image import STRENGTH, StartImage

        if self.image is None:
            for name, value in {"strength": self.strength, "mask": self.mask}.items():
                if value is not None:
                    raise SettingsError(f"--{name} belongs to --image, which was not given; give both")
            return None
        picture, mask = read_picture(self.image), self.mask and read_picture(self.mask)
        if mask and mask.size != picture.size and not same_size:
            mask = mask.resize(picture.size, Image.Resampling.BILINEAR)
        return StartImage(picture, STRENGTH if self.strength is None else self.strength, mask)

    def start_files(self) -> dict[str, tuple[str, str] | None]:
        """Name and hash of the files of the start picture and its mask, as generation parameters hold them."""
        from promptplus.generation_parameters import file_hash

        files = {"image": self.image, "mask": self.mask}
        return {name: path and (path.name, file_hash(path)) for name, path in files.items()}

    def load(self, files: "PictureFiles") -> "PPlus":
        """Load the model with LoRAs and concepts."""
        return open_model(self.model, files.concepts, files.loras)


@dataclass(frozen=True)
class PictureFiles:
    """What was read from a request's files."""

    concepts: "list[Concept]"
    loras: "list[Lora]"
    start: "StartImage | None"


def draw(
    request: PictureRequest,
    prompt: str,
    layers: list[str],
    seeds: list[int],
    settings: dict[str, Any],
    batch: int,
    resume: bool,
    explain: bool = False,
) -> None:
    """Make the pictures of a prompt, or explain it.

    ``settings``: those of the command line, None where not given.
    """
    from promptplus.generation_parameters import GenerationParameters
    from promptplus.pipelines import scheduler_class
    from promptplus.png_metadata import make_pictures
    from promptplus.profiles import default_sampling
    from promptplus.prompts import PPlusPrompt, parse_prompt

    parsed = parse_prompt(prompt, layers)
    negative = PPlusPrompt.parse(settings["negative"])
    chosen = None if settings["scheduler"] is None else scheduler_class(settings["scheduler"])
    files = request.read()
    check_prompts(request.model.model, [parsed, negative], files.concepts, settings["steps"])
    pplus = request.load(files)
    note_unused_concepts(pplus, parsed)
    if explain:
        say_explanation(pplus, {"prompt": parsed, "negative": negative}, settings["compel"], request.as_json)
        return
    steps, guidance = default_sampling(pplus.pipe, settings["steps"], settings["guidance"])
    given = {**settings, **request.start_files(), "steps": steps, "guidance": guidance, "prompt": str(parsed)}
    given["scheduler"] = chosen or type(pplus.pipe.scheduler).__name__
    given["strength"] = files.start and files.start.strength
    parameters = GenerationParameters.of(pplus, files.loras, model=request.model.model, **given)
    made = make_pictures(pplus, parameters, seeds, request.out, start=files.start, batch=batch, resume=resume)
    values = {"pictures": [str(path) for path in made.pictures], "sheet": str(made.sheet)}
    there = f" ({made.kept} were there)" if resume else ""
    sentence = f"{len(seeds)} pictures in {request.out}{there}, all on {made.sheet}"
    say({**values, "seed": seeds[0], "count": len(seeds), "kept": made.kept}, sentence, request.as_json)


def say_explanation(pplus: "PPlus", prompts: "Mapping[str, PPlusPrompt]", compel: bool, as_json: bool) -> None:
    """Print what each prompt tells each layer, as a table, or as JSON."""
    from rich.markup import escape
    from rich.table import Table

    from promptplus.cli.common import console
    from promptplus.prompt_explanation import COLUMNS, explain

    rows = {name: explain(pplus, prompt, compel=compel) for name, prompt in prompts.items()}
    if as_json:
        say({name: [row.describe() for row in each] for name, each in rows.items()}, "", as_json)
        return
    for name, each in rows.items():
        if str(prompts[name]):
            used = [i for i in range(len(COLUMNS)) if any(row.cells[i] for row in each)]
            table = Table(*(COLUMNS[i] for i in used), title=name, title_justify="left", box=None, pad_edge=False)
            for row in each:
                table.add_row(*(escape(row.cells[i]) for i in used))
            console.print(table)


def note_unused_concepts(pplus: "PPlus", texts: Iterable[str]) -> None:
    """Say which of the added concepts no text uses."""
    from promptplus.placeholders import normal

    used = [normal(text) for text in texts]
    for token in pplus.concepts:
        if not any(token in text for text in used):
            complain(f"note: no part of the prompt uses {token}")


def check_prompts(
    model: str, prompts: Sequence["PPlusPrompt"], concepts: Sequence["Concept"], steps: int | None
) -> None:
    """Find mistakes in prompts, masks, tokens and steps before the model is loaded, as far as its folder shows them."""
    from promptplus.generation import check_steps
    from promptplus.model_folder import ModelFolder
    from promptplus.placeholders import check_new, split_at_placeholders
    from promptplus.prompt_masks import read_masks

    for prompt in prompts:
        read_masks(prompt)
    tokens = [one.token for one in concepts]
    if twice := [token for token in tokens if tokens.count(token) > 1]:
        raise SettingsError(f"two concepts have the token {twice[0]}; give one another name, as --concept FILE=<name>")
    folder = ModelFolder.read(model)
    if folder is None:
        return
    for one in concepts:
        with one.naming_file():
            check_new(one.token, folder.words)
    for prompt in prompts:
        prompt.texts(folder.layers)
        for text in prompt:
            list(split_at_placeholders(text, tokens, folder.added))
    if steps is not None:
        check_steps(steps, folder.timesteps)


def repeat(request: PictureRequest, picture: Path) -> None:
    """Make a picture again. The files must be those that it was made with."""
    from promptplus.png_metadata import make_again, read_parameters, save_picture

    parameters = read_parameters(picture)
    request = replace(request, strength=parameters.strength if request.image else request.strength)
    files = request.read()
    check_same_files(parameters, request, files)
    check_same_masks(parameters)
    options = replace(request.model, model=parameters.model, dtype=request.model.dtype or parameters.dtype or None)
    pplus = replace(request, model=options).load(files)
    made = save_picture(make_again(pplus, parameters, files.start), parameters, request.out)
    say({"pictures": [str(made)], "seed": parameters.seed}, f"{picture} again: {made}", request.as_json)


def check_same_masks(parameters: "GenerationParameters") -> None:
    """Raise SettingsError where a mask file is another one than a picture was made with, or is gone."""
    from promptplus.generation_parameters import mask_hashes
    from promptplus.prompts import PPlusPrompt

    source = parameters.edit.source if parameters.edit else ""
    prompts = [PPlusPrompt.parse(text) for text in (parameters.prompt, parameters.negative, source)]
    for path, now in mask_hashes(prompts).items():
        if parameters.masks.get(path) != now:
            raise SettingsError(f"the picture was made with another mask {path} than is there now; put that one back")


def check_same_files(parameters: "GenerationParameters", request: PictureRequest, files: PictureFiles) -> None:
    """Raise SettingsError where a picture was made with other files than are given now."""
    from promptplus.generation_parameters import lora_records

    given: dict[str, Any] = {"concept": {one.token: one.sha256 for one in files.concepts}}
    given |= {"lora": lora_records(files.loras), **request.start_files()}
    then = {"concept": parameters.concepts, "lora": parameters.loras}
    then |= {"image": parameters.image, "mask": parameters.mask}
    for name, before in then.items():
        if _hashes(before) != _hashes(given[name]):
            raise SettingsError(
                f"the picture was made with --{name} {_names(before) or 'left out'}, now it is "
                f"{_names(given[name]) or 'left out'}, or its content is another; give the same files"
            )


def _hashes(files: Any) -> Any:
    """Files without their names, which may change."""
    if isinstance(files, tuple):
        return files[1:]
    return [one[1:] for one in files] if isinstance(files, list) else files


def _names(files: Any) -> str:
    if isinstance(files, tuple):
        return files[0]
    names = [one[0] for one in files] if isinstance(files, list) else list(files or ())
    return ", ".join(names)
