"""`rlm-kernel doctor` and `rlm-kernel audit` where there is no engine, and how their tables look."""

from __future__ import annotations

import pytest

from rlm_kernel.audit import Finding, Report
from rlm_kernel.cli.table import audit_table, write_table
from tests.unit.cli.conftest import RunCommand

NOWHERE = ("--docker-host", "unix:///nowhere.sock")


def test_the_doctor_without_an_engine(command: RunCommand) -> None:
    """It names the problem and the command that mends it, and ends with its own status."""
    ended = command("doctor", *NOWHERE)
    assert (ended.status, ended.err) == (52, "")
    assert "problem  A container engine answers  [engine]" in ended.out
    assert "mend: " in ended.out
    assert "problems" in ended.out


def test_the_doctor_as_json(command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    """One object tells whether the machine is ready; no key is in it."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-do-not-show")
    ended = command("doctor", "--json", *NOWHERE)
    assert ended.status == 52
    assert ended.json["ready"] is False
    found = {check["name"]: check["state"] for check in ended.json["checks"]}
    assert (found["engine"], found["model"], found["python"]) == ("problem", "ok", "ok")
    assert "sk-do-not-show" not in ended.out


def test_the_audit_without_an_engine(command: RunCommand) -> None:
    """There is nothing to audit, which is an error as for every command."""
    ended = command("audit", *NOWHERE)
    assert (ended.status, ended.out) == (21, "")
    assert "no container engine answers" in ended.err


def test_what_a_container_says_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences, line breaks and markup in a finding are shown as text or not at all; failures come last."""
    hostile = "\x1b]0;owned\x07[red]\x1b[2Jname\nsecond\r\u202eline"
    findings = tuple(
        Finding(claim="c", title=hostile, tried="t", seen=hostile + "x" * 5000, verdict=verdict, reason="r", remedy="m")
        for verdict in ("fail", "pass")
    )
    write_table(audit_table(Report(engine=hostile, oci_runtime="runc", seconds=1, findings=findings)))
    written = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(written)
    assert "[red]name second" in written
    assert written.index("pass  ") < written.index("fail  ")
    assert len(written) < 10_000
