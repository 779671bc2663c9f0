from __future__ import annotations

from typing import TYPE_CHECKING

from local.kubernetes.audit import audit_events

if TYPE_CHECKING:
    from pathlib import Path


def test_audit_log_leaves_out_an_unfinished_line_and_what_was_read(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    first = '{"verb": "get"}\n'
    log.write_text(first + '{"verb": "list"}\n{"verb": "wa')

    assert [event["verb"] for event in audit_events(log)] == ["get", "list"]
    assert [event["verb"] for event in audit_events(log, after=len(first))] == ["list"]


def test_missing_audit_log_has_no_events(tmp_path: Path) -> None:
    assert list(audit_events(tmp_path / "none")) == []
