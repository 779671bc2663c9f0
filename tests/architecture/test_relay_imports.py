"""The functions that a job waits for start quickly because they import little."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {
    "aiohttp",
    "asyncio",
    "aws_lambda_powertools",
    "boto3",
    "botocore",
    "kubernetes",
    "pydantic",
    "requests",
    "rich",
    "typer",
    "urllib3",
    "yaml",
}
_SCRIPT = """
import json, sys
sys.path[:0] = sys.argv[1:3]
import jobgate.adapters.streaming_runtime
import app
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize("function", ["relay", "token_exchange"])
def test_nothing_heavy_is_imported_on_a_jobs_path(function: str) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-c",
            _SCRIPT,
            str(ROOT / "shared"),
            str(ROOT / "functions" / function),
        ],
        env={
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "JOBGATE_TABLE": "t",
            "JOBGATE_GITLAB_TOKENS_SECRET": "arn",
        },
        capture_output=True,
        check=True,
    )
    modules = json.loads(done.stdout)
    assert HEAVY.isdisjoint(module.partition(".")[0] for module in modules)
    assert len(modules) < 300
