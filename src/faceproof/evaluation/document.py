"""A page as a list of blocks, written as Markdown or as one self-contained HTML file: said once, shown twice.

Text may hold ```code``` between backticks and ``**bold**``; everything else in it is shown as it stands, whatever a
file name tries.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from faceproof.evaluation.problems import printable


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Bullets:
    items: tuple[str, ...]


@dataclass(frozen=True)
class Callout:
    """Something not to be overlooked; ``kind`` is a finding's severity."""

    kind: Literal["error", "warning", "note"]
    text: str


@dataclass(frozen=True)
class Table:
    """``header`` and rows of cells. The first column is words, the others are aligned right as numbers are."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Figure:
    """A drawing: ``svg`` text, a file ``name`` without suffix, and ``alt`` saying in words what it shows."""

    name: str
    svg: str
    alt: str


@dataclass(frozen=True)
class Code:
    text: str


Block = Heading | Paragraph | Bullets | Callout | Table | Figure | Code

_LEAD = {"error": "Wrong", "warning": "Beware", "note": "Note"}


def to_markdown(blocks: Iterable[Block], *, figures: str | None = None) -> str:
    """GitHub-flavoured Markdown. ``figures`` is the folder, relative to the page, that its SVG files will lie in; without
    it figures are replaced by what they show in words."""
    return "\n\n".join(_markdown(block, figures) for block in blocks) + "\n"


def _markdown(block: Block, figures: str | None) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_plain(text)}"
        case Paragraph(text):
            return _plain(text)
        case Bullets(items):
            return "\n".join(f"- {_plain(item)}" for item in items)
        case Callout(kind, text):
            return f"> **{_LEAD[kind]}.** {_plain(text)}"
        case Table(header, rows):
            lines = [_row(header), "|" + "|".join(["---"] + ["---:"] * (len(header) - 1)) + "|"]
            return "\n".join(lines + [_row(row) for row in rows])
        case Figure(name, _, alt):
            return f"![{_plain(alt)}]({figures}/{name}.svg)" if figures is not None else f"*{_plain(alt)}*"
        case Code(text):
            return f"```\n{printable_lines(text)}\n```"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in cells) + " |"


def _plain(text: str) -> str:
    # Angle brackets would be read as HTML by most viewers.
    return printable(text).replace("<", "&lt;").replace(">", "&gt;")


def printable_lines(text: str) -> str:
    """``text`` with its line breaks kept and every other control character escaped."""
    return "\n".join(printable(line) for line in text.splitlines())


def to_html(title: str, blocks: Iterable[Block]) -> str:
    """One HTML file that loads nothing: style and drawings are inside. Prints on white, follows the reader's dark mode."""
    body = "\n".join(_html(block) for block in blocks)
    return _PAGE.format(title=html.escape(printable(title)), style=_STYLE, body=body)


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            anchor = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
            return f'<h{level} id="{anchor}">{_inline(text)}</h{level}>'
        case Paragraph(text):
            return f"<p>{_inline(text)}</p>"
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>"
        case Callout(kind, text):
            return f'<p class="callout {kind}"><strong>{_LEAD[kind]}.</strong> {_inline(text)}</p>'
        case Table(header, rows):
            head = "".join(f'<th scope="col">{_inline(cell)}</th>' for cell in header)
            lines = ["<tr>" + "".join(_cell(cell, at) for at, cell in enumerate(row)) + "</tr>" for row in rows]
            table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
            label = html.escape(printable(header[0] or header[-1]))
            return f'<div class="table" tabindex="0" role="region" aria-label="{label}">{table}</div>'
        case Figure(_, svg, alt):
            data = base64.b64encode(svg.encode()).decode()
            text = html.escape(printable(alt))
            picture = f'<img src="data:image/svg+xml;base64,{data}" alt="{text}">'
            return f"<figure>{picture}<figcaption>{_inline(alt)}</figcaption></figure>"
        case Code(text):
            return f"<pre>{html.escape(printable_lines(text))}</pre>"


def _cell(text: str, at: int) -> str:
    return f'<th scope="row">{_inline(text)}</th>' if at == 0 else f"<td>{_inline(text)}</td>"


def _inline(text: str) -> str:
    safe = html.escape(printable(text))
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", safe)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", safe)


_STYLE = """
:root{color-scheme:light dark;--ink:#1a1a1a;--paper:#fff;--soft:#595959;--line:#d9d9d9;--shade:#f5f5f3;
--error:#a34600;--warning:#8a5a00;--note:#0a5c94}
@media (prefers-color-scheme:dark){:root{--ink:#ececec;--paper:#161616;--soft:#b3b3b3;--line:#3a3a3a;--shade:#212121;
--error:#ff9a4d;--warning:#e0b14a;--note:#6cb8ea}}
body{margin:0 auto;padding:2rem 1.25rem 4rem;max-width:56rem;background:var(--paper);color:var(--ink);
font:1rem/1.55 system-ui,sans-serif}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 .5rem}
h2{font-size:1.25rem;margin:2.5rem 0 .5rem;border-top:1px solid var(--line);padding-top:1.25rem}
h3{font-size:1.05rem;margin:1.5rem 0 .25rem}
p,ul{margin:.6rem 0}
code,pre{font:.875em/1.5 ui-monospace,monospace}
pre{background:var(--shade);padding:.75rem 1rem;overflow:auto;border-radius:4px;white-space:pre-wrap;overflow-wrap:anywhere}
.callout{border-left:4px solid;padding:.35rem .9rem;background:var(--shade)}
.error{border-color:var(--error)}.error strong{color:var(--error)}
.warning{border-color:var(--warning)}.warning strong{color:var(--warning)}
.note{border-color:var(--note)}.note strong{color:var(--note)}
.table{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;min-width:50%}
th,td{padding:.3rem .75rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
thead th{color:var(--soft);font-weight:600;vertical-align:bottom;white-space:normal}
th:first-child{text-align:left;padding-left:0}tbody th{font-weight:400;white-space:normal}
figure{margin:1rem 0}
img{display:block;max-width:100%;height:auto;background:#fff;border-radius:4px}
figcaption{color:var(--soft);font-size:.875rem;margin-top:.35rem}
@media print{:root{--ink:#000;--paper:#fff;--soft:#444;--line:#bbb;--shade:#f5f5f3;--error:#a34600;--warning:#8a5a00;
--note:#0a5c94}body{max-width:none;padding:0;font-size:10pt}h2{break-after:avoid}figure,tr,.callout{break-inside:avoid}
.table{overflow:visible}}
""".strip()

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
