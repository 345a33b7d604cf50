"""Promises of the relay, each against a real relay and a real kernel."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from rlm_kernel.guest.wire import HEADER, Channel
from tests.unit.guest.host import GuestHost


def alive(pid: int) -> bool:
    """Say whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid: int, seconds: float = 10) -> bool:
    """Wait until a process that is not our child has ended."""
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(pid)


def pid_of(guest: GuestHost) -> int:
    """Return the kernel's process id."""
    return int(guest.run("import os; os.getpid()").result)


@pytest.mark.parametrize("carrier", ["socket", "attach"])
def test_hello_comes_first_and_a_cell_runs(carrier: str) -> None:
    """On both carriers the guest says hello with what it sees, then runs cells."""
    with GuestHost(carrier) as guest:
        hello = guest.until("hello")
        assert hello["protocol"] == 1
        facts = hello["facts"]
        assert facts["pid"] == guest.process.pid
        assert facts["uid"] == os.getuid()
        assert int(facts["cap_eff"], 16) >= 0
        assert isinstance(facts["no_new_privs"], bool)
        assert "lo" in facts["interfaces"]
        assert guest.bind()["generation"] == 1
        assert guest.run("print(context)").text == "the context\n"


def test_nothing_in_the_guest_can_write_into_the_attach_stream() -> None:
    """On the attach carrier, what code writes to descriptor 1 becomes output or is lost, never part of the stream."""
    with GuestHost("attach") as guest:
        guest.bind()
        guest.run("import os, subprocess; os.write(1, b'garbage'); subprocess.run(['echo', 'garbage'])")
        assert guest.run("1 + 1").result == "2"
        assert "/dev/null" in guest.run("import os; os.readlink('/proc/self/fd/0')").result


TEXTS = {"a.txt": "first\r\nline\n", "b/ü.txt": "größe 🙂", "empty": ""}


def files_context() -> tuple[bytes, bytes]:
    """Make a blob and its index of `TEXTS`."""
    blob, rows = b"", []
    for path, text in TEXTS.items():
        rows.append([path, len(blob), len(text.encode())])
        blob += text.encode()
    return blob, json.dumps({"files": rows}).encode()


CONTEXTS: list[tuple[str, bytes, bytes, Any]] = [
    ("str", "größe\r\n🙂".encode(), b"", "größe\r\n🙂"),
    ("str", b"", b"", ""),
    ("json", b'{"a": [1, null, "\xc3\xbc"]}', b"", {"a": [1, None, "ü"]}),
    ("json", b"17", b"", 17),
    ("files", *files_context(), TEXTS),
]


@pytest.mark.parametrize(("kind", "blob", "index", "value"), CONTEXTS)
@pytest.mark.parametrize("source", ["file", "stream"])
def test_the_context_arrives_as_it_is(
    fresh: GuestHost, source: str, kind: str, blob: bytes, index: bytes, value: Any
) -> None:
    """Every kind of context, from a file or over the stream, is the value that was given, also after a restart."""
    if source == "file":
        ready = fresh.bind_file(kind, blob, index)
    else:
        fresh.tell_bind(kind, len(blob), len(index), "stream")
        for part in [(blob + index)[start : start + 7] for start in range(0, len(blob + index), 7)]:
            fresh.wire.send(Channel.CONTEXT, part)
        ready = fresh.until("kernel_ready")
    assert ready["context_type"] == type(value).__name__
    assert ready["context_length"] == (len(value) if not isinstance(value, int) else 0)
    assert fresh.run(f"context == {value!r}").result == "True"
    assert fresh.run("list(context) if isinstance(context, dict) else 0").result == (
        repr(list(value)) if isinstance(value, dict) else "0"
    )
    fresh.tell("restart")
    assert fresh.until("kernel_ready")["generation"] == 2
    assert fresh.run(f"context == {value!r}").result == "True"


@pytest.mark.parametrize(
    ("kind", "blob", "size", "says"),
    [
        ("str", b"abc", 5, "has 3 bytes, not 5"),
        ("str", b"\xff", 1, "utf-8"),
        ("str", None, 5, "No such file"),
        ("json", b"{", 1, "JSONDecodeError"),
        ("files", b"abc", 3, "TypeError"),
        ("film", b"abc", 3, "unknown kind"),
    ],
)
def test_a_context_that_is_not_as_announced_fails(
    fresh: GuestHost, kind: str, blob: bytes | None, size: int, says: str
) -> None:
    """A missing, shorter or undecodable context is said, and no kernel is called ready."""
    if blob is not None:
        (fresh.shared / "context").write_bytes(blob)
    (fresh.shared / "context.json").write_bytes(b"[]")
    fresh.tell_bind(kind, size)
    assert says in fresh.until("bind_failed")["message"]
    assert not [message for message in fresh.control if message["type"] == "kernel_ready"]


