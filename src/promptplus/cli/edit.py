"""The command ``edit``: other texts in some layers of a real picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptplus.cli.common import Device, Dtype, Json, Model, ModelOptions, Seed, say, spoken_warnings
from promptplus.cli.picture_request import PictureRequest, check_prompts, note_unused_concepts
from promptplus.cli.pictures import (
    SAMPLING,
    Batch,
    Concepts,
    Count,
    Loras,
    Negative,
    Out,
    Resume,
    SampledGuidance,
)

if TYPE_CHECKING:
    from promptplus.prompts import PPlusPrompt


def edit(
    picture: Annotated[Path, typer.Argument(help="The picture to edit.")],
    source: Annotated[str, typer.Option(help="The prompt that describes the picture.")],
    layer: Annotated[
        list[str] | None,
        typer.Option(help='Another text for some layers, as fine="a green car"; repeatable. All others keep --source.'),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="A whole prompt in place of --source, in the grammar of generate.")
    ] = None,
    negative: Negative = "",
    concept: Concepts = None,
    lora: Loras = None,
    mask: Annotated[
        Path | None, typer.Option(help="A picture of the same size: what is black stays, to the bit.")
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Also write a strip of the edit with every nested set of layers.")
    ] = False,
    method: Annotated[
        str, typer.Option(help="How the picture becomes noise: noise-maps or ddim.", rich_help_panel=SAMPLING)
    ] = "noise-maps",
    skip: Annotated[
        float | None,
        typer.Option(
            help="Share of the steps, the noisiest ones, that is left out. More keeps more of the picture. "
            "Default: 0.15.",
            rich_help_panel=SAMPLING,
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Denoising steps. Default: 50.", rich_help_panel=SAMPLING)
    ] = None,
    guidance: SampledGuidance = None,
    seed: Seed = 0,
    count: Count = 1,
    batch: Batch = 16,
    out: Out = Path("edited"),
    resume: Resume = False,
    model: Model = "pocket",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Edit a real picture by layers.

    The picture is inverted into noise with --source, then denoised with --layer's texts in the layers that it names and
    with --source in all others. Every seed gives another edit. Writes PNG files that hold all settings, and a sheet.
    """
    from promptplus.editing.edit import SKIP, STEPS, EditSettings
    from promptplus.prompts import PPlusPrompt

    settings = EditSettings(method, STEPS if steps is None else steps, guidance, SKIP if skip is None else skip)
    described = PPlusPrompt.parse(source)
    whole = _target(source, target, layer or [])
    request = PictureRequest(
        concepts=tuple(concept or ()),
        loras=tuple(lora or ()),
        image=picture,
        mask=mask,
        strength=None,
        out=out,
        model=ModelOptions(model, device, dtype),
        as_json=as_json,
    )
    seeds = list(range(seed, seed + count))
    with spoken_warnings():
        _draw(request, described, whole, PPlusPrompt.parse(negative), settings, seeds, batch, resume, sweep)


def _target(source: str, target: str | None, layers: list[str]) -> "PPlusPrompt":
    """The prompt to denoise with. Raises PromptError where nothing is to change."""
    from promptplus.errors import PromptError
    from promptplus.prompts import parse_prompt

    if target is None and not layers:
        raise PromptError(
            'the edit changes no layer; give --layer fine="another text", or --target with a whole prompt'
        )
    return parse_prompt(source if target is None else target, layers)


def _draw(
    request: PictureRequest,
    source: "PPlusPrompt",
    target: "PPlusPrompt",
    negative: "PPlusPrompt",
    settings: Any,
    seeds: list[int],
    batch: int,
    resume: bool,
    sweep: bool,
) -> None:
    from promptplus.editing.edit import check_edit
    from promptplus.editing.sweep import sweep as strip_of
    from promptplus.generation_parameters import EditRecord, GenerationParameters
    from promptplus.png_metadata import make_pictures, save_numbered
    from promptplus.profiles import default_sampling

    files = request.read(same_size=True)
    check_prompts(request.model.model, [source, target, negative], files.concepts, settings.steps)
    pplus = request.load(files)
    check_edit(pplus.pipe, settings)
    note_unused_concepts(pplus, (*source, *target))
    assert files.start is not None
    _, guidance = default_sampling(pplus.pipe, settings.steps, settings.guidance)
    parameters = GenerationParameters.of(
        pplus,
        files.loras,
        model=request.model.model,
        prompt=str(target),
        negative=str(negative),
        steps=settings.steps,
        guidance=guidance,
        scheduler="DDIMScheduler",
        edit=EditRecord(source=str(source), method=settings.method, skip=settings.skip),
        **request.start_files(),
    )
    made = make_pictures(pplus, parameters, seeds, request.out, start=files.start, batch=batch, resume=resume)
    values: dict[str, Any] = {"pictures": [str(path) for path in made.pictures], "sheet": str(made.sheet)}
    sentence = f"{len(seeds)} edits in {request.out}, all on {made.sheet}"
    if sweep:
        options: dict[str, Any] = {"negative": negative, "seed": seeds[0], "settings": settings, "batch": batch}
        strip = save_numbered(strip_of(pplus, files.start, source, target, **options), request.out, "sweep", parameters)
        values["sweep"] = str(strip)
        sentence += f"; layer by layer on {strip}"
    say({**values, "seed": seeds[0], "count": len(seeds), "kept": made.kept}, sentence, request.as_json)
