"""The command ``invert``: from options to a request for training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from promptplus.choices import Kind, Preset, TrainingMethod
from promptplus.cli.common import Device, Dtype, Json, Model, ModelOptions, Seed, spoken_warnings
from promptplus.cli.train import TrainingRequest, invert_each, invert_one, train_denoiser
from promptplus.errors import SettingsError
from promptplus.training.settings import (
    PRESETS,
    SETTINGS,
    DreamBoothSettings,
    InversionSettings,
    LoraSettings,
    TrainingSettings,
    validated,
    value_of_text,
)
from promptplus.training.settings_help import setting_help

CONCEPT, TRAINING, RUN = "Concept", "Training", "Run"  # panels of the help text
OWN_OPTION = ("method", "steps", "learning_rate", "batch_size", "vectors", "learn", "micro_batch", "seed")
"""Settings with an option of their own."""
NOT_SET = ("method", "seed")
"""Settings that ``--set`` does not take."""
KINDS = (InversionSettings, DreamBoothSettings, LoraSettings)


def setting(name: str) -> Any:
    """A command-line option for a setting: help text and defaults are the setting's."""
    having = [kind for kind in KINDS if name in kind.model_fields]
    note = "" if len(having) == len(KINDS) else " Not for dreambooth."
    return typer.Option(help=setting_help(name, *having) + note, rich_help_panel=TRAINING)


def _method_help() -> str:
    return " ".join(str(kind.model_fields["method"].description) for kind in (InversionSettings, DreamBoothSettings))


def _set_help() -> str:
    """The help text of ``--set``, with the settings that have no option of their own, by method."""
    groups = (
        ("for all methods", set(TrainingSettings.model_fields)),
        ("for xti and ti", InversionSettings.model_fields.keys() - TrainingSettings.model_fields.keys()),
        ("for dreambooth", DreamBoothSettings.model_fields.keys() - TrainingSettings.model_fields.keys()),
        ("for dreambooth-lora", LoraSettings.model_fields.keys() - DreamBoothSettings.model_fields.keys()),
    )
    lists = [f"{', '.join(sorted(names - {*OWN_OPTION}))} {method}" for method, names in groups]
    return (
        "Any setting but method and seed, as --set warmup=20; repeatable. "
        f"Settings without an option of their own: {'; '.join(lists)}. See docs/settings.md."
    )


