"""Shows the runbook as a page: as much of Markdown as it uses, with the anchors that GitHub gives to headings."""

from __future__ import annotations

import html
import re
from typing import Final

_BLOCK: Final = re.compile(
    r"^```[a-z]*\n(?P<code>.*?)^```$|^(?P<marks>#{1,6}) (?P<title>[^\n]+)$", re.MULTILINE | re.DOTALL
)
"""What is found first: a line of code that begins with ``#`` is no heading."""

_CODE: Final = re.compile(r"`([^`]+)`")
_BOLD: Final = re.compile(r"\*\*(.+?)\*\*")
_LINK: Final = re.compile(r"\[([^]]+)\]\(([^)]+)\)")
_TABLE: Final = re.compile(r"(?:^\|.*\|$\n?)+", re.MULTILINE)

_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Runbook · vapi-cache</title>
<link rel="icon" href="/ops/ops.svg">
<link rel="stylesheet" href="/ops/ops.css">
<main class="runbook">
<p><a href="/ops">Operations</a></p>
{content}
</main>
</html>
"""


def render_runbook(markdown: str) -> str:
    parts, end = [], 0
    for found in _BLOCK.finditer(markdown):
        parts += [_prose(markdown[end : found.start()]), _block(found)]
        end = found.end()
    parts.append(_prose(markdown[end:]))
    return _PAGE.format(content="\n".join(filter(None, parts)))


def anchor_of(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-")


def _block(found: re.Match[str]) -> str:
    if found["title"] is None:
        return f'<pre class="code">{html.escape(found["code"].rstrip())}</pre>'
    level, title = len(found["marks"]), found["title"]
    return f'<h{level} id="{anchor_of(title)}">{html.escape(title)}</h{level}>'


def _prose(text: str) -> str:
    """Paragraphs and lists keep their lines; tables become tables."""
    parts, end = [], 0
    for found in _TABLE.finditer(text):
        parts += [_paragraphs(text[end : found.start()]), _table(found[0])]
        end = found.end()
    parts.append(_paragraphs(text[end:]))
    return "\n".join(filter(None, parts))


def _paragraphs(text: str) -> str:
    return f'<div class="prose">{_inline(text.strip())}</div>' if text.strip() else ""


def _table(text: str) -> str:
    head, _, *rows = (re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in text.strip().splitlines())
    lines = [_row("th", head), *(_row("td", row) for row in rows)]
    return f"<table>{''.join(lines)}</table>"


def _row(tag: str, cells: list[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{_inline(cell.strip())}</{tag}>" for cell in cells) + "</tr>"


def _inline(text: str) -> str:
    """Code, which nothing else is looked for in, between text with links and bold words."""
    pieces = _CODE.split(text)
    pieces[::2] = [_words(piece) for piece in pieces[::2]]
    pieces[1::2] = [f"<code>{html.escape(piece)}</code>" for piece in pieces[1::2]]
    return _BOLD.sub(r"<strong>\1</strong>", "".join(pieces))


def _words(text: str) -> str:
    """Only links to sections of this page lead anywhere: other files are not served."""
    return _LINK.sub(
        lambda link: f'<a href="{link[2]}">{link[1]}</a>' if link[2].startswith("#") else link[1], html.escape(text)
    )
