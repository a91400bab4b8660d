"""The command line: argument parsing and printing, nothing else. One verb per function."""

import sys

import typer

from promptplus.cli import analyze, concepts, pictures
from promptplus.cli.common import complain
from promptplus.cli.evaluate import evaluate
from promptplus.cli.invert import invert
from promptplus.cli.reproduce import reproduce
from promptplus.errors import PromptPlusError

app = typer.Typer(
    name="promptplus",
    help="Per-layer text conditioning (P+) and its inversion (XTI) for diffusion models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(pictures.demo)
app.command("generate")(pictures.generate)
app.command("invert")(invert)
app.command("mix")(concepts.mix)
app.command("info")(concepts.info)
app.command("evaluate")(evaluate)
app.command("reproduce")(reproduce)
app.add_typer(analyze.app, name="analyze")


def main() -> None:
    """Run the command line. Exit code 0; 1: the run failed; 2: the words are off."""
    try:
        app()
    except PromptPlusError as error:
        complain(str(error))
        sys.exit(2 if isinstance(error, ValueError) else 1)
    except OSError as error:  # a path that cannot even be looked at
        complain(f"{error.filename or 'the system'}: {error.strerror or error}")
        sys.exit(2)
