"""The benchmark's gates, its table and its chart."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from benchmarks.relay.measure import ratios
from benchmarks.relay.subjects import (
    ADAPTER,
    BARE,
    DIRECT,
    LEAN,
    NGINX,
    OURS,
    URLLIB3,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
        measured = ratios(figures[OURS], figures[base], row)
        promise = f"{_ROWS[row]}: at most {most:g} times {base}"
        found.append(Gate(promise, _ratio(measured), measured[0] <= most))
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
    lines = [
        f"Milliseconds, medians of {rounds} paired rounds:",
        "",
        *_table([*_ROWS.values(), "1 KB p99", "CPU of 1 KB", "memory MB"], figures, _times),
        "",
        f"As multiples of {URLLIB3} in the same round, median (least to greatest):",
        "",
        *_table(
            list(_ROWS.values()),
            {name: one for name, one in figures.items() if name not in (URLLIB3, *_ELSEWHERE)},
            lambda _, one: [_ratio(ratios(one, figures[URLLIB3], row)) for row in _ROWS],
        ),
        "",
        "| gate | measured | |",
        "|---|---|---|",
    ]
    lines += [
        f"| {gate.promise} | {gate.measured} | {'holds' if gate.holds else '**fails**'} |"
        for gate in checked
    ]
    return "\n".join(lines)


def _table(
    heads: Sequence[str],
    figures: Mapping[str, Figures],
    cells: Callable[[str, Figures], Sequence[str]],
) -> list[str]:
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    return lines + [
        f"| {name} | " + " | ".join(cells(name, f)) + " |" for name, f in figures.items()
    ]


def _times(name: str, one: Figures) -> list[str]:
    medians = [one.median(row) for row in _ROWS]
    own = ["", ""] if name == DIRECT else [f"{one.cpu:.2f}", f"{one.memory:.0f}"]
    return ["" if m is None else f"{m:.2f}" for m in medians] + [f"{one.p99:.2f}", *own]


def _ratio(found: tuple[float, float, float]) -> str:
    median, least, greatest = found
    return f"{median:.2f} ({least:.2f} to {greatest:.2f})"


def machine() -> str:
    """What it was measured on, in a sentence."""
    cpu = Path("/proc/cpuinfo").read_text()
    model = next(
        line.partition(":")[2].strip() for line in cpu.splitlines() if "model name" in line
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    busy = os.getloadavg()[1]
    return (
        f"{os.cpu_count()} CPUs ({model}), {memory:.0f} GiB, Linux {platform.release()}, all of it"
        " on one CPU and loopback: the work of every part counts, and not how soon the machine"
        f" wakes another core; load {busy:.1f} at the end, of which the benchmark itself makes 1"
    )


def page(table: str, interpreter: str) -> str:
    """docs/benchmarks.md."""
    return f"""\
# Benchmarks of the relay

Written by `make bench`; don't edit. Compare ratios, not times: every round measures each subject
once, in random order, and a ratio is formed within its round.

Measured on {machine()}; Python {interpreter} for everything on Lambda.

![Times as multiples of {URLLIB3}](benchmarks.svg)

{table}

## What is compared

All of them talk to the same stand-in of a cluster over TLS, which refuses what lacks the credential
or the impersonated user, and to the same stand-in of DynamoDB and Secrets Manager, from which cold
starts read. Those on Lambda get their events from the same stand-in of Lambda's Runtime API, which
takes the time from an event's last byte to its answer's first and last byte.

| | loop | to the cluster | AWS's calls | decides | streams |
|---|---|---|---|---|---|
| {OURS} | its own | its own | its own signature | all of it | yes |
| {URLLIB3} | awslambdaric | urllib3 | boto3 | all of it, by the same core | no |
| {LEAN} | awslambdaric | urllib3 | boto3 | token and job alone | no |
| {ADAPTER} | AWS's adapter, uvicorn | aiohttp | aiohttp, unsigned | token and job alone | yes |
| {BARE} | sockets | a socket | none | nothing | yes |
| {NGINX} | none | nginx | aiohttp, unsigned | token and job alone, for 3 s | yes |
| {DIRECT} | none | a socket | none | nothing | yes |

- **{OURS}** is the function as `sam build` makes it, bytecode included, with its wrapper.
- **{URLLIB3}** is what a team writes that has a correct relay to write and the managed Python
  runtime to write it for: token, facts of the table, decision, path and header rules, identity,
  records are the relay's own modules; the loop, the clients and the whole answer (base64 where it
  isn't text) are the usual ones. It doesn't look again while an answer is awaited, and it can't
  tell a watch's first event before its last, so that gate is against the bare loop. All others are
  against this one.
- **{LEAN}** does less than a relay must: it believes the token and the job's state, decides on no
  configuration and no stop, checks no path, sends one group, lets every header back, and records
  seven values. It shows what {OURS} would gain by not doing its job.
- **{ADAPTER}** and **{NGINX}** do as little. The adapter writes a small answer in pieces, with
  Nagle's algorithm on: now and then one waits some 40 ms for a delayed acknowledgement (see its
  p99), and with a core for each side most of them do.
- **{NGINX}** and **{DIRECT}** aren't on Lambda: their figures hold no Runtime API, so no ratio
  is given.
- Memory is the share of the processes that belongs to them (PSS) after the warm rounds; CPU is that
  of their processes, also between two answers.
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
