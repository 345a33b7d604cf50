"""The set-up's locks and scripts, run for real against a machine of links and one stand-in, apt-get."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LOCKS = [ROOT / "requirements/dev.lock", ROOT / "requirements/local-model.lock", ROOT / "images/requirements.lock"]
TOOLS = [
    "bash",
    "cat",
    "cksum",
    "cut",
    "dirname",
    "env",
    "grep",
    "id",
    "rm",
    "sh",
    "sleep",
    "touch",
    "uname",
]

Run = Callable[..., subprocess.CompletedProcess[str]]


def write_program(path: Path, body: str) -> None:
    """Write a shell program of one line."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def locked(lock: Path) -> dict[str, str]:
    """Return the versions that a lock pins."""
    return dict(re.findall(r"^([\w.-]+)==([\w.!+]+)", lock.read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: f"{lock.parent.name}/{lock.name}")
def test_lock_pins_everything_by_hash_and_no_place(lock: Path) -> None:
    """Each package has one version and at least one hash, and no index, path or option is named."""
    entries = re.split(r"\n(?=\S)", lock.read_text().strip())
    assert len(entries) == len(locked(lock)) > 1
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert re.search(r"://|file:|^-|^/", lock.read_text(), flags=re.MULTILINE) is None


def test_lock_satisfies_the_project() -> None:
    """The lock was written after the last change of the project's own requirements."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    versions = locked(ROOT / "requirements/dev.lock")
    wanted = [Requirement(line) for line in project["project"]["dependencies"] + project["dependency-groups"]["dev"]]
    unmet = [str(need) for need in wanted if versions.get(need.name.replace("_", "-"), "0") not in need.specifier]
    assert unmet == []


def test_image_and_host_have_the_same_kernel() -> None:
    """The kernel that the host's client is tested with is the one in the image."""
    host, image = locked(ROOT / "requirements/dev.lock"), locked(ROOT / "images/requirements.lock")
    assert {name: image[name] for name in ("ipykernel", "jupyter-client", "pyzmq")} == {
        name: host[name] for name in ("ipykernel", "jupyter-client", "pyzmq")
    }


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the scripts need, with this Python's environment as its .venv."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    shutil.copytree(ROOT / "requirements", folder / "requirements")
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / ".venv" / "bin").mkdir(parents=True)
    write_program(folder / ".venv" / "bin" / "python", f'exec {sys.executable} "$@"')
    return folder


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A PATH of the few programs that Linux and macOS have: no Python, no apt-get, no sudo, no engine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    return folder


