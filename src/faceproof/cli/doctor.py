"""`faceproof doctor`: is this machine, and is every detector on it, what it claims to be?"""

from __future__ import annotations

import typer

from faceproof.cli import EXIT_SOME_FAILED


def register(app: typer.Typer) -> None:
    app.command(name="doctor")(doctor)


def doctor() -> None:
    """Check runtimes, CPU features, every detector's weights and its known answers. Exit 1 when something is wrong."""
    from rich.text import Text

    from faceproof import diagnosis
    from faceproof.cli.terminal import COLOURS, out_console, put
    from faceproof.results import Verdict

    console = out_console()
    styles = {"ok": COLOURS[Verdict.REAL], "absent": COLOURS[Verdict.INCONCLUSIVE], "wrong": COLOURS[Verdict.FAKE]}
    wrong = 0
    unfetched: list[str] = []
    for finding in diagnosis.examine():
        wrong += finding.state == "wrong"
        if finding.state == "absent" and finding.remedy:
            unfetched.append(finding.subject)
            continue
        line = Text(f"{finding.state:<7}", style=styles[finding.state])
        line.append(f"{finding.subject:<28} ", style="default")
        line.append(finding.detail, style="default")
        put(console, line, hang=7)
        if finding.remedy:
            put(console, Text(f"       {finding.remedy}", style="dim"), hang=7)
    if unfetched:
        line = Text("absent ", style=styles["absent"])
        line.append(f"{len(unfetched)} detectors without trained weights here: {', '.join(unfetched)}", style="default")
        put(console, line, hang=7)
        remedy = "       `faceproof detectors pull NAME` fetches one, or says where its authors keep it."
        put(console, Text(remedy, style="dim"), hang=7)
    things = "1 thing is" if wrong == 1 else f"{wrong} things are"
    console.print(f"{things} wrong: see above." if wrong else "Everything installed is what it claims to be.")
    if wrong:
        raise typer.Exit(EXIT_SOME_FAILED)
