"""Help and usage errors in the words of this program: one line that says what is wrong, one that says what to type."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

# ClickException, which newer releases of the command line library name only in a private module.
WrongUsage: type[Exception] = typer.BadParameter.__mro__[2]


def flowing(text: str | None) -> str | None:
    """A docstring whose paragraphs are one line each: the help breaks them where the terminal ends, not where the source
    did."""
    if not text:
        return None
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", inspect.cleandoc(text)))


def _plain(parameters: list[Any]) -> list[Any]:
    """Switches that take no value name none: newer releases of the library write ``<bool>`` behind them."""
    for one in parameters:
        if one.metavar is None and getattr(one, "is_flag", False):
            one.metavar = ""
    return parameters


class Verb(TyperCommand):
    """A verb whose help tells values apart from switches."""

    def get_params(self, ctx: Any) -> Any:
        return _plain(super().get_params(ctx))


class Verbs(TyperGroup):
    """The same for a group of verbs."""

    def get_params(self, ctx: Any) -> Any:
        return _plain(super().get_params(ctx))


def plain_help(app: typer.Typer) -> None:
    """Have an application's verbs, and those of its groups, show their help as here. A group with a class of its own, made
    of :class:`Verbs`, keeps it."""
    given = app.info.cls
    app.info.cls = given if isinstance(given, type) and issubclass(given, Verbs) else Verbs
    for command in app.registered_commands:
        command.cls = Verb
        command.help = command.help or flowing(getattr(command.callback, "__doc__", None))
    for group in app.registered_groups:
        if group.typer_instance is not None:
            plain_help(group.typer_instance)
            group.cls = group.typer_instance.info.cls


_NUMBERS = (
    (re.compile(r"Input should be a valid integer.*"), "it takes a whole number"),
    (re.compile(r"Input should be a valid number.*"), "it takes a number"),
    (re.compile(r"Input should be (.*)"), r"it should be \1"),
)


def told(error: Exception, words: Sequence[str]) -> tuple[str, str]:
    """Message and remedy for wrong usage. ``words`` are what was typed after the program's name."""
    message = error.format_message()  # type: ignore[attr-defined]
    for pattern, said in _NUMBERS:
        message = pattern.sub(said, message)
    message = message.rstrip(".")
    command = re.fullmatch(r"No such command '(.*?)'(.*)", message, re.DOTALL)
    if command is not None and os.path.lexists(command[1]):
        from faceproof.cli.terminal import typed

        return f"{command[1]!r} is no command but a file or folder", f"Scan it: faceproof scan {typed(command[1])}"
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "faceproof"
    remedy = f"`{path} --help` lists what there is."
    if message.startswith("Missing") and context is not None:
        remedy = f"{context.get_usage().strip()}; `{path} --help` tells more."
    return message[:1].lower() + message[1:], dash_remedy(words) or remedy


def dash_remedy(words: Sequence[str]) -> str:
    """What to type for a file whose name begins with a dash and was read as an option; empty where there is none."""
    before = list(words[: words.index("--")] if "--" in words else words)
    for word in before:
        if word.startswith("-") and word != "-" and os.path.lexists(word):
            from faceproof.cli.terminal import typed

            return f"{word!r} is a file, but was read as options: write {typed(word)}, or -- before the names."
    return ""


def check_words(words: Sequence[str]) -> None:
    """Raises :class:`faceproof.errors.OptionError` for an empty name, which would stand for the folder one is in."""
    from faceproof.errors import OptionError

    if words[:1] and words[0] in ("scan", "faces", "explain", "overlay", "watch", "verify") and "" in words:
        raise OptionError("a name that was given is empty", remedy="Perhaps a variable of the shell is not set.")


def check_sampling(frames: str, *, auto: bool = True) -> None:
    """Raises :class:`faceproof.errors.OptionError` where ``--frames`` has another value than its help names."""
    from faceproof.errors import OptionError
    from faceproof.media import parse_sampling

    if auto and frames == "auto":
        return
    try:
        parse_sampling(frames)
    except OptionError as error:
        kinds = f"Use {'auto, ' if auto else ''}a count such as 32, every:10 or all."
        raise OptionError(f"--frames cannot be {frames!r}", remedy=kinds) from error


def check_patterns(paths: Sequence[Path]) -> None:
    """Raises :class:`faceproof.errors.OptionError` where all that was given are patterns that nothing fits."""
    from faceproof.errors import OptionError

    if paths and all(re.search(r"[*?]", str(path)) and not os.path.lexists(path) for path in paths):
        raise OptionError(
            f"no file is called {' or '.join(map(str, paths))}",
            remedy="No name fits the pattern. A folder can be given whole: faceproof scan .",
        )
