"""`runs pack`, `unpack` and `verify` as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlm_kernel.cli import main
from rlm_kernel.cli.exits import BY_ERROR, USAGE
from rlm_kernel.errors import BundleInvalid, RecordingAltered, RecordingError
from tests.support.recorded import finished, run_id, started, stored, write_run

RUN = run_id(1)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder with a run, one of whose contexts is gone; the working directory is another one."""
    write_run(tmp_path / "home", RUN, [started(RUN), stored("f" * 64), finished()])
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def run(home: Path, *arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["runs", *arguments, "--state-dir", str(home)])
    return int(end.value.code or 0)


def test_a_run_goes_into_a_file_and_comes_out_of_it(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Named after it where no other name is given; contexts that are gone are told."""
    assert run(home, "pack", "last") == 0
    assert (Path(f"{RUN}.tar.zst")).is_file()
    said = capfd.readouterr()
    assert said.out == f"{RUN}.tar.zst\n"
    assert "1 of its contexts" in said.err
    assert run(home / "new", "unpack", f"{RUN}.tar.zst", "--json") == 0
    assert json.loads(capfd.readouterr().out)["recording"] == str(home / "new" / "runs" / RUN)
    assert run(home / "new", "verify", RUN) == 0
    assert "Held against no head" in capfd.readouterr().out
    assert run(home, "verify", f"{RUN}.tar.zst", "--json") == 0
    assert json.loads(capfd.readouterr().out)["against"] == "the head that was kept when the run ended"
    assert [path.name for path in Path().iterdir()] == [f"{RUN}.tar.zst"]


def test_no_file_is_written_over_unless_that_is_asked_for(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """And none is left by a run that is not there."""
    Path("x").write_bytes(b"mine")
    assert run(home, "pack", RUN, "-o", "x") == BY_ERROR[RecordingError]
    assert "--force" in capfd.readouterr().err
    assert Path("x").read_bytes() == b"mine"
    assert run(home, "pack", RUN, "-o", "x", "--force") == 0
    assert Path("x").read_bytes() != b"mine"
    assert run(home, "pack", "0000", "-o", "y") == BY_ERROR[RecordingError]
    assert run(home, "pack", RUN, "-o", "nothing/y") == BY_ERROR[RecordingError]
    assert [path.name for path in Path().iterdir()] == ["x"]


def test_a_bundle_can_go_to_standard_output(home: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """The same bytes, and nothing else."""
    assert run(home, "pack", RUN, "-o", "x") == 0
    capfdbinary.readouterr()
    assert run(home, "pack", RUN, "-o", "-") == 0
    assert capfdbinary.readouterr().out == Path("x").read_bytes()
    assert run(home, "pack", RUN, "-o", "-", "--json") == USAGE


def test_what_is_wrong_has_a_status(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each its own."""
    Path("x.tar.zst").write_bytes(b"no bundle")
    assert run(home, "unpack", "x.tar.zst") == BY_ERROR[BundleInvalid]
    assert run(home, "verify", RUN, "--head", "0" * 64) == BY_ERROR[RecordingAltered]
    assert "none of them has this head" in capfd.readouterr().err
    assert run(home, "unpack", "x.tar.zst", "--max-size", "much") == USAGE
    assert run(home, "pack", RUN, "--level", "22") == USAGE


@pytest.mark.parametrize(
    "command", [["runs", "show"], ["runs", "compare", RUN], ["export", "-o", "-"], ["runs", "show", "--json"]]
)
def test_a_bundle_is_read_as_a_run_is(command: list[str], home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """By the commands that only read; nothing of it is left behind."""
    assert run(home, "pack", RUN, "-o", "x.tar.zst") == 0
    capfd.readouterr()
    with pytest.raises(SystemExit) as end:
        main([*command, "x.tar.zst", "--state-dir", str(home)])
    assert not end.value.code
    assert capfd.readouterr().out
    assert [path.name for path in (home / "runs").iterdir()] == [RUN]