@pytest.mark.parametrize("source", ["file", "stream"])
def test_several_contexts_are_variables_of_their_names(fresh: GuestHost, source: str) -> None:
    """Each is there by its name and in `context`, also after a restart, and none counts as a cell's own variable."""
    blob, index = files_context()
    parts = [("report", "str", "größe".encode(), b""), ("docs", "files", blob, index), ("table", "json", b"[1]", b"")]
    data = b""
    for number, (_, _, blob, index) in enumerate(parts):
        data += blob + index
        if source == "file":
            (fresh.shared / f"context{number or ''}").write_bytes(blob)
            (fresh.shared / f"context{number or ''}.json").write_bytes(index)
    told = [
        {"name": name, "kind": kind, "size": len(blob), "index_size": len(index)} for name, kind, blob, index in parts
    ]
    fresh.tell("bind", source=source, contexts=told)
    if source == "stream":
        fresh.wire.send(Channel.CONTEXT, data)
    ready = fresh.until("kernel_ready")
    assert (ready["context_type"], ready["context_length"]) == ("dict", 3)
    assert ready["contexts"] == [["str", 5], ["dict", 3], ["list", 1]]
    check = f"[report, docs, table] == ['größe', {TEXTS!r}, [1]] == list(context.values()) and list(context)"
    assert fresh.run(check).result == "['report', 'docs', 'table']"
    fresh.tell("restart")
    assert fresh.until("kernel_ready")["contexts"] == ready["contexts"]
    ended = fresh.run(f"mine = 1; {check}")
    assert (ended.result, ended.end["names"]) == ("['report', 'docs', 'table']", ["mine"])


