"""The commands of the user study: ``study build``, ``serve``, ``report`` and ``export``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptplus.cli.common import Json, Seed, console, say, spoken_warnings
from promptplus.errors import SettingsError, StudyError, first_line

if TYPE_CHECKING:
    from promptplus.user_study.design import Question
    from promptplus.user_study.items import Item

app = typer.Typer(
    help="Build, serve and report a blinded user study.\n\nPeople see two pictures at a time and say which is better.",
    no_args_is_help=True,
    add_completion=False,
)

StudyFolder = Annotated[Path, typer.Argument(help="The folder that study build wrote.")]


@app.command("build")
def build(
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FOLDER: a method and its pictures, in one folder for each concept. Two or more. "
            "With --evaluation, a name there, as xti@500; default: all."
        ),
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="The folder of an evaluation, whose scored pictures are compared.")
    ] = None,
    real: Annotated[
        Path | None,
        typer.Option(help="Real pictures, in one folder for each concept. The question subject needs them."),
    ] = None,
    question: Annotated[
        list[str] | None,
        typer.Option(help="subject, text, or NAME=WORDING for one of your own. Repeatable. Default: subject and text."),
    ] = None,
    participants: Annotated[int, typer.Option(min=1, help="The study closes when so many have finished.")] = 20,
    pairs: Annotated[
        int | None, typer.Option(min=1, help="Pairs for each two methods and each concept. Default: all there are.")
    ] = None,
    pairs_each: Annotated[
        int | None, typer.Option(min=1, help="Pairs that one participant sees. Default: all, at most 30.")
    ] = None,
    catch: Annotated[int, typer.Option(min=0, max=20, help="Catch trials for each question.")] = 3,
    most_wrong: Annotated[
        int, typer.Option(min=0, help="Participants with more wrong answers in catch trials are left out.")
    ] = 1,
    title: Annotated[str, typer.Option(help="Title of the first page.")] = "Which picture is better?",
    consent: Annotated[Path | None, typer.Option(help="A text file: what participants agree to.")] = None,
    word: Annotated[str, typer.Option(help="What prompts call the concept, in place of its token.")] = "thing",
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="A new or empty folder.")] = Path("runs/study"),
    as_json: Json = False,
) -> None:
    """Build a study: blinded pairs of pictures, catch trials and fixed rules.

    The folder's key.json says which method made which picture. The server does not need it: keep it apart.
    """
    from promptplus.files import check_folder
    from promptplus.text_files import read_text
    from promptplus.user_study.build import CONSENT, QUESTIONS, StudyPlan
    from promptplus.user_study.build import build as build_study
    from promptplus.user_study.design import read_key
    from promptplus.user_study.items import read_real
    from promptplus.user_study.power import power_of
    from promptplus.user_study.study_files import CATCH_FILE

    text = read_text(consent, SettingsError).strip() if consent else CONSENT
    asked = [_question(one, bool(real)) for one in question or ("subject", "text")]
    check_folder(out, new=True)
    with spoken_warnings():
        items = _items(method or [], evaluation, word)
        if not all(item.prompt for item in items):  # a question of one's own shows what there is
            asked = [one if one.name in QUESTIONS else one.model_copy(update={"prompt": False}) for one in asked]
        plan = StudyPlan(title, text, asked, participants, pairs, pairs_each, catch, most_wrong, seed)
        concepts = list(dict.fromkeys(item.concept for item in items))
        design = build_study(items, read_real(real, concepts) if real else {}, plan, out)
    key = read_key(out, design)
    power = power_of(design, key)
    answers = design.rules.pairs_each * len(asked) + catch * len(asked)
    values = {
        "study": str(out),
        "methods": list(key.methods),
        "concepts": len(concepts),
        "pairs": sum(not pair.everyone for pair in design.pairs),
        "answers_each": answers,
        "power": vars(power),
    }
    look = f"look at {out / CATCH_FILE}: are the right answers clear?\n" if catch else ""
    on = f"{len(concepts)} concepts" if len(concepts) > 1 else "1 concept"
    sentence = (
        f"{values['pairs']} pairs of {', '.join(key.methods)} on {on}; each of {participants} "
        f"participants answers {answers} questions\n{power}\n{look}the study: promptplus study serve {out}"
    )
    say(values, sentence, as_json)


@app.command("serve")
def serve(
    folder: StudyFolder,
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0: all of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: any free one.")] = 8765,
    access_code: Annotated[str | None, typer.Option(help="What participants must type to begin.")] = None,
) -> None:
    """Serve a study's pages until Ctrl-C. Votes are kept in its folder, and a restart loses none."""
    from promptplus.user_study.design import VOTES, read_design
    from promptplus.user_study.votes import VoteStore

    try:
        from promptplus.user_study import server
    except ImportError as error:
        raise SettingsError(
            f"serving a study needs FastAPI ({first_line(error)}): pip install 'promptplus[study]'"
        ) from error
    design = read_design(folder)
    with server.listen(host, port) as at:
        votes = VoteStore(folder / VOTES, design)
        try:
            console.print(f"serving {folder} at {server.address(at)} (Ctrl-C ends it)", markup=False)
            server.serve(server.create_app(folder, design, votes, access_code), at)
        finally:
            votes.close()


