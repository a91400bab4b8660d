"""Verbs that make pictures: generate and demo."""

from pathlib import Path
from typing import Annotated

import typer

from promptplus.cli.common import Device, Dtype, Json, Model, Seed, complain, console, open_model, say, spoken_warnings


def generate(
    prompt: Annotated[str, typer.Argument(help="default text || <layers>: text || …")],
    layer: Annotated[
        list[str] | None, typer.Option(help='One more part, as coarse="a green lizard"; repeatable.')
    ] = None,
    negative: Annotated[str, typer.Option(help="The negative prompt, in the same grammar.")] = "",
    concept: Annotated[list[Path] | None, typer.Option(help="A concept file; repeatable.")] = None,
    lora: Annotated[list[Path] | None, typer.Option(help="A LoRA file; repeatable.")] = None,
    seed: Seed = 0,
    count: Annotated[int, typer.Option(min=1, help="How many pictures, from consecutive seeds.")] = 4,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps; default: usual (pocket: 25).")] = None,
    guidance: Annotated[float | None, typer.Option(min=0.0, help="Guidance scale; default: usual (pocket: 3).")] = None,
    clip_skip: Annotated[int | None, typer.Option(min=0, help="Text encoder layers to skip.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at once.")] = 16,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("pictures"),
    model: Model = "pocket",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Make pictures from a per-layer prompt: PNGs that carry their recipe, and a contact sheet."""
    from promptplus.files import check_folder
    from promptplus.png_metadata import GenerationParameters, make_pictures
    from promptplus.profiles import default_sampling
    from promptplus.prompts import parse_prompt

    parsed = parse_prompt(prompt, layer or ())
    check_folder(out)
    with spoken_warnings():
        pplus = open_model(model, device, dtype, concept or (), lora or ())
        for token in pplus.concepts:
            if not any(token in text for text in parsed):
                complain(f"note: no part of the prompt uses {token}")
        steps, guidance = default_sampling(pplus.pipe, steps, guidance)
        recipe = GenerationParameters.of(
            pplus,
            lora or (),
            prompt=str(parsed),
            negative=negative,
            model=model,
            steps=steps,
            guidance=guidance,
            clip_skip=clip_skip,
        )
        made = make_pictures(pplus, recipe, list(range(seed, seed + count)), out, batch=batch)
    values = {"pictures": [str(p) for p in made.pictures], "sheet": str(made.sheet), "seed": seed, "count": count}
    say(values, f"{count} pictures in {out}, all on {made.sheet}", as_json)


def demo(
    out: Annotated[Path | None, typer.Option(help="A new folder; default: runs/demo, or the next.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Inversion steps.")] = None,
    seed: Seed = 0,
    device: Device = None,
) -> None:
    """The main job on the pocket model: per-layer prompts, a learned concept in new scenes, a mix; one page."""
    import json
    import time

    from promptplus import demo as story
    from promptplus.files import check_folder, free_folder

    began = time.monotonic()
    out = check_folder(out or free_folder(Path("runs/demo")), new=True)
    with spoken_warnings():
        pplus = open_model("pocket", device, None)
        summary = story.run(pplus, out, seed=seed, steps=story.STEPS if steps is None else steps, began=began)
    console.print(f"the page: {(out / 'index.html').resolve()}", markup=False)
    console.print(json.dumps(summary), markup=False)
