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
    complain,
    console,
    open_model,
    say,
    spoken_warnings,
)

Steps = Annotated[int | None, typer.Option(min=1, help="Denoising steps. Default: the model's usual number.")]
Guidance = Annotated[float | None, typer.Option(min=0.0, help="Guidance scale. Default: the model's usual one.")]


def generate(
    prompt: Annotated[
        str,
        typer.Argument(help='The prompt: "default text || layers: text || …". Layers are names, groups or numbers.'),
    ],
    layer: Annotated[
        list[str] | None, typer.Option(help='One more part of the prompt, as coarse="a green lizard"; repeatable.')
    ] = None,
    negative: Annotated[str, typer.Option(help="The negative prompt, written like the prompt.")] = "",
    concept: Annotated[
        list[Path] | None, typer.Option(help="A concept file, whose token the prompt may use; repeatable.")
    ] = None,
    lora: Annotated[list[Path] | None, typer.Option(help="A LoRA file to add to the model; repeatable.")] = None,
    seed: Seed = 0,
    count: Annotated[int, typer.Option(min=1, help="Number of pictures, from consecutive seeds.")] = 4,
    steps: Steps = None,
    guidance: Guidance = None,
    clip_skip: Annotated[int | None, typer.Option(min=0, help="Last layers of the text encoder to skip.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures that are made at once. Less saves memory.")] = 16,
    out: Annotated[Path, typer.Option(help="The folder for the pictures. Existing files are kept.")] = Path("pictures"),
    model: Model = "pocket",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Make pictures from a prompt with a text for each layer.

    Writes PNG files that hold their generation parameters (see promptplus info), and a sheet of all pictures.
    """
    from promptplus.files import check_folder
    from promptplus.png_metadata import GenerationParameters, make_pictures
    from promptplus.profiles import default_sampling
    from promptplus.prompts import parse_prompt

    parsed = parse_prompt(prompt, layer or ())
    check_folder(out)
    with spoken_warnings():
        pplus = open_model(ModelOptions(model, device, dtype), concept or (), lora or ())
        for token in pplus.concepts:
            if not any(token in text for text in parsed):
                complain(f"note: no part of the prompt uses {token}")
        steps, guidance = default_sampling(pplus.pipe, steps, guidance)
        parameters = GenerationParameters.of(
            pplus,
            lora or (),
            prompt=str(parsed),
            negative=negative,
            model=model,
            steps=steps,
            guidance=guidance,
            clip_skip=clip_skip,
        )
        made = make_pictures(pplus, parameters, list(range(seed, seed + count)), out, batch=batch)
    values = {"pictures": [str(path) for path in made.pictures], "sheet": str(made.sheet), "seed": seed, "count": count}
    say(values, f"{count} pictures in {out}, all on {made.sheet}", as_json)


def demo(
    out: Annotated[Path | None, typer.Option(help="A new folder. Default: runs/demo, or runs/demo-2 …")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps of the concept.")] = None,
    seed: Seed = 0,
    device: Device = None,
) -> None:
    """Show the main features on the pocket model, on one page.

    Per-layer prompts, a concept that is learned and shown in new scenes, and a mix of two concepts.
    """
    import json
    import time

    from promptplus import demo as story
    from promptplus.files import check_folder, free_folder

    began = time.monotonic()
    out = check_folder(out or free_folder(Path("runs/demo")), new=True)
    with spoken_warnings():
        pplus = open_model(ModelOptions("pocket", device))
        summary = story.run(pplus, out, seed=seed, steps=story.STEPS if steps is None else steps, began=began)
    console.print(f"the page: {(out / 'index.html').resolve()}", markup=False)
    console.print(json.dumps(summary), markup=False)
