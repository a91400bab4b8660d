"""The command line: it reads options and prints results, nothing else. One function for each command.

``--help`` must be quick, so a command's module is imported when that command is used, and these modules import nothing
heavy at the top (no torch, no numpy). Tests check both.
"""

import inspect
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from promptplus.cli.common import complain
from promptplus.cli.streams import safe_streams
from promptplus.errors import DISK_ERRORS, Interrupted, PromptPlusError, first_line

CTRL_C = 130  # the exit code of shells for a command that Ctrl-C stopped
TRACEBACK = "PROMPTPLUS_TRACEBACK"  # a variable of the environment: end with Python's traceback

COMMANDS = {
    "demo": ("pictures", "Show the main features on the pocket model, on one page."),
    "generate": ("pictures", "Make pictures from a prompt with a text for each layer."),
    "edit": ("edit", "Edit a real picture by layers."),
    "invert": ("invert", "Learn a concept from a folder of pictures."),
    "mix": ("concepts", "Mix one concept's shape with another's style into a new concept file."),
    "convert": ("concepts", "Write a concept of any tool's file for another tool, or for the hub."),
    "info": ("concepts", "Show what a concept's file of any tool holds, or the generation parameters of a picture."),
    "evaluate": ("evaluate", "Compare methods on concepts, or score pictures that exist."),
    "reproduce": ("reproduce", "Run every study, and report the paper's claims beside what was measured."),
    "studio": ("studio", "Open the studio in a browser: try, learn, mix, edit, look inside."),
    "study": ("study", "Build, serve and report a blinded user study."),
    "analyze": ("analyze", "Measure what layers decide and where they look."),
}
"""Each command's module in this package, and the first line of its help text."""


class LazyGroup(TyperGroup):
    """A group that imports a command's module when the command is used; its own help needs none."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The commands' names, in the order of the help text."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, or None where there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"{__name__}.{COMMANDS[cmd_name][0]}")
        command = typer.Typer(add_completion=False)
        if hasattr(module, "app"):  # a group of commands
            command = module.app
        else:
            function = getattr(module, cmd_name)
            command.command(cmd_name, help=_paragraphs(function))(function)
        return typer.main.get_command(command)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help text from the first lines in ``COMMANDS``."""
        listing = _Listing(name=self.name, help=self.help, params=self.params, rich_markup_mode=self.rich_markup_mode)
        listing.format_help(ctx, formatter)


def _paragraphs(function: Callable[..., None]) -> str:
    """A docstring with one line for each paragraph, so that the terminal's width decides where lines break."""
    return "\n\n".join(" ".join(part.split()) for part in (inspect.getdoc(function) or "").split("\n\n"))


class _Listing(TyperGroup):
    """The same commands, with names and first lines alone."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name][1])


app = typer.Typer(name="promptplus", cls=LazyGroup, no_args_is_help=True, add_completion=False)


@app.callback()
def promptplus() -> None:
    """Diffusion models with a text for each layer (P+), and concepts with a token for each layer (XTI)."""


def main() -> None:
    """Run the command line.

    Exit codes: 0: done; 1: the run failed; 2: an option or an input is wrong; 130: stopped by Ctrl-C.
    """
    if not os.environ.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        # GNU OpenMP's threads wait by spinning, which is very slow beside another busy process (measured: 30 s became
        # 1 s with this value; alone it costs nothing)
        os.environ["GOMP_SPINCOUNT"] = "3000"
    with safe_streams() as failures:
        code = _run()
    if failures and code == 0:
        complain(f"cannot write to standard output: {failures[0].strerror}; the command did all the rest")
        code = 1
    if code:
        sys.exit(code)


def _run() -> int:
    """Run the command; returns the exit code. Every failure is one sentence on standard error."""
    try:
        app()
    except SystemExit as end:  # typer has printed what is wrong
        if end.code == CTRL_C:
            complain("stopped by Ctrl-C; the files that were written before are whole and stay")
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Interrupted as error:
        complain(str(error))
        return CTRL_C if error.by == "SIGINT" else 1
    except PromptPlusError as error:
        complain(str(error))
        return 2 if isinstance(error, ValueError) else 1
    except OSError as error:  # a path that cannot even be looked at, or the system's trouble
        complain(f"{error.filename or 'the system'}: {error.strerror or first_line(error)}")
        return 2 if error.filename and error.errno not in DISK_ERRORS else 1
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        what = "out of memory" if isinstance(error, MemoryError) else type(error).__name__
        complain(f"{what}: {first_line(error)}; set {TRACEBACK}=1 to see where, and tell the developers")
        return 1
    return 0