def invert(
    pictures: Annotated[
        Path,
        typer.Argument(help="A folder of pictures of one concept. With --each: a folder that holds such folders."),
    ],
    token: Annotated[
        str | None, typer.Option(help="The placeholder token to define, as <cat>.", rich_help_panel=CONCEPT)
    ] = None,
    initializer: Annotated[
        str | None, typer.Option(help="The word whose embedding training starts from.", rich_help_panel=CONCEPT)
    ] = None,
    class_word: Annotated[
        str | None,
        typer.Option(help="The plain word for its class. Default: the initializer.", rich_help_panel=CONCEPT),
    ] = None,
    kind: Annotated[
        Kind | None,
        typer.Option(help="What the concept is; it decides the captions. Default: object.", rich_help_panel=CONCEPT),
    ] = None,
    each: Annotated[
        bool, typer.Option("--each", help="Learn one concept for each sub-folder, together.", rich_help_panel=CONCEPT)
    ] = False,
    class_pictures: Annotated[
        Path | None,
        typer.Option(
            help="dreambooth: a folder of pictures of the class. Default: the model draws them.",
            rich_help_panel=CONCEPT,
        ),
    ] = None,
    captions: Annotated[
        bool,
        typer.Option(
            "--captions",
            help="Train each picture with the text file beside it, as p0.txt. The token takes the place of {} or of "
            "the class word.",
            rich_help_panel=CONCEPT,
        ),
    ] = False,
    describe: Annotated[
        str | None,
        typer.Option(
            help="One caption for all pictures, as 'a {} striped mug on a table'. It says all but the concept, whose "
            "token takes the place of {}.",
            rich_help_panel=CONCEPT,
        ),
    ] = None,
    preset: Annotated[
        Preset | None,
        typer.Option(help="Named settings, see docs/settings.md. Other options win.", rich_help_panel=TRAINING),
    ] = None,
    method: Annotated[
        TrainingMethod | None,
        typer.Option(help=f"{_method_help()} Default: xti.", rich_help_panel=TRAINING),
    ] = None,
    steps: Annotated[int | None, setting("steps")] = None,
    learning_rate: Annotated[float | None, setting("learning_rate")] = None,
    batch_size: Annotated[int | None, setting("batch_size")] = None,
    vectors: Annotated[int | None, setting("vectors")] = None,
    learn: Annotated[str | None, setting("learn")] = None,
    micro_batch: Annotated[int | None, setting("micro_batch")] = None,
    seed: Seed = 0,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help=_set_help(), rich_help_panel=TRAINING),
    ] = None,
    preview_every: Annotated[
        int | None,
        typer.Option(min=0, help="Steps between preview pictures. 0: none. Default: five times.", rich_help_panel=RUN),
    ] = None,
    log_with: Annotated[
        list[str] | None,
        typer.Option(help="Log the loss to tensorboard, wandb or trackio too; repeatable.", rich_help_panel=RUN),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The run folder: a new one, or one of a stopped run. Default: runs/TOKEN.", rich_help_panel=RUN
        ),
    ] = None,
    model: Model = "pocket",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Learn a concept from a folder of pictures.

    The run folder gets the concept file (dreambooth: a pipeline or a LoRA file), a log, preview pictures and a report
    (run.html). The same command with the same --out continues a stopped run; with more --steps it continues a
    finished one. A folder's concept.json gives what the options leave out.
    """
    given = {"method": method, "steps": steps, "learning_rate": learning_rate, "batch_size": batch_size}
    given |= {"vectors": vectors, "learn": learn, "micro_batch": micro_batch, "seed": seed}
    options = {name: value for name, value in given.items() if value is not None}
    chosen: TrainingMethod = method or "xti"
    assigned = parse_assignments(chosen, assignments or ())
    if twice := options.keys() & assigned.keys():
        raise SettingsError(f"{min(twice)} is given twice, as an option and with --set; leave one out")
    options |= assigned
    request = TrainingRequest(
        pictures=pictures,
        token=token,
        initializer=initializer,
        class_word=class_word,
        kind=kind,
        class_pictures=class_pictures,
        captions=captions,
        describe=describe,
        preset=preset,
        options=options,
        preview_every=preview_every,
        log_with=tuple(log_with or ()),
        out=out,
        model=ModelOptions(model, device, dtype),
        as_json=as_json,
    )
    with spoken_warnings():
        if SETTINGS[chosen] is not InversionSettings:
            others = {"preset": preset, "token": token, "initializer": initializer}
            _refuse(chosen, {"each": each or None, "captions": captions or None, "describe": describe, **others})
            validated(SETTINGS[chosen], options)
            train_denoiser(request)
            return
        if class_pictures:
            raise SettingsError("class_pictures is an option of dreambooth; leave it out")
        validated(InversionSettings, {**(PRESETS[preset] if preset else {}), **options})
        if captions and describe is not None:
            raise SettingsError("captions and describe both say what the pictures show; leave one out")
        if each:
            invert_each(request)
        else:
            invert_one(request)


def parse_assignments(method: TrainingMethod, assignments: Sequence[str]) -> dict[str, Any]:
    """The values of ``--set name=value``, by name. Raises SettingsError where one is no setting of the method."""
    kind = SETTINGS[method]
    names = [name for name in kind.model_fields if name not in NOT_SET]
    options: dict[str, Any] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise SettingsError(f"--set {text!r} is not name=value, as warmup=20")
        if name in NOT_SET:
            raise SettingsError(f"--set {text!r}: use the option --{name.replace('_', '-')} instead")
        if name in options:
            raise SettingsError(f"--set gives {name} twice; leave one out")
        if name not in kind.model_fields:
            others = [other for other, its in SETTINGS.items() if name in its.model_fields]
            belongs = f"; it belongs to {' and '.join(others)}" if others else ""
            raise SettingsError(f"{name} is no option of the method {method}{belongs}; there are {', '.join(names)}")
        options[name] = value_of_text(kind, name, value.strip())
    return options


def _refuse(method: TrainingMethod, others: dict[str, Any]) -> None:
    """Raise SettingsError where an option is given that DreamBooth does not have."""
    for name, value in others.items():
        if value is not None:
            raise SettingsError(f"{name} is no option of the method {method}; leave it out")
