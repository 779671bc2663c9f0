"""The tables of docs/cost.md, from counted calls, the template and the prices.

    .venv/bin/python -m benchmarks.cost [--docs docs]

Prints them; with `--docs` writes them into the page, between their marks.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from benchmarks import prices
from benchmarks.counts import Counts, counted
from local.sam_template import translate

_ROOT = Path(__file__).parents[1]
_WARM = "exchange, warm, job told by a hook"
_LOOKED_UP = "exchange, warm, project's place looked up again"
_BELIEVED = "request, warm, within RelayCacheSeconds of the last"
_READ = "request, warm, of a job not seen there before"
_ROUND = "round of the schedule, one project"
_NOTHING_NEW = "refresh with nothing new"
_GITLAB_COM_PER_MINUTE = {"all of the API": 2000, "`GET /projects/:id`": 400}


def blocks() -> dict[str, list[str]]:
    """The page's tables by the name of their marks."""
    counts = counted()
    return {
        "counts": _counts(counts),
        "jobs": _money(jobs(counts), "1,000 jobs"),
        "idle": _money(idle(counts), "month"),
        "quotas": _quotas(counts),
        "prices": _prices(),
    }


def jobs(counts: dict[str, Counts]) -> dict[str, float]:
    """Dollars of a thousand jobs, by what they are for."""
    share = prices.LOOKED_UP_SHARE
    parts = [
        (1 - share, "exchange", counts[_WARM]),
        (share, "exchange", counts[_LOOKED_UP]),
        (prices.REQUESTS - prices.REQUESTS_READ_ANEW, "request", counts[_BELIEVED]),
        (prices.REQUESTS_READ_ANEW, "request", counts[_READ]),
        (prices.DELIVERIES_NOTED, "webhook", counts["webhook of a job"]),
        (prices.DELIVERIES - prices.DELIVERIES_NOTED, "webhook", _NOTHING),
    ]
    each = [(1000 * times, kind, used) for times, kind, used in parts]
    calls = sum(times for times, _, _ in each)
    spent = _of_calls(each)
    spent["API Gateway, REST"] = _dollars("API Gateway, REST", calls)
    spent["CloudWatch Logs, taken in"] += _dollars(
        "CloudWatch Logs, taken in", calls * prices.ACCESS_LOG_BYTES
    )
    spent["data to the internet"] = _dollars(
        "data to the internet", 1000 * prices.REQUESTS * prices.ANSWER_BYTES
    )
    return spent


def watches() -> float:
    """Dollars of a thousand watches that are open for WATCH_SECONDS."""
    gigabytes = prices.MEMORY_MB["request"] / 1024
    return _dollars("Lambda, arm64", 1000 * prices.WATCH_SECONDS * gigabytes)


def idle(counts: dict[str, Counts]) -> dict[str, float]:
    """Dollars of a month without a job: one configuration project, three agents with tokens."""
    resources = translate(_ROOT / "template.yaml", {})["Resources"].values()
    kinds = [resource["Type"] for resource in resources]
    metrics = kinds.count("AWS::Logs::MetricFilter")
    rounds = prices.ROUNDS_OF_A_MONTH
    spent = _of_calls(
        [(rounds, "reconcile", counts[_ROUND]), (rounds, "refresh", counts[_NOTHING_NEW])]
    )
    # Each message is sent, received and deleted.
    queue = 2 * rounds + prices.RECEIVES_OF_A_MONTH
    spent["SQS FIFO"] += _dollars("SQS FIFO", queue)
    return spent | {
        "EventBridge Scheduler": _dollars("EventBridge Scheduler", rounds),
        "KMS, a key": _dollars("KMS, a key", prices.KEYS),
        "Secrets Manager, a secret": _dollars("Secrets Manager, a secret", prices.SECRETS + 3),
        # At most: one without data in an hour costs nothing in it.
        "CloudWatch, a metric": _dollars("CloudWatch, a metric", metrics),
        "CloudWatch, an alarm": _dollars(
            "CloudWatch, an alarm", kinds.count("AWS::CloudWatch::Alarm")
        ),
        "CloudWatch, a dashboard": _dollars(
            "CloudWatch, a dashboard", kinds.count("AWS::CloudWatch::Dashboard")
        ),
    }


def milliseconds(kind: str, used: Counts) -> float:
    """How long a warm invocation takes: its calls one after the other, and its own work."""
    share = min(1.0, prices.MEMORY_MB[kind] / prices.WHOLE_CPU_MB)
    waited = (
        used.table_calls * prices.LATENCY["table"]
        + used.signatures * prices.LATENCY["signature"]
        + used.secrets * prices.LATENCY["secret"]
        + used.messages * prices.LATENCY["message"]
        + used.gitlab * prices.LATENCY["gitlab"]
        + (prices.CLUSTER_MS if kind == "request" else 0)
    )
    return waited + prices.OWN_MS[kind] / share


_NOTHING = Counts(
    reads=0, writes=0, table_calls=0, signatures=0, secrets=0, messages=0, gitlab=0, log_bytes=0
)


