"""The commands that measure layers: ``analyze attributes``, ``attention``, ``density``, ``mixing``, ``strength``."""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from promptplus.cli.common import (
    Device,
    Dtype,
    Json,
    Model,
    ModelOptions,
    check_folder_steps,
    open_model,
    read_concept,
    say,
    spoken_warnings,
)
from promptplus.cli.pictures import Guidance, Steps

if TYPE_CHECKING:
    from promptplus.experiments.study import Study

app = typer.Typer(
    help="Measure what layers decide and where they look.\n\nEach command writes a page, CSV files and JSON.",
    no_args_is_help=True,
    add_completion=False,
)

Out = Annotated[Path | None, typer.Option(help="A new or empty folder. Default: runs/NAME.")]
WordList = Annotated[str | None, typer.Option(help="Words, separated by commas. Default: the model's usual list.")]
ConceptFiles = Annotated[
    list[str], typer.Argument(help="Concept files, as FILE or FILE=<name>. Those of TI and of XTI are compared.")
]


@app.command("attributes")
def attributes(
    pairs: Annotated[int, typer.Option(min=2, help="Number of prompt pairs.")] = 64,
    seeds: Annotated[int, typer.Option(min=1, help="Pictures of each prompt pair and each choice of layers.")] = 1,
    judge: Annotated[
        Literal["classifier", "clip", "both"] | None,
        typer.Option(help="What recognises attributes in pictures. Default: both with the pocket model, else clip."),
    ] = None,
    colours: WordList = None,
    objects: WordList = None,
    styles: WordList = None,
    steps: Steps = None,
    guidance: Guidance = None,
    out: Out = None,
    model: Model = "pocket",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Measure which layers decide object, colour and style.

    A second prompt replaces the first in some layers, coarse to fine, or from some denoising step on.
    """
    from promptplus.experiments import attributes as experiment
    from promptplus.experiments.takeover import judges_for
    from promptplus.kept_pictures import keeping
    from promptplus.profiles import profile_of

    given = _given_words(colours, objects, styles)
    check_folder_steps(model, steps)
    out = _check_out(out, "attributes")
    with spoken_warnings(), keeping(out):
        pplus = open_model(ModelOptions(model, device, dtype))
        words = profile_of(pplus.pipe).words_with(given)
        judges = judges_for(pplus.pipe, judge, words)
        settings = experiment.AttributeStudySettings(words, judges, pairs, seeds)
        study = experiment.study(pplus, settings, steps=steps, guidance=guidance)
    halfway = {judge: values["halfway"] for judge, values in study.values["by_judge"].items()}
    lines = [
        f"halfway, in subsets, judge {judge}: "
        + "; ".join(f"{name} {v:.2f} [{low:.2f}, {high:.2f}]" for name, (v, low, high) in intervals.items())
        for judge, intervals in halfway.items()
    ]
    _finish(study, out, {"halfway": halfway}, "\n".join(lines), as_json)


@app.command("attention")
def attention(
    prompts: Annotated[int, typer.Option(min=2, help="Number of prompts.")] = 32,
    seeds: Annotated[int, typer.Option(min=1, help="Pictures of each prompt.")] = 4,
    colours: WordList = None,
    objects: WordList = None,
    styles: WordList = None,
    steps: Steps = None,
    guidance: Guidance = None,
    out: Out = None,
    model: Model = "pocket",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Measure how much attention each layer gives to the words for object, colour and style."""
    from promptplus.experiments import attention as experiment
    from promptplus.kept_pictures import keeping
    from promptplus.profiles import profile_of

    given = _given_words(colours, objects, styles)
    check_folder_steps(model, steps)
    out = _check_out(out, "attention")
    with spoken_warnings(), keeping(out):
        pplus = open_model(ModelOptions(model, device, dtype))
        words = profile_of(pplus.pipe).words_with(given)
        drawn = experiment.draw_prompts(words, prompts)
        study = experiment.study(pplus, drawn, range(seeds), steps=steps, guidance=guidance)
    share = study.values["of_words"]["object"]
    _finish(study, out, {"object": share}, f"the object's share of the words' attention: {share}", as_json)


@app.command("density")
def density(
    concept: ConceptFiles,
    out: Out = None,
    model: Model = "pocket",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Measure where learned rows lie among the vocabulary: log densities, controls, nearest words."""
    from promptplus.experiments import token_density as experiment

    out = _check_out(out, "density")
    with spoken_warnings():
        loaded = [read_concept(text) for text in concept]
        pplus = open_model(ModelOptions(model, device, dtype))
        groups: dict[str, list[Any]] = {}
        for one in loaded:
            one.check_fits(pplus.layers, pplus.widths)
            groups.setdefault("TI rows" if one.tying == "all" else "XTI rows", []).append(one)
        study = experiment.study(pplus, groups)
    medians = {name: sorted(values)[len(values) // 2] for name, values in study.values["log_density"].items()}
    sentence = "; ".join(f"{name} {value:.1f}" for name, value in medians.items())
    _finish(study, out, {"median_log_density": medians}, f"median log density: {sentence}", as_json)


@app.command("mixing")
def mixing(
    concept: Annotated[
        list[str],
        typer.Argument(help="Two or more concept files, as FILE or FILE=<name>. Each gives its shape to the next one."),
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Pictures of each mix.")] = 4,
    interpolate: Annotated[
        bool, typer.Option("--interpolate", help="Also show interpolations between the two concepts.")
    ] = False,
    out: Out = None,
    model: Model = "pocket",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Mix one concept's shape with another's style, at every split of the layers.

    The bundled concepts of the pocket model are scored too, since their shape and style are known.
    """
    from promptplus.errors import ConceptError
    from promptplus.experiments import mixing as experiment
    from promptplus.kept_pictures import keeping
    from promptplus.profiles import profile_of

    out = _check_out(out, "mixing")
    loaded = {one.token.strip("<>"): one for one in map(read_concept, concept)}
    if len(loaded) < 2:
        raise ConceptError("give two or more concepts with different tokens to mix")
    names = list(loaded)
    pairs = [experiment.ConceptPair(a, b) for a, b in zip(names, names[1:] + names[:1], strict=True)]
    with spoken_warnings(), keeping(out):
        pplus = open_model(ModelOptions(model, device, dtype))
        if profile_of(pplus.pipe).can_draw_mixes(names):
            study = experiment.study(pplus, {"XTI": loaded}, pairs, seeds, {})
        else:
            study = experiment.study_without_judge(pplus, loaded, pairs, seeds)
        if interpolate:
            study = replace(study, sections=[*study.sections, experiment.interpolation_section(pplus, loaded, pairs)])
    success = study.values.get("success", {})
    sentence = "; ".join(f"{way}: {sum(shares) / len(shares):.0%}" for way, shares in success.items())
    _finish(study, out, {"success": success}, sentence or "not judged: there is no ground truth for these", as_json)


@app.command("strength")
def strength(
    pairs: Annotated[int, typer.Option(min=2, help="Number of prompt pairs.")] = 32,
    seeds: Annotated[int, typer.Option(min=1, help="Pictures of each prompt pair and each strength.")] = 1,
    strengths: Annotated[
        str | None, typer.Option(help="Strengths, separated by commas. Default: twelve from -1 to 4.")
    ] = None,
    judge: Annotated[
        Literal["classifier", "clip"] | None,
        typer.Option(help="What recognises attributes in pictures. Default: the pocket's classifier, else clip."),
    ] = None,
    colours: WordList = None,
    objects: WordList = None,
    styles: WordList = None,
    steps: Steps = None,
    guidance: Guidance = None,
    out: Out = None,
    model: Model = "pocket",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Measure from which strength on a part of a prompt takes over, and beyond which one pictures break.

    The strengths 0 and 1 are always measured.
    """
    from promptplus.experiments import strength as experiment
    from promptplus.kept_pictures import keeping
    from promptplus.profiles import profile_of

    given, numbers = _given_words(colours, objects, styles), _given_strengths(strengths)
    check_folder_steps(model, steps)
    out = _check_out(out, "strength")
    with spoken_warnings(), keeping(out):
        pplus = open_model(ModelOptions(model, device, dtype))
        settings = experiment.StrengthStudySettings.of(pplus.pipe, profile_of(pplus.pipe).words_with(given), judge)
        settings = replace(settings, pairs=pairs, seeds=seeds)
        if numbers:
            settings = settings.with_strengths(numbers)
        study = experiment.study(pplus, settings, steps=steps, guidance=guidance)
    found = study.values["found"]
    lines = [
        f"{name}: best {own['best']:g}, useful {'{:g} to {:g}'.format(*own['useful'])}" for name, own in found.items()
    ]
    _finish(study, out, {"found": found}, "\n".join(lines), as_json)


def _check_out(out: Path | None, name: str) -> Path:
    """The folder for a page: the given one, or one below ``runs``. An unfinished one is continued."""
    from promptplus.files import result_folder

    return result_folder(out, Path("runs") / name)


def _given_words(colours: str | None, objects: str | None, styles: str | None) -> dict[str, list[str]]:
    """The word lists that were given, by attribute. Raises SettingsError where one has fewer than two words."""
    from promptplus.experiments.takeover import check_words

    given = {"colour": colours, "object": objects, "style": styles}
    words = {name: [one.strip() for one in text.split(",") if one.strip()] for name, text in given.items() if text}
    check_words(words)
    return words


def _given_strengths(text: str | None) -> list[float]:
    """The strengths that were given. Raises SettingsError where one is no finite number."""
    from promptplus.errors import SettingsError

    numbers: list[float] = []
    for word in text.split(",") if text else ():
        try:
            numbers.append(float(word))
        except ValueError:
            numbers.append(float("nan"))
        if not math.isfinite(numbers[-1]):
            raise SettingsError(f"strengths are numbers, separated by commas, as -1,0,0.5, not {word.strip()!r}")
    return numbers


def _finish(study: "Study", out: Path, values: dict[str, Any], sentence: str, as_json: bool) -> None:
    """Write the study's page and print its result."""
    page = study.write(out)
    say({"page": str(page), **values}, f"{sentence}\nthe page: {page}", as_json)
