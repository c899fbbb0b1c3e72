"""The command line: verbs that parse, call and print. Nothing is decided here, and nothing heavy is imported for --help."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from copy import copy
from importlib import import_module
from typing import NoReturn

import typer

from faceproof import __version__
from faceproof.cli.usage import plain_help

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
plain_help(app)


def for_verb(verb: str | None) -> typer.Typer:
    """The application with no other verb than this one; all of it where there is no such verb.

    Typer reads the signature of everything it was given before it looks at what was asked for, which takes longer than
    scanning a picture.
    """
    commands = [one for one in app.registered_commands if verb == _name(one.name, one.callback)]
    groups = [one for one in app.registered_groups if verb == one.name]
    if not commands and not groups:
        return app
    alone = copy(app)
    alone.registered_commands, alone.registered_groups = commands, groups
    return alone


def _name(given: str | None, callback: Callable[..., object] | None) -> str | None:
    return given or (callback.__name__.replace("_", "-") if callback is not None else None)


def _end(number: int, _frame: object) -> NoReturn:
    """Ends as Ctrl-C does, so that nothing half written stays behind. The second time kills as usual."""
    signal.signal(number, signal.SIG_DFL)
    if "multiprocessing" in sys.modules:
        # Unlike Ctrl-C, this reached only us.
        for child in sys.modules["multiprocessing"].active_children():
            child.terminate()
    raise SystemExit(128 + number)


def program() -> NoReturn:
    """:func:`main` as a process of its own, which ends without taking Python and the engines apart piece by piece: that
    takes a fifth of the time of scanning a picture, and the system takes back what a process held at once."""
    from faceproof.cli.outlets import outfit

    outfit()
    code = 0
    # What a program imports stays, and looking it through for garbage again and again finds none.
    gc.set_threshold(50_000)
    # NumPy's and OpenCV's OpenBLAS each start threads that turn round and round for a while, waiting for work which a scan
    # hardly has: a fifth of the processor time of judging a picture. As many threads, which sleep at once.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    try:
        main()
    except SystemExit as leaving:
        if not (leaving.code is None or isinstance(leaving.code, int)):
            raise
        code = leaving.code or 0
    others = [one for one in threading.enumerate() if one is not threading.current_thread() and not one.daemon]
    if others:  # somebody is still at work, and Python waits for them
        sys.exit(code)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    """The command as a function, which raises SystemExit. Errors raised on purpose become one line and a remedy on stderr;
    Ctrl-C ends with 130, SIGTERM 143."""
    from faceproof.cli.outlets import check_all_said
    from faceproof.cli.usage import WrongUsage, check_words, dash_remedy, told
    from faceproof.errors import FaceproofError, OptionError

    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)
    for stream in (sys.stdout, sys.stderr):
        # File names may hold bytes that the terminal's encoding lacks; that must not end a scan.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            check_words(sys.argv[1:])
            code = for_verb(sys.argv[1] if len(sys.argv) > 1 else None)(prog_name="faceproof", standalone_mode=False)
        finally:
            check_all_said()
    except FaceproofError as error:
        from faceproof.cli.terminal import print_error

        print_error(error.message, dash_remedy(sys.argv[1:]) or error.remedy)
        sys.exit(EXIT_USAGE if isinstance(error, OptionError) else EXIT_SOME_FAILED)
    except WrongUsage as error:
        if type(error).__name__ != "NoArgsIsHelpError":  # whose help is printed by now
            from faceproof.cli.terminal import print_error

            print_error(*told(error, sys.argv[1:]))
        sys.exit(EXIT_USAGE)
    except typer.Abort:  # a question that was left unanswered
        sys.exit(EXIT_SOME_FAILED)
    except KeyboardInterrupt:
        # One that came while the command line library was already leaving, past its own handling of it.
        sys.exit(130)
    # What typer.Exit carried; verbs themselves return nothing.
    sys.exit(code if isinstance(code, int) else 0)
