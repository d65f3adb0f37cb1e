"""Figures of a comparison: medians, ratios and goals, as Markdown and as a picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from statistics import median

from tests.bench import peers
from tests.bench.load import QUIET, Sample
from tests.bench.peers import OURS
from tests.bench.servers import CORES
from tests.bench.workloads import POLL, REPORT

GOALS = (
    (peers.DESIGN_REDIS, 2.5, 4.0),
    (peers.LEAN_REDIS, 1.5, 1.35),
    (peers.DESIGN_MEMORY, 1.5, 2.0),
    (peers.FASTAPI, 5.0, 5.0),
    (peers.GO, 1.5, 0.55),
)
"""By CPU time per request: this service against whom, webhooks (23 kB report), polls (full record)."""

HOW_TO_READ = (
    "Closed loop, 64 connections, wrk; the server has one core, wrk and Redis share another. Medians over the rounds, "
    "which are interleaved; a ratio is the median of the ratios within each round: 2.00 x means this service answers "
    "twice as many requests a second (or needs half the CPU, microseconds of the server's processes). Trust the "
    "ratios; requests a second belong to one machine. `others` is what unrelated processes took meanwhile, in cores: "
    "above 0.1 the requests a second are doubtful, the CPU is less so. A server's core that is not nearly 100 % busy "
    "without others to blame says that wrk and Redis were the limit: compare the CPU then too. As it was designed, the "
    "record keeps VAPI's whole body and a poll returns it; `without raw payload` it does not, nor do this service and Go."
)


@dataclass
class Figures:
    rounds: int
    seconds: int
    versions: dict[str, str]
    skipped: list[str] = field(default_factory=list)
    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    """By workload, then by contender, in the order of the rounds."""

    def add(self, workload: str, name: str, sample: Sample) -> None:
        self.samples.setdefault(workload, {}).setdefault(name, []).append(sample)

    def of(self, workload: str, name: str) -> list[Sample]:
        """Nothing where a round had errors: such a figure is void."""
        samples = self.samples.get(workload, {}).get(name, [])
        return [] if any(sample.errors for sample in samples) else samples

    def disturbance(self, workload: str, name: str) -> float:
        """Cores that others took while this was measured."""
        return median(sample.disturbance for sample in self.of(workload, name))

    def ratio(self, workload: str, name: str, other_workload: str = "") -> float | None:
        """Requests a second of this service to another's."""
        pairs = list(zip(self.of(workload, OURS), self.of(other_workload or workload, name), strict=False))
        return median(ours.per_second / other.per_second for ours, other in pairs) if pairs else None

    def cpu_ratio(self, workload: str, name: str, other_workload: str = "") -> float | None:
        """CPU per request of another to this service's: above 1, ours is the cheaper."""
        pairs = list(zip(self.of(workload, OURS), self.of(other_workload or workload, name), strict=False))
        return median(other.cpu_us / max(ours.cpu_us, 0.1) for ours, other in pairs) if pairs else None


def as_markdown(figures: Figures) -> str:
    parts = [_head(figures), _goals(figures)]
    parts += [_table(figures, workload) for workload in figures.samples]
    if figures.skipped:
        parts.append("## Left out\n\n" + "\n".join(f"- {line}" for line in figures.skipped))
    return "\n\n".join(parts) + "\n"


def _head(figures: Figures) -> str:
    releases = "; ".join(f"{name} {release}" for name, release in figures.versions.items())
    return (
        "# This service beside others\n\n"
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {len(CORES)} cores, {figures.rounds} rounds of {figures.seconds} s. "
        f"{releases}.\n\n{HOW_TO_READ}"
    )


def _goals(figures: Figures) -> str:
    lines = [
        "## Goals",
        "",
        "| this service against | requests | goal, by CPU | measured | | by requests/s |",
        "|---|---|--:|--:|---|--:|",
    ]
    for name, webhooks, polls in GOALS:
        lines.append(_goal(figures, name, "webhooks, 23 kB report", REPORT, webhooks))
        lines.append(_goal(figures, name, "polls, full record", POLL, polls))
    return "\n".join(lines)


