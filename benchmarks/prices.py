"""What AWS asks, and what is assumed beside what is counted: the inputs of `benchmarks.cost`.

Public list prices of us-east-1 in US dollars, noted in November 2026 from memory of AWS's price
pages, without free tiers and discounts. They change, and differ between regions: compare them with
AWS's pages before a decision depends on them.
"""

from __future__ import annotations

NOTED = "November 2026"
REGION = "us-east-1"

# Each: dollars, and for how much of what.
PRICES: dict[str, tuple[float, str]] = {
    "API Gateway, REST": (3.50, "million requests"),
    "Lambda, requests": (0.20, "million requests"),
    "Lambda, arm64": (0.0000133334, "GB-second"),
    "DynamoDB, read units": (0.125, "million"),
    "DynamoDB, write units": (0.625, "million"),
    "KMS, a signature (ECC)": (0.15, "ten thousand"),
    "KMS, a key": (1.00, "month"),
    "Secrets Manager, a secret": (0.40, "month"),
    "Secrets Manager, calls": (0.05, "ten thousand"),
    "SQS FIFO": (0.50, "million requests"),
    "EventBridge Scheduler": (1.00, "million invocations"),
    "CloudWatch Logs, taken in": (0.50, "GB"),
    "CloudWatch, a metric": (0.30, "month"),
    "CloudWatch, an alarm": (0.10, "month"),
    "CloudWatch, a dashboard": (3.00, "month"),
    "data to the internet": (0.09, "GB"),
}
UNITS = {
    "million requests": 1e6,
    "million invocations": 1e6,
    "million": 1e6,
    "ten thousand": 1e4,
    "GB-second": 1.0,
    "GB": 1e9,
    "month": 1.0,
}

# Milliseconds that a call is waited for, typical within a region.
LATENCY = {"table": 5.0, "signature": 15.0, "secret": 15.0, "message": 10.0, "gitlab": 150.0}
CLUSTER_MS = 40.0  # a cluster's answer, over a kept connection
# Milliseconds of a whole CPU; Lambda gives one at 1,769 MB, and at less a part of it.
OWN_MS = {"exchange": 5.0, "request": 1.5, "webhook": 3.0, "refresh": 60.0, "reconcile": 5.0}
MEMORY_MB = {"exchange": 1024, "request": 512, "webhook": 512, "refresh": 1769, "reconcile": 512}
WHOLE_CPU_MB = 1769
# Bytes of Lambda's own lines about an invocation, and of API Gateway's access log.
LAMBDA_LOG_BYTES, ACCESS_LOG_BYTES = 900, 450

# A usual deployment job: `helm upgrade --wait` or a few `kubectl apply` and `rollout status`.
REQUESTS = 30
REQUESTS_READ_ANEW = 10  # met by a warm relay that hadn't read the job within RelayCacheSeconds
ANSWER_BYTES = 10_000
DELIVERIES, DELIVERIES_NOTED = 4, 2  # created, pending, running, success; the last two are noted
LOOKED_UP_SHARE = 0.5  # of exchanges that find the project's place older than ChainFreshSeconds
WATCH_SECONDS = 60

ROUNDS_OF_A_MONTH = 30 * 24 * 12  # ReconcileSchedule, every five minutes
# Lambda asks an empty queue all the time: five pollers, each for 20 s.
RECEIVES_OF_A_MONTH = 5 * 3 * 60 * 24 * 30
SECRETS = 3
KEYS = 2