def test_a_large_context_loads_about_as_fast_as_reading_it(fresh: GuestHost) -> None:
    """A 40 MB text is bound in at most 1.5 times what plain Python takes to read it, but for a machine's noise."""
    blob = b"0123456789abcdef" * (40_000_000 // 16)
    assert fresh.bind_file("str", blob)["context_length"] == len(blob)
    times = fresh.run(
        f"""import time, sys
from rlm_guest.context import load_context
path = {str(fresh.shared / "context")!r}
def best(f):
    times = []
    for _ in range(5):
        start = time.perf_counter(); f(); times.append(time.perf_counter() - start)
    return min(times)
def load(): return load_context(dict(kind="str", path=path, index_path="", size={len(blob)}))
print(best(lambda: open(path).read()), best(load))
"""
    ).text
    plain, ours = map(float, times.split())
    assert ours <= 1.5 * plain + 0.01


def test_ping_is_answered_while_a_cell_runs(guest: GuestHost) -> None:
    """The relay answers for itself, whatever the kernel does, and while its output floods."""
    for code in ("import time; time.sleep(0.5)", "for _ in range(3000): print('x' * 1000, flush=True)"):
        cell = guest.request(code)
        guest.wire.ping()
        deadline = time.monotonic() + 10
        while guest.wire.unanswered:
            guest.step(deadline)
        guest.finish(cell)


def test_a_silent_host_loses_its_guest() -> None:
    """When nothing was heard for the time of the lease, the relay ends, and a kernel that is busy with it."""
    with GuestHost(lease=1.0) as guest:
        guest.bind()
        kernel = pid_of(guest)
        guest.request("while True: pass")
        guest.until_sent()
        assert guest.process.wait(10) == 0
        assert not alive(kernel)


def test_pings_keep_the_lease() -> None:
    """A host that says nothing else keeps its guest by pings for longer than the lease."""
    with GuestHost(lease=2.0) as guest:
        guest.bind()
        for _ in range(12):
            time.sleep(0.2)
            guest.wire.ping()
            deadline = time.monotonic() + 10
            while guest.wire.unanswered:
                guest.step(deadline)
        assert guest.run("1 + 1").result == "2"


def test_a_relay_that_stood_still_looks_before_it_gives_up() -> None:
    """A guest that was frozen for longer than the lease goes on if its host had spoken meanwhile."""
    with GuestHost(lease=1.0) as guest:
        guest.bind()
        guest.process.send_signal(signal.SIGSTOP)
        guest.wire.ping()
        guest.until_sent()
        time.sleep(1.5)
        guest.process.send_signal(signal.SIGCONT)
        assert guest.run("1 + 1").result == "2"


def test_a_kernel_that_dies_is_reported_after_its_last_output(fresh: GuestHost) -> None:
    """Death during a cell tells generation and code, after the output, and the host decides on a restart."""
    fresh.bind()
    fresh.request("import os, time; print('last words', flush=True); time.sleep(0.3); os._exit(3)")
    assert fresh.until("kernel_died") == {"type": "kernel_died", "generation": 1, "code": 3, "oom": False}
    texts = [m["content"]["text"] for _, m in fresh.messages if m["header"]["msg_type"] == "stream"]
    assert texts == ["last words\n"]
    fresh.messages.clear()
    fresh.tell("restart")
    assert fresh.until("kernel_ready")["generation"] == 2
    assert fresh.run("print(context)").text == "the context\n"


def test_a_kernel_that_is_killed_is_reported_with_the_signal(fresh: GuestHost) -> None:
    """A kill shows as the negative signal."""
    fresh.bind()
    os.kill(pid_of(fresh), signal.SIGKILL)
    assert fresh.until("kernel_died")["code"] == -signal.SIGKILL


def test_a_restart_ends_a_stuck_cell_and_what_it_started(fresh: GuestHost) -> None:
    """A restart kills a kernel deep in C code and its children, and the new kernel knows no old variable."""
    fresh.bind()
    old = pid_of(fresh)
    child = int(fresh.run("x = 1; import subprocess; p = subprocess.Popen(['sleep', '1000']); p.pid").result)
    fresh.request("sum(range(10**12))")
    fresh.tell("restart")
    assert fresh.until("kernel_ready")["generation"] == 2
    assert not alive(old)
    assert gone(child)
    assert "NameError" in fresh.run("x").reply["ename"]
    assert not [m for m in fresh.control if m["type"] == "kernel_died"]


def test_a_restart_before_the_kernel_is_ready_works(fresh: GuestHost) -> None:
    """Restarts in a row lead to one ready kernel, the last one."""
    fresh.tell("restart")
    fresh.tell("restart")
    assert fresh.bind()["generation"] == 3


@pytest.mark.parametrize("carrier", ["socket", "attach"])
def test_the_end_of_the_stream_ends_everything(carrier: str) -> None:
    """When the host is gone the relay, the kernel and its children are gone at once."""
    with GuestHost(carrier) as guest:
        guest.bind()
        kernel = pid_of(guest)
        child = int(guest.run("import subprocess; p = subprocess.Popen(['sleep', '1000']); p.pid").result)
        guest.request("while True: pass")
        guest.stream.close()
        assert guest.process.wait(5) == 0
        assert not alive(kernel)
        assert gone(child)


@pytest.mark.parametrize(
    "data",
    [
        HEADER.pack(2, Channel.CONTROL, 0) + b"{]",
        HEADER.pack(2, Channel.CONTROL, 0) + b"[]",
        HEADER.pack(2, Channel.SHELL, 0) + b"{}",
        HEADER.pack(17, Channel.CONTROL, 0) + b'{"type":"dance"} ',
        HEADER.pack(2, Channel.CONTEXT, 0) + b"{}",
        HEADER.pack(2, Channel.IOPUB, 0) + b"{}",
        b"\xff" * 6,
    ],
)
def test_nonsense_from_the_host_ends_the_guest(fresh: GuestHost, data: bytes) -> None:
    """Whatever the relay can't understand ends it, and the kernel with it."""
    fresh.until("hello")
    fresh.stream.setblocking(True)
    fresh.stream.sendall(data)
    assert fresh.process.wait(10) == 0


def test_a_relay_that_is_killed_takes_the_kernel_along(fresh: GuestHost) -> None:
    """Where the relay is not PID 1, the kernel ends when its link does."""
    fresh.bind()
    kernel = pid_of(fresh)
    fresh.process.kill()
    assert gone(kernel)


def test_a_kernel_that_breaks_the_link_is_ended(fresh: GuestHost) -> None:
    """Code that writes nonsense into the link loses its kernel; the relay lives."""
    fresh.bind()
    fresh.request(
        "import os, stat, time\n"
        "for fd in range(3, 100):\n"
        "    try:\n"
        "        if stat.S_ISSOCK(os.fstat(fd).st_mode): os.write(fd, b'\\xff' * 64)\n"
        "    except OSError: pass\n"
        "time.sleep(100)"
    )
    fresh.until("kernel_died")
    fresh.tell("restart")
    assert fresh.until("kernel_ready")["generation"] == 2


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="a PID namespace needs root")
def test_as_pid_1_the_relay_reaps_and_clears_everything() -> None:
    """Orphans leave no zombies, signals from inside don't matter, and a restart ends even what left its session."""
    with GuestHost(wrapper=("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")) as guest:
        assert guest.until("hello")["facts"]["pid"] == 1
        guest.bind()
        guest.run(
            "import os, subprocess, time\n"
            "def state(pid): return open(f'/proc/{pid}/stat').read().split()[2]\n"
            "subprocess.run(['sh', '-c', 'for i in 1 2 3; do (sleep 0.01 &) ; done'])\n"
            "time.sleep(0.2)"
        )
        assert guest.run("'Z' in [state(p) for p in os.listdir('/proc') if p.isdigit()]").result == "False"
        guest.run("for s in (1, 2, 9, 15): os.kill(1, s)")
        guest.run("p = subprocess.Popen(['setsid', 'sleep', '1000'])")
        guest.tell("restart")
        assert guest.until("kernel_ready")["generation"] == 2
        assert guest.run("import os; sum(p.isdigit() for p in os.listdir('/proc'))").result == "2"
