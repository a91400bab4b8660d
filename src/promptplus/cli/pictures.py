"""The commands that make pictures: ``generate`` and ``demo``."""

from pathlib import Path
from typing import Annotated

import typer

from promptplus.cli.common import (
    Device,
    Dtype,
    Json,
    Model,
    ModelOptions,
    Seed,
    console,
    open_model,
    spoken_warnings,
)
from promptplus.cli.picture_request import PictureRequest, draw, repeat

MAX_GUIDANCE = 1e6  # far above what is useful; infinity gives black pictures
Steps = Annotated[int | None, typer.Option(min=1, help="Denoising steps. Default: the model's usual number.")]
Guidance = Annotated[
    float | None, typer.Option(min=0.0, max=MAX_GUIDANCE, help="Guidance scale. Default: the model's usual one.")
]
SAMPLING, START, FILES = "Sampling", "Start picture", "Files"  # panels of the help text
Concepts = Annotated[
    list[str] | None,
    typer.Option(
        help="A concept file, whose token the prompt may use; FILE=<name> gives the token another name; repeatable."
    ),
]
Loras = Annotated[
    list[str] | None, typer.Option(help="A LoRA file to add to the model, as FILE or FILE:0.8; repeatable.")
]
Negative = Annotated[str, typer.Option(help="The negative prompt, written like the prompt.")]
Count = Annotated[int, typer.Option(min=1, help="Number of pictures, from consecutive seeds.")]
Batch = Annotated[
    int, typer.Option(min=1, help="Pictures that are made at once. Less saves memory.", rich_help_panel=SAMPLING)
]
SampledGuidance = Annotated[
    float | None,
    typer.Option(min=0.0, max=MAX_GUIDANCE, help="Guidance scale. Default: the model's.", rich_help_panel=SAMPLING),
]
Out = Annotated[Path, typer.Option(help="The folder for the pictures. Existing files are kept.", rich_help_panel=FILES)]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on with a stopped command: pictures that are there stay.", rich_help_panel=FILES),
]

FOR_NEW_PICTURES = (
    *("layer", "negative", "seed", "count", "steps", "guidance", "scheduler", "width", "height", "clip_skip"),
    *("compel", "explain", "batch", "strength", "resume", "model"),
)
"""Options that ``--again`` reads from the picture, or does not need."""


def generate(
    context: typer.Context,
    prompt: Annotated[
        str | None,
        typer.Argument(
            help='The prompt: "default text || layers: text || …". Layers are names, groups or numbers, also with '
            "strength, window and mask: fine*0.7@0.6-1#left.png (docs/prompts.md)."
        ),
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option(help='One more part of the prompt, as coarse="a green lizard"; repeatable.')
    ] = None,
    negative: Negative = "",
    concept: Concepts = None,
    lora: Loras = None,
    seed: Seed = 0,
    count: Count = 4,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Denoising steps. Default: the model's.", rich_help_panel=SAMPLING)
    ] = None,
    guidance: SampledGuidance = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="The sampler: ddim, ddpm, deis, dpm, euler, euler-a, heun, pndm, unipc or diffusers' class name. "
            "Default: the model's.",
            rich_help_panel=SAMPLING,
        ),
    ] = None,
    width: Annotated[
        int | None, typer.Option(min=1, help="Width in pixels. Default: the model's.", rich_help_panel=SAMPLING)
    ] = None,
    height: Annotated[
        int | None, typer.Option(min=1, help="Height in pixels. Default: the model's.", rich_help_panel=SAMPLING)
    ] = None,
    clip_skip: Annotated[
        int | None, typer.Option(min=0, help="Last layers of the text encoder to skip.", rich_help_panel=SAMPLING)
    ] = None,
    compel: Annotated[
        bool,
        typer.Option(
            "--compel",
            help="Read weights, as (red:1.3), and texts of any length: needs the extra promptplus[compel].",
        ),
    ] = False,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Print what each layer reads, when and where, and what was cut; draw nothing."),
    ] = False,
    batch: Batch = 16,
    image: Annotated[
        Path | None, typer.Option(help="A picture to start from (image to image).", rich_help_panel=START)
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="How much of it changes, above 0 to 1. Default: 0.8.", rich_help_panel=START),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(help="Where it changes: white; black stays (inpainting).", rich_help_panel=START),
    ] = None,
    again: Annotated[
        Path | None,
        typer.Option(
            help="Make this picture again, from the parameters in it. Its concept, LoRA and picture files are given "
            "with --concept, --lora, --image and --mask.",
            rich_help_panel=FILES,
        ),
    ] = None,
    out: Out = Path("pictures"),
    resume: Resume = False,
    model: Model = "pocket",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Make pictures from a prompt with a text for each layer.

    Writes PNG files that hold their generation parameters (see promptplus info), and a sheet of all pictures. Every
    batch is written as soon as it is made.
    """
    from promptplus.errors import SettingsError

    if (prompt is None) == (again is None):
        raise SettingsError("give a prompt, or --again and a picture that generate made")
    if again is not None:
        for name in FOR_NEW_PICTURES:
            source = context.get_parameter_source(name)
            if source and source.name == "COMMANDLINE":
                option = name.replace("_", "-")
                raise SettingsError(f"--again makes the picture as it was made; leave --{option} out")
    request = PictureRequest(
        concepts=tuple(concept or ()),
        loras=tuple(lora or ()),
        image=image,
        mask=mask,
        strength=strength,
        out=out,
        model=ModelOptions(model, device, dtype),
        as_json=as_json,
    )
    with spoken_warnings():
        if again is not None:
            repeat(request, again)
            return
        settings = {"steps": steps, "guidance": guidance, "scheduler": scheduler, "width": width, "height": height}
        settings |= {"clip_skip": clip_skip, "negative": negative, "compel": compel}
        draw(request, str(prompt), layer or [], list(range(seed, seed + count)), settings, batch, resume, explain)


def demo(
    out: Annotated[Path | None, typer.Option(help="A new folder. Default: runs/demo, or runs/demo-2 …")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps of the concept.")] = None,
    seed: Seed = 0,
    device: Device = None,
) -> None:
    """Show the main features on the pocket model, on one page.

    Per-layer prompts, a concept that is learned and shown in new scenes, and a mix of two concepts. The same command
    goes on where it was stopped.
    """
    import json
    import time

    from promptplus import demo as story
    from promptplus.files import result_folder

    began = time.monotonic()
    out = result_folder(out, Path("runs/demo"))
    with spoken_warnings():
        pplus = open_model(ModelOptions("pocket", device))
        summary = story.run(pplus, out, seed=seed, steps=story.STEPS if steps is None else steps, began=began)
    console.print(f"the page: {(out / 'index.html').resolve()}", markup=False)
    console.print(json.dumps(summary), markup=False)
