"""The command ``studio``: the browser studio."""

from pathlib import Path
from typing import Annotated

import typer

from promptplus.cli.common import Device, Dtype, Model, ModelOptions, console, open_model, spoken_warnings

HIGHEST_PORT = 65535


def studio(
    port: Annotated[
        int | None, typer.Option(min=1, max=HIGHEST_PORT, help="The port. Default: the first free one from 7860 on.")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the studio in the browser.")] = True,
    out: Annotated[
        Path, typer.Option(help="The folder of training runs; the studio keeps its pictures and uploads below it.")
    ] = Path("runs"),
    model: Model = "pocket",
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Open the studio in a browser: try, learn, mix, edit, look inside.

    Only this machine can reach it. It needs the extra ui: pip install 'promptplus[ui]'. Ctrl-C ends it; a running
    training saves what it learned.
    """
    from promptplus.errors import OutputError, SettingsError
    from promptplus.files import check_folder

    check_folder(out)
    try:
        import gradio  # noqa: F401  (only whether it is there)
    except ImportError:
        raise SettingsError("the studio needs gradio; install it with: pip install 'promptplus[ui]'") from None
    with spoken_warnings():
        pplus = open_model(ModelOptions(model, device, dtype))
        from promptplus.studio.app import served
        from promptplus.studio.jobs import Jobs
        from promptplus.studio.recipe import ModelSource
        from promptplus.studio.workplace import Workplace

        place = Workplace(pplus, ModelSource(model, device, dtype), out, Jobs())
        try:
            with served(place, port, open_browser) as address:
                console.print(f"the studio: {address}  (Ctrl-C ends it)", markup=False)
                wait_for_the_end()
                console.print("ending; a running training saves what it learned …")
        except OSError as error:
            raise OutputError(f"no port for the studio: {error}; give another one with --port") from error


def wait_for_the_end() -> None:
    """Wait for Ctrl-C or SIGTERM. A second SIGTERM changes nothing; a second Ctrl-C ends the process at once."""
    import signal
    import time

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt  # not an event: a handler that sets one may wait for a lock of the thread it runs in

    signal.signal(signal.SIGTERM, end)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return
