"""The operations page without a browser: open to everybody, empty of data, and strict about what it may load."""

from __future__ import annotations

import re

import httpx2

from service.api.ops import RUNBOOK_PLACES
from service.api.runbook import anchor_of, render_runbook
from tests.support.replica import ROOT
from tests.support.routes import STATS
from tests.support.service_api import ADMIN, READER, deliver
from tests.support.vapi_sender import full_report

PAGE = ROOT / "service" / "api" / "ops_page"

TYPES = {
    "/ops": "text/html; charset=utf-8",
    "/ops/ops.css": "text/css; charset=utf-8",
    "/ops/ops.js": "text/javascript; charset=utf-8",
    "/ops/ops_calls.js": "text/javascript; charset=utf-8",
    "/ops/ops_events.js": "text/javascript; charset=utf-8",
    "/ops/ops_problems.js": "text/javascript; charset=utf-8",
    "/ops/ops_verdict.js": "text/javascript; charset=utf-8",
    "/ops/ops_view.js": "text/javascript; charset=utf-8",
    "/ops/ops.svg": "image/svg+xml",
    "/ops/runbook": "text/html; charset=utf-8",
}


async def test_every_part_is_open_and_may_load_nothing_from_elsewhere(stranger: httpx2.AsyncClient) -> None:
    for path, content_type in TYPES.items():
        for method in ("GET", "HEAD"):
            answer = await stranger.request(method, path)
            assert (answer.status_code, answer.headers["content-type"]) == (200, content_type), path
            policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
            assert policy["default-src"] == "'none'"
            assert policy["frame-ancestors"] == "'none'"
            assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
    assert (await stranger.post("/ops")).status_code == 405


async def test_the_page_has_no_inline_script_or_style_and_names_no_other_host() -> None:
    for file in PAGE.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, file.name
        assert not re.search(r"localStorage|sessionStorage|document\.cookie|innerHTML|eval\(", text), file.name
    page = (PAGE / "ops.html").read_text()
    assert not re.search(r"<style|<script(?![^>]* src=)| style=| on[a-z]+=", page)


async def test_the_page_holds_no_data_and_its_data_needs_an_admin_token(stranger: httpx2.AsyncClient) -> None:
    await deliver(stranger, full_report("a-call-to-look-for"), **{"X-Vapi-Secret": "a-webhook-secret"})
    for path in TYPES:
        assert "a-call-to-look-for" not in (await stranger.get(path)).text
    assert (await stranger.get(STATS)).status_code == 401
    assert (await stranger.get(STATS, headers=READER)).status_code == 403
    assert (await stranger.get(STATS, headers=ADMIN)).status_code == 200


async def test_no_other_file_is_served(stranger: httpx2.AsyncClient) -> None:
    for name in ("ops.html", "ops.py", "..%2fops.py", "%2e%2e/ops.py", "RUNBOOK.md", "ops.css%00", "ops.css.map"):
        assert (await stranger.get(f"/ops/{name}")).status_code in {400, 404}, name


async def test_a_slash_at_the_end_changes_nothing(stranger: httpx2.AsyncClient) -> None:
    assert (await stranger.get("/ops/")).text == (await stranger.get("/ops")).text


async def test_every_problem_leads_to_a_section_of_the_runbook(stranger: httpx2.AsyncClient) -> None:
    problems = (PAGE / "ops_problems.js").read_text()
    sections = re.findall(r'\badd\([^,]+,\s*"([^"]+)",', problems)
    assert len(sections) == len(re.findall(r"\badd\(", problems)) > 20
    runbook = (await stranger.get("/ops/runbook")).text
    assert set(sections) - set(re.findall(r'<h\d id="([^"]+)"', runbook)) == set()


def test_the_runbook_is_shown_with_its_headings_code_tables_and_links() -> None:
    page = render_runbook(
        "# A runbook\n\nIntro <b> **bold `x*y`**, [below](#redis--its-spool), [a file](README.md).\n\n"
        "## Redis & its spool\n\n- look\n\n```bash\n# no heading <here>\n```\n\n| a | b |\n|---|---|\n| `1` | 2 \\| 3 |\n"
    )
    assert '<h1 id="a-runbook">A runbook</h1>' in page
    assert (
        'Intro &lt;b&gt; <strong>bold <code>x*y</code></strong>, <a href="#redis--its-spool">below</a>, a file.' in page
    )
    assert '<h2 id="redis--its-spool">Redis &amp; its spool</h2>' in page
    assert "<li>look</li>" in page
    assert "# no heading &lt;here&gt;\n</code></pre>" in page
    assert re.search(r"<th>a</th>\s*<th>b</th>", page)
    assert re.search(r"<td><code>1</code></td>\s*<td>2 \| 3</td>", page)


def test_the_runbook_that_is_shipped_is_the_one_that_is_shown() -> None:
    assert RUNBOOK_PLACES[1] == ROOT / "deploy" / "RUNBOOK.md"
    headings = re.findall(
        r"^#+ (.+)$",
        re.sub(r"^```.*?^```$", "", RUNBOOK_PLACES[1].read_text(), flags=re.MULTILINE | re.DOTALL),
        re.MULTILINE,
    )
    shown = render_runbook(RUNBOOK_PLACES[1].read_text())
    assert [heading for heading in headings if f'id="{anchor_of(heading)}"' not in shown] == []
    assert re.findall(r'href="#([^"]+)"', shown) == [
        name for name in re.findall(r'href="#([^"]+)"', shown) if f'id="{name}"' in shown
    ]