@app.command("report")
def report(
    folder: StudyFolder,
    out: Annotated[Path | None, typer.Option(help="Folder of the report. Default: report, in the study.")] = None,
    as_json: Json = False,
) -> None:
    """Report whose pictures people prefer: a page, a figure, JSON, and all votes as CSV."""
    from promptplus.files import check_folder
    from promptplus.user_study import report as reports

    out = check_folder(out or folder / "report")
    study = reports.report(folder)
    page = study.write(out)
    say({"page": str(page), **study.values}, f"{reports.summary(study)}\nthe page: {page}", as_json)


@app.command("export")
def export(
    folder: StudyFolder,
    out: Annotated[Path, typer.Option(help="The CSV file.")] = Path("votes.csv"),
    as_json: Json = False,
) -> None:
    """Write the votes so far as CSV, still blinded: participant, pair, question and answer."""
    from promptplus.files import write_atomically
    from promptplus.report.tables import from_rows, to_csv
    from promptplus.user_study.design import VOTES, read_design
    from promptplus.user_study.votes import read_votes

    votes = read_votes(folder / VOTES, read_design(folder))
    rows = [(one.participant, one.pair, one.question, one.answer) for one in votes]
    write_atomically(out, to_csv(from_rows(("participant", "pair", "question", "answer"), rows)).encode())
    say({"file": str(out), "votes": len(votes)}, f"{len(votes)} votes: {out}", as_json)


def _question(text: str, has_real: bool) -> "Question":
    """A question from ``subject``, ``text`` or ``NAME=WORDING``. One of your own shows all there is."""
    from pydantic import ValidationError

    from promptplus.user_study.build import QUESTIONS
    from promptplus.user_study.design import Question

    name, equals, wording = text.partition("=")
    if not equals and name in QUESTIONS:
        return QUESTIONS[name]
    if not wording.strip():
        raise SettingsError(f"{text!r} is no question; give {' or '.join(QUESTIONS)}, or NAME=WORDING")
    known = QUESTIONS.get(name)
    try:
        real, prompt = (known.real, known.prompt) if known else (has_real, True)
        return Question(name=name, text=wording.strip(), real=real, prompt=prompt)
    except ValidationError as error:
        raise SettingsError(f"{name!r} is no name of a question ({first_line(error)}); use small letters") from error


def _items(methods: list[str], evaluation: Path | None, word: str) -> "list[Item]":
    """The items of ``--evaluation``, or of folders."""
    from promptplus.user_study.items import items_from_evaluation, items_from_folders

    if evaluation:
        return items_from_evaluation(evaluation, methods, word)
    folders: dict[str, Path] = {}
    for text in methods:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder):
            raise SettingsError(f"--method {text!r} names no folder; write NAME=FOLDER, or add --evaluation FOLDER")
        if name in folders:
            raise SettingsError(f"--method {name} is there twice; give every method another name")
        folders[name] = Path(folder)
    if len(folders) < 2:
        raise StudyError("name two or more methods, each as --method NAME=FOLDER, or an evaluation's folder")
    return items_from_folders(folders, word)
