"""The benchmark's gates, its table and its chart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from benchmarks.relay.measure import ratios
from benchmarks.relay.subjects import BARE, DIRECT, NGINX, OURS, URLLIB3

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.relay.measure import Figures

_ROWS = {
    "cold": "cold start, process to first answer",
    "small": "1 KB",
    "medium": "100 KB",
    "large": "5 MB",
    "watch": "first byte of a watch",
}
_GATES = (
    ("cold", URLLIB3, 0.7),
    ("small", URLLIB3, 0.6),
    ("large", URLLIB3, 0.35),
    ("watch", BARE, 3.0),
)
_GROWTH_MB = 2.0
_ELSEWHERE = (DIRECT, NGINX)


@dataclass(frozen=True, slots=True)
class Gate:
    """A promise, and what was measured."""

    promise: str
    measured: str
    holds: bool


def gates(figures: Mapping[str, Figures]) -> list[Gate]:
    """Hold the figures against what is promised."""
    found = []
    for row, base, most in _GATES:
        median, least, greatest = ratios(figures[OURS], figures[base], row)
        found.append(
            Gate(
                f"{_ROWS[row]}: at most {most:g} times {base}",
                f"{median:.2f} ({least:.2f} to {greatest:.2f})",
                median <= most,
            )
        )
    ours = figures[OURS]
    for what, grown in (
        ("10,000 requests", ours.grown_by_requests),
        ("300 successive watches", ours.grown_by_watches),
    ):
        held = grown is not None and grown <= _GROWTH_MB
        found.append(
            Gate(f"memory after {what}: at most {_GROWTH_MB:g} MB more", f"{grown:+.2f} MB", held)
        )
    return found


def markdown(figures: Mapping[str, Figures], checked: Sequence[Gate], rounds: int) -> str:
    """Everything as Markdown tables."""
    base = figures[URLLIB3]
    lines = [
        f"Medians of {rounds} paired rounds, milliseconds; in brackets the ratio to {URLLIB3}.",
        "",
        "| | " + " | ".join(_ROWS.values()) + " | 1 KB p99 | CPU of 1 KB | memory MB |",
        "|---|" + "---|" * (len(_ROWS) + 3),
    ]
    for name, one in figures.items():
        cells = []
        for row in _ROWS:
            median = one.median(row)
            if median is None:
                cells.append("")
            elif name in (URLLIB3, *_ELSEWHERE):
                cells.append(f"{median:.2f}")
            else:
                cells.append(f"{median:.2f} ({ratios(one, base, row)[0]:.2f})")
        cpu, memory = (f"{one.cpu:.2f}", f"{one.memory:.0f}") if name != DIRECT else ("", "")
        cells += [f"{one.p99:.2f}", cpu, memory]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "| gate | measured (least to greatest round) | |", "|---|---|---|"]
    lines += [
        f"| {gate.promise} | {gate.measured} | {'holds' if gate.holds else '**fails**'} |"
        for gate in checked
    ]
    return "\n".join(lines)


def page(table: str) -> str:
    """docs/benchmarks.md."""
    return f"""\
# Benchmarks of the relay

Written by `make bench`; don't edit. Ratios are what to compare between machines: every round
measures each subject once, in random order, and a ratio is formed within its round.

![Times as multiples of {URLLIB3}](benchmarks.svg)

{table}

- **{OURS}** is the function as `sam build` makes it, bytecode included, under Lambda's Runtime API.
- **{URLLIB3}** is what the managed Python runtime offers: boto3 for the table, PyJWT, urllib3; it
  answers whole, so the first byte of a watch comes after the last event.
- **{BARE}** streams and checks nothing: no token, no table, no headers; the limit in Python.
- **{NGINX}** and **{DIRECT}** aren't on Lambda: their figures hold no Runtime API.
- All of them talk to the same cluster stand-in over TLS, which refuses what lacks the credential or
  the impersonated user, and to the same table, from which cold starts read.
"""


_WIDTH, _BAR, _GAP, _LEFT = 900, 14, 16, 250
_COLORS = ("#d95f02", "#7570b3", "#1b9e77", "#666666", "#e7298a", "#66a61e")


def chart(figures: Mapping[str, Figures]) -> str:
    """Bars: each row's times as multiples of the usual peer's."""
    base = figures[URLLIB3]
    names = [name for name in figures if name not in _ELSEWHERE]
    parts, y = [], 30
    scale = (_WIDTH - _LEFT - 120) / 2.0  # a bar ends at twice the peer's time
    for row, title in _ROWS.items():
        parts.append(f'<text x="10" y="{y + 12}" font-weight="bold">{escape(title)}</text>')
        for name, color in zip(names, _COLORS, strict=False):
            median, *_ = ratios(figures[name], base, row)
            width = min(median, 2.0) * scale
            more = " (bar cut)" if median > 2 else ""
            parts.append(
                f'<rect x="{_LEFT}" y="{y}" width="{width:.0f}" height="{_BAR}" fill="{color}"/>'
                f'<text x="{_LEFT + width + 6:.0f}" y="{y + 11}">{escape(name)}: {median:.2f}{more}'
                "</text>"
            )
            y += _BAR + 3
        y += _GAP
    title = f"Times as multiples of {URLLIB3}, measured in the same rounds; shorter is better"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" '
        'font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/><text x="10" y="18">{escape(title)}</text>'
        + "".join(parts)
        + "</svg>\n"
    )