def _of_calls(parts: list[tuple[float, str, Counts]]) -> dict[str, float]:
    """Dollars of invocations: how many, of which function, and what each uses."""
    spent: dict[str, float] = {}

    def add(name: str, amount: float) -> None:
        spent[name] = spent.get(name, 0) + _dollars(name, amount)

    for times, kind, used in parts:
        gigabytes = prices.MEMORY_MB[kind] / 1024
        add("Lambda, requests", times)
        add("Lambda, arm64", times * milliseconds(kind, used) / 1000 * gigabytes)
        add("DynamoDB, read units", times * used.reads)
        add("DynamoDB, write units", times * used.writes)
        add("KMS, a signature (ECC)", times * used.signatures)
        add("Secrets Manager, calls", times * used.secrets)
        add("SQS FIFO", times * used.messages)
        add("CloudWatch Logs, taken in", times * (used.log_bytes + prices.LAMBDA_LOG_BYTES))
    return spent


def _dollars(name: str, amount: float) -> float:
    dollars, unit = prices.PRICES[name]
    return amount / prices.UNITS[unit] * dollars


# --- Tables ---


def _counts(counts: dict[str, Counts]) -> list[str]:
    head = (
        "flow",
        "table: read units",
        "write units",
        "calls",
        "KMS signatures",
        "secrets read",
        "messages",
        "calls to GitLab",
        "bytes of records",
    )
    rows = [
        (
            name,
            *(f"{value:g}" for value in (used.reads, used.writes)),
            *(used.table_calls, used.signatures, used.secrets, used.messages, used.gitlab),
            f"{used.log_bytes:,}",
        )
        for name, used in counts.items()
    ]
    return _table(head, rows)


def _money(spent: dict[str, float], per: str) -> list[str]:
    rows = [(name, f"{dollars:.4f}") for name, dollars in _largest(spent) if dollars >= 0.00005]
    return _table(("what", f"$ a {per}"), [*rows, ("**in all**", f"**{sum(spent.values()):.2f}**")])


def _quotas(counts: dict[str, Counts]) -> list[str]:
    looked_up = counts[_LOOKED_UP].gitlab
    invocations = 1 + prices.DELIVERIES + prices.REQUESTS
    busy = (
        milliseconds("exchange", counts[_WARM])
        + prices.DELIVERIES * milliseconds("webhook", counts["webhook of a job"])
        + prices.REQUESTS * milliseconds("request", counts[_READ])
    ) / 1000
    in_all, of_project = _GITLAB_COM_PER_MINUTE.values()
    first = "jobs whose project wasn't met within `ChainFreshSeconds`"
    rows = [
        ("GitLab.com: `GET /projects/:id`", "400 a minute and user", of_project / 60, first),
        ("GitLab.com: the API", "2,000 a minute and user", in_all / 60 / looked_up, first),
        ("Lambda: concurrent executions", "1,000 an account", 1000 / busy, "jobs"),
        ("API Gateway: `ExchangeRate`", "50 a second and route", 50.0, "jobs"),
        ("API Gateway: `WebhookRate`", "500 a second", 500 / prices.DELIVERIES, "jobs"),
        ("API Gateway: requests", "10,000 a second, account and region", 1e4 / invocations, "jobs"),
        ("KMS: signatures (ECC)", "1,000 a second, account and region", 1000.0, "jobs"),
        (
            "DynamoDB: one agent's items",
            "3,000 read units a second and key",
            3000 / (1 + prices.REQUESTS_READ_ANEW),
            "jobs of one agent",
        ),
        ("DynamoDB: an issuer's stops", "3,000 read units a second and key", 3000.0, "exchanges"),
    ]
    return _table(
        ("quota", "as it is at first", "binds at, a second"),
        [(name, first, f"{rate:,.0f} {what}") for name, first, rate, what in rows],
    )


def _prices() -> list[str]:
    rows = [(name, f"{dollars:g}", unit) for name, (dollars, unit) in prices.PRICES.items()]
    return _table(("what", "$", "for a"), rows)


def _largest(spent: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(spent.items(), key=lambda each: -each[1])


def _table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return lines + [f"| {' | '.join(map(str, row))} |" for row in rows]


def written(page: str, tables: dict[str, list[str]]) -> str:
    """The page with these tables between their marks."""
    for name, lines in tables.items():
        mark = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = "\n".join(lines)
        page, count = mark.subn(lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page)
        if count != 1:
            raise ValueError(f"the page has no place for the table {name}")
    return page


def main() -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--docs", type=Path)
    folder = parser.parse_args().docs
    tables = blocks()
    if folder is not None:
        page = folder / "cost.md"
        page.write_text(written(page.read_text(), tables))
    for name, lines in tables.items():
        print(f"{name}\n")
        print("\n".join(lines), end="\n\n")
    print(f"A thousand watches of {prices.WATCH_SECONDS} s: ${watches():.2f}")


if __name__ == "__main__":
    main()