def _goal(figures: Figures, name: str, what: str, workload: str, goal: float) -> str:
    ratio = figures.cpu_ratio(workload, name)
    if ratio is None:
        return f"| {name} | {what} | {goal:g} x | - | not measured | |"
    verdict = "met" if ratio >= goal else f"**missed by {1 - ratio / goal:.0%}**"
    return f"| {name} | {what} | {goal:g} x | {ratio:.2f} x | {verdict} | {figures.ratio(workload, name):.2f} x |"


def _table(figures: Figures, workload: str) -> str:
    lines = [
        f"## {workload[0].upper()}{workload[1:]}",
        "",
        "| contender | requests/s | CPU us/request | core busy | Redis us/request | others | this service, speed | this service, CPU |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [_row(figures, workload, name) for name in figures.samples[workload]]
    if workload != POLL and set(figures.samples[workload]) == {OURS}:
        others = [name for name, *_ in GOALS]
        lines += [_row(figures, workload, name, POLL) for name in others]
        lines += ["", "The others do not know this poll; theirs is the one for the full record."]
    return "\n".join(lines)


def _row(figures: Figures, workload: str, name: str, other_workload: str = "") -> str:
    samples = figures.of(other_workload or workload, name)
    if not samples:
        return f"| {name} | none: left out, or void for errors while measuring | | | | | | | |"
    ratios = [figures.ratio(workload, name, other_workload), figures.cpu_ratio(workload, name, other_workload)]
    cells = [
        f"{median(sample.per_second for sample in samples):,.0f}",
        f"{median(sample.cpu_us for sample in samples):.0f}",
        f"{median(sample.busy for sample in samples):.0%}",
        f"{median(sample.redis_us for sample in samples):.0f}",
        f"{figures.disturbance(other_workload or workload, name):.2f}",
        *("" if ratio is None or name == OURS else f"{ratio:.2f} x" for ratio in ratios),
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


WIDTH, LABEL, ROW, TOP = 900, 360, 26, 56
FONT = 'font-family="system-ui, sans-serif" font-size="13"'


def as_svg(figures: Figures) -> str:
    """Two bar charts of requests a second: webhooks and polls. Redis alone would only make the other bars short."""
    body, y = [], 24
    for workload in (REPORT, POLL):
        rates = {name: figures.of(workload, name) for name in figures.samples.get(workload, {})}
        rates.pop(peers.REDIS, None)
        medians = {name: median(sample.per_second for sample in samples) for name, samples in rates.items() if samples}
        body.append(f'<text x="16" y="{y}" {FONT} font-weight="bold">{escape(workload)}: requests/s</text>')
        body += [
            _bar(name, rate, max(medians.values()), y + 10 + ROW * i) for i, (name, rate) in enumerate(medians.items())
        ]
        y += TOP + ROW * len(medians)
    note = f"Medians of {figures.rounds} rounds of {figures.seconds} s, 64 connections, one core for the server."
    body.append(f'<text x="16" y="{y - 12}" {FONT} fill="#555">{note}</text>')
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}">'
    background = f'<rect width="{WIDTH}" height="{y}" fill="#fff"/>'
    return "\n".join([opening, background, *body, "</svg>"]) + "\n"


def _bar(name: str, rate: float, most: float, y: int) -> str:
    length = max(2, round((WIDTH - LABEL - 90) * rate / most))
    color = "#2563eb" if name == OURS else "#d1d5db" if "ceiling" in name else "#94a3b8"
    return (
        f'<text x="{LABEL - 8}" y="{y + 17}" {FONT} text-anchor="end">{escape(name)}</text>'
        f'<rect x="{LABEL}" y="{y + 3}" width="{length}" height="{ROW - 7}" fill="{color}"/>'
        f'<text x="{LABEL + length + 6}" y="{y + 17}" {FONT}>{rate:,.0f}</text>'
    )