@pytest.fixture
def run(checkout: Path, tools: Path) -> Run:
    """Runs a script of the copy, without a terminal; keywords are environment variables."""

    def run(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [checkout / "scripts" / script],
            env={"PATH": str(tools), "HOME": str(checkout), "PYTHONPATH": str(ROOT)} | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def add_apt(tools: Path, log: Path, status: int, user: int = 0) -> None:
    """Add an apt-get that only writes down how it was called, and an id that says `user`, else root."""
    write_program(tools / "apt-get", f'echo "$DEBIAN_FRONTEND $*" >>{log}; exit {status}')
    (tools / "id").unlink()
    write_program(tools / "id", f"echo {user}")


def test_no_python_and_no_apt_is_a_clear_message(run: Run) -> None:
    """Where nothing can be installed, the message says what to install and how to name it."""
    result = run("venv.sh")
    assert result.returncode == 1
    assert "no Python 3.11 or newer" in result.stderr
    assert "PYTHON=/path/to/python3" in result.stderr


def test_wrong_python_is_named(run: Run, tools: Path) -> None:
    """A PYTHON that won't do is refused, not replaced by another one."""
    result = run("venv.sh", PYTHON=str(tools / "cat"))
    assert result.returncode == 1
    assert str(tools / "cat") in result.stderr


def test_python_is_installed_without_a_question(run: Run, tools: Path, tmp_path: Path) -> None:
    """A bare Debian gets python3 and python3-venv, said before, non-interactively; a failure of apt ends the set-up."""
    add_apt(tools, tmp_path / "apt.log", status=1)
    result = run("venv.sh")
    assert result.returncode == 1
    assert "Installing with apt: python3 python3-venv" in result.stdout
    assert "apt could not install" in result.stderr
    calls = (tmp_path / "apt.log").read_text().splitlines()
    assert calls[-1].startswith("noninteractive ")
    assert "-y --no-install-recommends install python3 python3-venv" in calls[-1]


def test_fresh_environment_is_left_alone(run: Run, checkout: Path) -> None:
    """With the stamp of the present lock, a run does and says nothing; a changed lock undoes that."""
    digest = "cat pyproject.toml requirements/dev.lock | cksum | cut -d' ' -f1"
    stamp = subprocess.check_output(["sh", "-c", digest], cwd=checkout, text=True).strip()
    (checkout / ".venv" / f"installed-{stamp}").touch()
    second = run("venv.sh")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    with (checkout / "requirements/dev.lock").open("a") as lock:
        lock.write("# changed\n")
    assert "no Python 3.11" in run("venv.sh").stderr


def test_dead_docker_host_is_named_and_nothing_installed(run: Run, tools: Path, tmp_path: Path) -> None:
    """An engine that was chosen and doesn't answer is reported; another one is not installed in its place."""
    add_apt(tools, tmp_path / "apt.log", status=0)
    result = run("engine.sh", DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    assert result.returncode == 1
    assert f"unix://{tmp_path}/none.sock" in result.stderr
    assert not (tmp_path / "apt.log").exists()


def test_macos_is_told_what_to_start(run: Run, checkout: Path, tools: Path) -> None:
    """Where Docker runs in a program of its own, its name is given, without a tool that macOS lacks."""
    name_dead_engine(checkout)
    (tools / "uname").unlink()
    write_program(tools / "uname", "echo Darwin")
    result = run("engine.sh")
    assert result.returncode == 1
    assert result.stderr.startswith("error: no container engine answers: start Docker Desktop")


@pytest.fixture
def living_dockerd(tmp_path: Path) -> Iterator[None]:
    """A process that is called dockerd."""
    sleep = shutil.which("sleep")
    assert sleep
    shutil.copy(sleep, tmp_path / "dockerd")
    with subprocess.Popen([tmp_path / "dockerd", "60"]) as process:
        yield
        process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="engines are started on Linux only")
@pytest.mark.usefixtures("living_dockerd")
def test_bridge_of_a_living_engine_is_not_deleted(run: Run, checkout: Path, tools: Path, tmp_path: Path) -> None:
    """A dockerd that fails is not tried without a bridge while another one lives, as that would delete its bridge."""
    name_dead_engine(checkout)
    add_apt(tools, tmp_path / "apt.log", status=0)
    write_program(tools / "dockerd", f'echo "started $*" >>{tmp_path}/calls; exit 1')
    for name in ("setsid", "tail"):
        (tools / name).symlink_to(str(shutil.which(name)))
    result = run("engine.sh", DOCKERD_ARGS="--debug", DOCKERD_LOG=str(tmp_path / "log"))
    assert result.returncode == 1
    assert "the engine does not start" in result.stderr
    if not Path("/run/systemd/system").exists():
        assert (tmp_path / "calls").read_text() == "started --debug\n"


def test_password_is_not_waited_for(run: Run, tools: Path, tmp_path: Path) -> None:
    """Without a terminal, a sudo that wants a password ends the set-up, with the command to run oneself."""
    add_apt(tools, tmp_path / "apt.log", status=0, user=1000)
    write_program(tools / "sudo", f'echo "$*" >>{tmp_path}/sudo.log; exit 1')
    result = run("venv.sh")
    assert result.returncode == 1
    assert "sudo asks for a password: run it yourself: env DEBIAN_FRONTEND=noninteractive apt-get" in result.stderr
    assert (tmp_path / "sudo.log").read_text() == "-n true\n"
    assert not (tmp_path / "apt.log").exists()


def test_failure_under_sudo_is_not_taken_for_a_password(run: Run, tools: Path, tmp_path: Path) -> None:
    """Where sudo asks nothing, what fails under it is reported as what it is."""
    add_apt(tools, tmp_path / "apt.log", status=1, user=1000)
    write_program(tools / "sudo", 'shift; exec "$@"')
    write_program(tools / "true", "exit 0")
    result = run("venv.sh")
    assert result.returncode == 1
    assert "apt could not install python3 python3-venv" in result.stderr
    assert "password" not in result.stderr


def name_dead_engine(home: Path) -> None:
    """Make a Docker context whose engine doesn't answer the current one."""
    folder = home / ".docker" / "contexts" / "meta" / hashlib.sha256(b"dead").hexdigest()
    folder.mkdir(parents=True)
    endpoint = {"Host": f"unix://{home}/none.sock", "SkipTLSVerify": False}
    (folder / "meta.json").write_text(json.dumps({"Name": "dead", "Metadata": {}, "Endpoints": {"docker": endpoint}}))
    (home / ".docker" / "config.json").write_text(json.dumps({"currentContext": "dead"}))


def test_broken_environment_is_not_taken_for_a_missing_engine(
    run: Run, checkout: Path, tools: Path, tmp_path: Path
) -> None:
    """When the question can't even be asked, the set-up ends with Python's own words and installs nothing."""
    add_apt(tools, tmp_path / "apt.log", status=0)
    write_program(checkout / ".venv" / "bin" / "python", "echo this Python is broken >&2; exit 1")
    result = run("engine.sh")
    assert result.returncode == 1
    assert "this Python is broken" in result.stderr
    assert not (tmp_path / "apt.log").exists()


def test_gvisor_is_not_registered_with_an_engine_elsewhere(
    run: Run, checkout: Path, tools: Path, tmp_path: Path
) -> None:
    """Where DOCKER_HOST names an engine without gVisor, nothing is installed or written here, and that is said."""
    add_apt(tools, tmp_path / "apt.log", status=0)
    write_program(checkout / ".venv" / "bin" / "python", "exit 3")
    result = run("gvisor.sh", DOCKER_HOST="tcp://far:2376", DAEMON_JSON=str(tmp_path / "daemon.json"))
    assert result.returncode == 1
    assert "DOCKER_HOST is tcp://far:2376" in result.stderr
    assert not (tmp_path / "apt.log").exists()
    assert not (tmp_path / "daemon.json").exists()


def test_a_runtime_is_added_to_what_is_configured(tmp_path: Path) -> None:
    """The engine's other settings and runtimes stay as they are."""
    config = tmp_path / "daemon.json"
    config.write_text('{"debug": true, "runtimes": {"other": {"path": "/o"}}}')
    for _ in range(2):
        subprocess.run(
            [sys.executable, ROOT / "scripts/add_runtime.py", config, "runsc", "/r", "--a", "--b"], check=True
        )
    assert json.loads(config.read_text()) == {
        "debug": True,
        "runtimes": {"other": {"path": "/o"}, "runsc": {"path": "/r", "runtimeArgs": ["--a", "--b"]}},
    }
