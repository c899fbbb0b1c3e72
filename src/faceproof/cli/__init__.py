"""The command line: verbs that parse, call and print. Nothing is decided here, and nothing heavy is imported for --help."""

from __future__ import annotations

import signal
import sys
import threading
from importlib import import_module
from typing import NoReturn

import typer

from faceproof import __version__

app = typer.Typer(
    name="faceproof",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Says for each person in a picture or video how likely the face was swapped, re-enacted or blended, "
    "and says plainly when it cannot tell.",
)

# Each room adds its own verbs; the order here is the order in --help, under these headings.
_ROOMS = {
    "scan": "Scan",
    "faces": "Scan",
    "doctor": "Scan",
    "evidence": "Evidence",
    "detectors": "Detectors",
    "ops": "Detectors",
    "evaluate": "Measure and train",
    "train": "Measure and train",
    "serve": "Service",
}

EXIT_SOME_FAILED = 1
EXIT_USAGE = 2
EXIT_FAKE_FOUND = 3


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"faceproof {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    del version


for _room, _heading in _ROOMS.items():
    _commands, _groups = len(app.registered_commands), len(app.registered_groups)
    import_module(f"faceproof.cli.{_room}").register(app)
    for _command in app.registered_commands[_commands:]:
        _command.rich_help_panel = _heading
    for _group in app.registered_groups[_groups:]:
        _group.rich_help_panel = _heading


def _end(number: int, _frame: object) -> NoReturn:
    """Ends as Ctrl-C does, so that nothing half written stays behind. The second time kills as usual."""
    signal.signal(number, signal.SIG_DFL)
    if "multiprocessing" in sys.modules:
        # Unlike Ctrl-C, this reached only us.
        for child in sys.modules["multiprocessing"].active_children():
            child.terminate()
    raise SystemExit(128 + number)


def main() -> None:
    """Entry point. Errors raised on purpose become one line and a remedy on stderr; Ctrl-C ends with 130, SIGTERM 143."""
    from faceproof.errors import FaceproofError, OptionError

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)
    for stream in (sys.stdout, sys.stderr):
        # File names may hold bytes that the terminal's encoding lacks; that must not end a scan.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except FaceproofError as error:
        from faceproof.cli.terminal import print_error

        print_error(error.message, error.remedy)
        sys.exit(EXIT_USAGE if isinstance(error, OptionError) else EXIT_SOME_FAILED)
    except KeyboardInterrupt:
        # One that came while the command line library was already leaving, past its own handling of it.
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe went away (head, less): not our error.
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_SOME_FAILED)
