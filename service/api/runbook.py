"""Shows the runbook as a page, with the anchors that GitHub gives to headings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

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
    """HTML within the text is shown as text. Links to other files become words, as those files are not served."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown)
    for opened, title in pairwise(tokens):
        if opened.type == "heading_open":
            opened.attrSet("id", anchor_of(title.content))
    for token in tokens:
        if token.children:
            token.children = _without_links_elsewhere(token.children)
    return _PAGE.format(content=parser.renderer.render(tokens, parser.options, {}))


def anchor_of(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-")


def _without_links_elsewhere(tokens: Iterable[Token]) -> list[Token]:
    kept, is_elsewhere = [], False
    for token in tokens:
        if token.type == "link_open":
            is_elsewhere = not str(token.attrGet("href")).startswith("#")
        if not (is_elsewhere and token.type in ("link_open", "link_close")):
            kept.append(token)
    return kept
