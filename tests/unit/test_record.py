from __future__ import annotations

import json

from jobgate.core import record

from tests.support import builders as b


def test_a_record_is_one_line_without_control_characters() -> None:
    job = b.a_job(ref="a\nb\x1b[2J\x7f\x85\u2028", user_login="\x00")

    line = record.record("exchange", at=b.NOW, outcome="refused", **record.of_job(job))

    assert line.isprintable()
    assert line.isascii()
    assert json.loads(line)["ref"] == job.ref


def test_a_record_says_when_in_utc_and_leaves_out_what_is_unknown() -> None:
    line = record.record("exchange", at=0.5, outcome="allowed", agent_id=None, job_id=7)

    assert json.loads(line) == {
        "v": 1,
        "type": "exchange",
        "at": "1970-01-01T00:00:00.500+00:00",
        "outcome": "allowed",
        "job_id": 7,
    }
