"""The verb that measures layers: analyze attributes, attention, density."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from promptplus.cli.common import Device, Dtype, Json, Model, open_model, say, spoken_warnings

if TYPE_CHECKING:
    from promptplus.experiments.study import Study

app = typer.Typer(help="Measure what layers decide and where they look: a page, CSV and JSON.", no_args_is_help=True)

Out = Annotated[Path | None, typer.Option(help="A folder, new or empty; default: runs/NAME.")]
Listed = Annotated[str | None, typer.Option(help="Comma list; default: the model's own list.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Denoising steps; default: usual for the model.")]
Guidance = Annotated[float | None, typer.Option(min=0.0, help="Guidance scale; default: usual for the model.")]


@app.command("attributes")
def attributes(
    pairs: Annotated[int, typer.Option(min=2, help="Prompt pairs.")] = 64,
    seeds: Annotated[int, typer.Option(min=1, help="Pictures of each.")] = 1,
    judge: Annotated[
        Literal["classifier", "clip", "both"] | None, typer.Option(help="Default: both on the pocket, else clip.")
    ] = None,
    colours: Listed = None,
    objects: Listed = None,
    styles: Listed = None,
    steps: Steps = None,
    guidance: Guidance = None,
    out: Out = None,
    model: Model = "pocket",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Which layer decides what: prompt 2 takes over layers, coarse to fine, or denoising steps."""
    from promptplus.experiments import attributes as evidence
    from promptplus.experiments.takeover import judges_for
    from promptplus.profiles import profile_of

    out = _folder(out, "attributes")
    with spoken_warnings():
        pplus = open_model(model, device, dtype)
        words = profile_of(pplus.pipe).words_with(_words(colours, objects, styles))
        plan = evidence.AttributeStudySettings(words, judges_for(pplus.pipe, judge, words), pairs, seeds)
        study = evidence.study(pplus, plan, steps=steps, guidance=guidance)
    halfway = {judge: own["halfway"] for judge, own in study.values["by_judge"].items()}
    said = [
        f"halfway, in subsets, judge {judge}: "
        + "; ".join(f"{name} {v:.2f} [{low:.2f}, {high:.2f}]" for name, (v, low, high) in own.items())
        for judge, own in halfway.items()
    ]
    _finish(study, out, {"halfway": halfway}, "\n".join(said), as_json)


@app.command("attention")
def attention(
    prompts: Annotated[int, typer.Option(min=2, help="Prompts.")] = 32,
    seeds: Annotated[int, typer.Option(min=1, help="Pictures of each.")] = 4,
    colours: Listed = None,
    objects: Listed = None,
    styles: Listed = None,
    steps: Steps = None,
    guidance: Guidance = None,
    out: Out = None,
    model: Model = "pocket",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Where layers look: attention on the object's word and on the words of its looks."""
    from promptplus.experiments import attention as evidence
    from promptplus.experiments.attention import draw_prompts
    from promptplus.profiles import profile_of

    out = _folder(out, "attention")
    with spoken_warnings():
        pplus = open_model(model, device, dtype)
        words = profile_of(pplus.pipe).words_with(_words(colours, objects, styles))
        asked = draw_prompts(words, prompts)
        study = evidence.study(pplus, asked, range(seeds), steps=steps, guidance=guidance)
    share = study.values["of_words"]["object"]
    _finish(study, out, {"object": share}, f"the object's share of the words' attention: {share}", as_json)


@app.command("density")
def density(
    concept: Annotated[list[Path], typer.Argument(help="Concept files; those of TI and XTI are grouped.")],
    out: Out = None,
    model: Model = "pocket",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Where learned rows lie among words: log densities with controls, nearest words."""
    from promptplus import Concept
    from promptplus.experiments import token_density as evidence

    out = _folder(out, "density")
    with spoken_warnings():
        loaded = [Concept.load(path) for path in concept]
        pplus = open_model(model, device, dtype)
        groups: dict[str, list[Any]] = {}
        for one in loaded:
            groups.setdefault("TI rows" if one.tying == "all" else "XTI rows", []).append(one)
        study = evidence.study(pplus, groups)
    medians = {name: sorted(values)[len(values) // 2] for name, values in study.values["log_density"].items()}
    said = "; ".join(f"{name} {value:.1f}" for name, value in medians.items())
    _finish(study, out, {"median_log_density": medians}, f"median log density: {said}", as_json)


@app.command("mixing")
def mixing(
    concept: Annotated[list[Path], typer.Argument(help="Two or more concept files; each lends the next its shape.")],
    seeds: Annotated[int, typer.Option(min=1, help="Pictures of each mix.")] = 4,
    interpolate: Annotated[bool, typer.Option("--interpolate", help="Show places between the two, too.")] = False,
    out: Out = None,
    model: Model = "pocket",
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """One concept's shape with another's looks, at every split; judged where the pocket knows the truth."""
    from promptplus import Concept
    from promptplus.errors import ConceptError
    from promptplus.experiments import mixing as evidence
    from promptplus.profiles import profile_of

    out = _folder(out, "mixing")
    loaded = {one.token.strip("<>"): one for one in map(Concept.load, concept)}
    if len(loaded) < 2:
        raise ConceptError("give two or more concepts with different tokens to mix")
    names = list(loaded)
    pairs = [evidence.ConceptPair(a, b) for a, b in zip(names, names[1:] + names[:1], strict=True)]
    with spoken_warnings():
        pplus = open_model(model, device, dtype)
        known = profile_of(pplus.pipe).can_draw_mixes(names)
        if known:
            study = evidence.study(pplus, {"XTI": loaded}, pairs, seeds, {})
        else:
            study = evidence.study_without_judge(pplus, loaded, pairs, seeds)
        if interpolate:
            study = replace(study, sections=[*study.sections, evidence.interpolation_section(pplus, loaded, pairs)])
    success = study.values.get("success", {})
    said = "; ".join(f"{way}: {sum(shares) / len(shares):.0%}" for way, shares in success.items())
    _finish(study, out, {"success": success}, said or "not judged: there is no ground truth for these", as_json)


def _folder(out: Path | None, name: str) -> Path:
    from promptplus.files import check_folder, free_folder

    return check_folder(out or free_folder(Path("runs") / name), new=True)


def _words(colours: str | None, objects: str | None, styles: str | None) -> dict[str, list[str]]:
    given = {"colour": colours, "object": objects, "style": styles}
    return {name: [word.strip() for word in said.split(",") if word.strip()] for name, said in given.items() if said}


def _finish(study: "Study", out: Path, values: dict[str, Any], sentence: str, as_json: bool) -> None:
    page = study.write(out)
    say({"page": str(page), **values}, f"{sentence}\nthe page: {page}", as_json)
