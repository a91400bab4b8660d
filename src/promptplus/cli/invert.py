"""The verb that learns concepts: invert."""

from pathlib import Path
from typing import Annotated, Any

import typer

from promptplus.choices import TrainingMethod as AnyMethod
from promptplus.cli.common import Device, Dtype, Json, Model, Seed, spoken_warnings
from promptplus.cli.learning import check_alone, dreambooth, each_concept, one_concept
from promptplus.concept import Kind, Tying
from promptplus.errors import SettingsError
from promptplus.training.compilation import Speed
from promptplus.training.norm_constraint import Constraint
from promptplus.training.settings import Preset, Schedule, Templates

WHAT, HOW, BOOTH = "What is learned", "How", "DreamBooth"  # panels of the help


def invert(
    pictures: Annotated[
        Path, typer.Argument(help="A folder of pictures of one concept; with --each, of such folders.")
    ],
    token: Annotated[
        str | None, typer.Option(help="The placeholder token to define, as <cat>.", rich_help_panel=WHAT)
    ] = None,
    initializer: Annotated[str | None, typer.Option(help="The word the rows begin as.", rich_help_panel=WHAT)] = None,
    class_word: Annotated[str | None, typer.Option(help="The plain word for its class.", rich_help_panel=WHAT)] = None,
    kind: Annotated[Kind | None, typer.Option(help="What it is; decides the captions.", rich_help_panel=WHAT)] = None,
    each: Annotated[
        bool, typer.Option("--each", help="Learn every sub-folder's concept, side by side.", rich_help_panel=WHAT)
    ] = False,
    preset: Annotated[
        Preset | None, typer.Option(help="Named settings; options beside it win.", rich_help_panel=HOW)
    ] = None,
    method: Annotated[
        AnyMethod | None,
        typer.Option(
            help="xti (default): a row per layer; ti: one for all; dreambooth, -lora: train the denoiser.",
            rich_help_panel=HOW,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Optimiser steps; default 500 (dreambooth: 800).", rich_help_panel=HOW),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Pictures per step and concept; default 8 (dreambooth: 1).", rich_help_panel=HOW)
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Default 0.005 (dreambooth: 5e-6, its LoRA: 1e-4).", rich_help_panel=HOW)
    ] = None,
    vectors: Annotated[int | None, typer.Option(help="Rows per layer; default 1.", rich_help_panel=HOW)] = None,
    tying: Annotated[
        Tying | None, typer.Option(help="Which layers share a row; default: the method's.", rich_help_panel=HOW)
    ] = None,
    constraint: Annotated[
        Constraint | None, typer.Option(help="Where rows may lie; default: anywhere.", rich_help_panel=HOW)
    ] = None,
    density: Annotated[
        float | None, typer.Option(help="Weight of the rows' density among words; default 0.", rich_help_panel=HOW)
    ] = None,
    min_snr: Annotated[
        float | None, typer.Option(help="Weigh timesteps by min(SNR, this); default: alike.", rich_help_panel=HOW)
    ] = None,
    flip: Annotated[
        bool | None, typer.Option(help="Mirror half of the pictures; default: yes.", rich_help_panel=HOW)
    ] = None,
    jitter: Annotated[
        int | None, typer.Option(help="Copies of each picture in other colours; default 0.", rich_help_panel=HOW)
    ] = None,
    templates: Annotated[
        Templates | None, typer.Option(help="A template per batch (default) or picture.", rich_help_panel=HOW)
    ] = None,
    micro_batch: Annotated[
        int | None, typer.Option(help="Pictures in memory at once; default: all.", rich_help_panel=HOW)
    ] = None,
    schedule: Annotated[
        Schedule | None, typer.Option(help="Of the learning rate; default: constant.", rich_help_panel=HOW)
    ] = None,
    warmup: Annotated[
        int | None, typer.Option(help="Steps over which the rate rises; default 0.", rich_help_panel=HOW)
    ] = None,
    beta1: Annotated[
        float | None, typer.Option(help="AdamW's decay of the gradient's mean; default .9.", rich_help_panel=HOW)
    ] = None,
    beta2: Annotated[
        float | None, typer.Option(help="AdamW's decay of its square; default .999.", rich_help_panel=HOW)
    ] = None,
    average: Annotated[
        float | None, typer.Option(help="Decay of the rows' moving average; default 0: none.", rich_help_panel=HOW)
    ] = None,
    stratified: Annotated[
        bool | None, typer.Option(help="Spread a batch's timesteps evenly; default: no.", rich_help_panel=HOW)
    ] = None,
    antithetic: Annotated[
        bool | None, typer.Option(help="Use each noise twice, once negated; default: no.", rich_help_panel=HOW)
    ] = None,
    timestep_bias: Annotated[
        float | None, typer.Option(help="Above 1: more of the noisy timesteps; default 1.", rich_help_panel=HOW)
    ] = None,
    speed: Annotated[
        Speed | None, typer.Option(help="How the denoiser runs; default: plain.", rich_help_panel=HOW)
    ] = None,
    identifier: Annotated[
        str | None, typer.Option(help="dreambooth: what names the subject; default sks.", rich_help_panel=BOOTH)
    ] = None,
    class_pictures: Annotated[
        Path | None,
        typer.Option(help="dreambooth: pictures of the class; default: the model draws them.", rich_help_panel=BOOTH),
    ] = None,
    class_count: Annotated[
        int | None, typer.Option(help="dreambooth: how many of those; default 200.", rich_help_panel=BOOTH)
    ] = None,
    prior_weight: Annotated[
        float | None, typer.Option(help="dreambooth: weight of the class; default 1.", rich_help_panel=BOOTH)
    ] = None,
    rank: Annotated[
        int | None, typer.Option(help="dreambooth-lora: of its matrices; default 4.", rich_help_panel=BOOTH)
    ] = None,
    log_with: Annotated[list[str] | None, typer.Option(help="Also log to tensorboard, wandb or trackio.")] = None,
    preview_every: Annotated[int | None, typer.Option(min=0, help="Steps between previews; 0: none.")] = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run, new or to go on with; default: runs/TOKEN.")
    ] = None,
    model: Model = "pocket",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Learn a concept from a folder of pictures: the concept file (dreambooth: a pipeline), a log, previews, a page.

    The same call with the same --out goes on where it was stopped; more --steps go on from a finished run.
    """
    from promptplus.pictures import FolderNote

    options: dict[str, Any] = {
        "method": method,
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "vectors": vectors,
        "tying": tying,
        "constraint": constraint,
        "density": density,
        "min_snr": min_snr,
        "flip": flip,
        "jitter": jitter,
        "templates": templates,
        "micro_batch": micro_batch,
        "schedule": schedule,
        "warmup": warmup,
        "beta1": beta1,
        "beta2": beta2,
        "average": average,
        "stratified": stratified,
        "antithetic": antithetic,
        "timestep_bias": timestep_bias,
        "speed": speed,
        "identifier": identifier,
        "class_count": class_count,
        "prior_weight": prior_weight,
        "rank": rank,
    }
    options = {name: value for name, value in options.items() if value is not None} | {"seed": seed}
    call: dict[str, Any] = {"preview_every": preview_every, "log_with": log_with or (), **options}
    told, place = (
        FolderNote(token=token, initializer=initializer, class_word=class_word, kind=kind),
        (model, device, dtype),
    )
    with spoken_warnings():
        if method in ("dreambooth", "dreambooth-lora"):
            check_alone(method, {"each": each or None, "preset": preset, "token": token, "initializer": initializer})
            dreambooth(pictures, told, class_pictures, out, place, call, as_json)
            return
        if class_pictures:
            raise SettingsError("class_pictures is an option of dreambooth; leave it out")
        call["preset"] = preset
        if each:
            each_concept(pictures, told, out, place, call, as_json)
        else:
            one_concept(pictures, told, out, place, call, as_json)
