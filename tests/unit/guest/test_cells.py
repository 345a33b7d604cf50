"""Promises about cells: outputs, cuts, errors, interrupts."""

from __future__ import annotations

import time

import pytest

from tests.unit.guest.host import CELL_MIME, GuestHost


def test_state_lives_on_from_cell_to_cell(guest: GuestHost) -> None:
    """A variable of one cell is there in the next."""
    guest.run("kept = [1, 2]")
    assert guest.run("kept + [3]").result == "[1, 2, 3]"


def test_outputs_come_in_order(guest: GuestHost) -> None:
    """Text, a display and a result arrive as they were made."""
    cell = guest.run("from IPython.display import display, HTML\nprint('a')\ndisplay(HTML('<b>'))\nprint('c')\n4")
    kinds = [out["header"]["msg_type"] for out in cell.outputs]
    assert kinds == ["execute_input", "stream", "display_data", "stream", "execute_result"]


def test_a_childs_output_is_the_cells_output(guest: GuestHost) -> None:
    """What a subprocess and low-level code write to the descriptors shows up before its end."""
    cell = guest.run("import os, subprocess\nsubprocess.run(['echo', 'from a child'])\nos.write(2, b'from C\\n'); None")
    assert sorted(cell.text.splitlines()) == ["from C", "from a child"]


def test_an_error_is_readable(guest: GuestHost) -> None:
    """A traceback has no terminal colours and names line and error."""
    cell = guest.run("def f():\n    return 1 / 0\nf()")
    trace = "\n".join(cell.reply["traceback"])
    assert cell.reply["ename"] == "ZeroDivisionError"
    assert cell.reply["rlm_cut"] == 0
    assert "\x1b" not in trace
    assert "----> 2     return 1 / 0" in trace


FLOODS = {
    "one print": "print('x' * 50_000_000)",
    "many prints": "for i in range(300_000): print('line', i)",
    "stderr": "import sys; sys.stderr.write('y' * 5_000_000)",
    "emoji": "print('🙂' * 3_000_000)",
    "escapes": "print('\\0' * 3_000_000)",
}


@pytest.mark.parametrize("code", FLOODS.values(), ids=FLOODS)
def test_a_flood_of_text_is_cut_and_marked(guest: GuestHost, code: str) -> None:
    """A cell's text stops at the limit, the cut is said, and the cell ends as usual."""
    cell = guest.run(code)
    assert cell.reply["status"] == "ok"
    assert 100_000 < len(cell.text.encode()) < 1_100_000
    assert cell.text.endswith(
        f"\n[… output is cut from here on …]\n\n[… {cell.reply['rlm_cut']} bytes of output cut …]\n"
    )
    assert guest.run("print('fine')").text == "fine\n"


def test_no_flushed_line_is_lost(guest: GuestHost) -> None:
    """20,000 lines, each flushed, arrive whole and in few messages; a display between them keeps its place."""
    code = "for i in range(20_000):\n    print(i, flush=True)\n    if i == 15_000: display(1)"
    cell = guest.run(f"from IPython.display import display\n{code}")
    assert cell.text.split() == [str(number) for number in range(20_000)]
    assert cell.reply["rlm_cut"] == 0
    assert len(cell.outputs) < 5_000
    place = next(at for at, out in enumerate(cell.outputs) if out["header"]["msg_type"] == "display_data")
    texts = [out["content"].get("text", "") for out in cell.outputs]
    assert "".join(texts[:place]).split()[-1] == "15000"


FORKS = """import os
for _ in range(3):
    if os.fork() == 0:
        print('y' * 999_999); os._exit(0)
for _ in range(3): os.wait()"""


def test_what_forked_processes_print_is_the_cells(guest: GuestHost) -> None:
    """Prints of forks count against their cell, once, and what is cut of them is marked."""
    assert guest.run("import os\nif os.fork() == 0:\n    print('fork', flush=True); os._exit(0)\nos.wait();").text == (
        "fork\n"
    )
    cell = guest.run(FORKS)
    assert cell.text.count("y") + cell.text.count("\n") - 5 + cell.reply["rlm_cut"] == 3_000_000
    assert cell.text.endswith(f"\n[… {cell.reply['rlm_cut']} bytes of output cut …]\n")


def test_text_comes_before_its_cells_end(guest: GuestHost) -> None:
    """However a cell's end and the scheduled flush of its text fall together, the idle status comes last."""
    for delay in range(190, 210, 2):
        cell = guest.run(f"import time\nprint('y' * 900_000)\ntime.sleep({delay / 1000})")
        assert len(cell.text) == 900_001


def test_what_a_thread_loses_later_is_marked(guest: GuestHost) -> None:
    """Late output over the limit is cut where it begins, and the next cell's end tells how much that was."""
    guest.run(
        "import threading\nturn = threading.Event(); done = threading.Event()\n"
        "def late(): turn.wait(); print('y' * 1_500_000); done.set()\nthreading.Thread(target=late).start()"
    )
    first, second = f"cell-{guest.cells}", guest.request("turn.set(); done.wait();")
    late, deadline = "", time.monotonic() + 10
    while not late.endswith("bytes of output cut …]\n"):
        guest.step(deadline)
        while guest.messages:
            _, message = guest.messages.popleft()
            if message["header"]["msg_type"] == "stream":
                assert message["parent_header"]["msg_id"] == first, second
                late += message["content"]["text"]
    assert late.endswith("\n[… output is cut from here on …]\n\n[… 500001 bytes of output cut …]\n")


def test_text_that_is_no_utf8_arrives_escaped(guest: GuestHost) -> None:
    """Lone surrogates neither break the stream nor get lost."""
    assert guest.run("print('a\\ud800b')").text == "a\\ud800b\n"
    assert "ud800" in guest.run("raise ValueError('\\ud800')").reply["evalue"]
    assert guest.run("1").result == "1"


def test_half_a_gigabyte_of_text_costs_no_second_copy(fresh: GuestHost) -> None:
    """Printing a huge text takes hardly more memory than the text itself."""
    fresh.bind()
    fresh.run("import resource\ndef peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024")
    before = int(fresh.run("peak()").result)
    cell = fresh.run("print('x' * 500_000_000)")
    assert cell.text.endswith("[… 499000001 bytes of output cut …]\n")
    assert int(fresh.run("peak()").result) - before < 520_000_000


def test_a_huge_result_is_cut_before_it_is_written_out(guest: GuestHost) -> None:
    """The repr of a long text is its beginning and a mark."""
    result = guest.run("'x' * 20_000_000").result
    assert len(result) < 300_000
    assert "cut …]" in result
    assert "cut …]" in guest.run("['x' * 20_000_000]").result


def peak_growth(guest: GuestHost, code: str) -> int:
    """Return by how many bytes a cell raised the kernel's highest use of memory."""
    guest.run("import resource\ndef peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024")
    before = int(guest.run("peak()").result)
    guest.run(code)
    return int(guest.run("peak()").result) - before


HUGE = {
    "bytes": "bytes(300_000_000)",
    "bytearray": "bytearray(300_000_000)",
    "array": "from array import array; array('b', bytes(1)) * 300_000_000",
    "texts": "['x' * 3_000_000 for _ in range(100)]",
    "nested": "{'a': [['x' * 300_000_000]]}",
    "error": "raise ValueError('x' * 300_000_000)",
    "note": "error = ValueError(1); error.add_note('x' * 300_000_000); raise error",
}


@pytest.mark.parametrize("code", HUGE.values(), ids=HUGE)
def test_a_huge_value_is_shown_without_a_copy(fresh: GuestHost, code: str) -> None:
    """Showing a value of 300 MB, or an error with such a message, takes little more memory than the value."""
    fresh.bind()
    assert peak_growth(fresh, code) < 340_000_000


def test_too_many_displays_are_counted(guest: GuestHost) -> None:
    """A loop of displays stops at the limit, marked, and the cell still ends."""
    cell = guest.run("from IPython.display import display\nfor i in range(6_000): display(i)", seconds=60)
    shown = sum(out["header"]["msg_type"] == "display_data" for out in cell.outputs)
    assert shown == 5_000
    assert "1000 displays cut" in cell.text


def test_a_picture_that_is_too_large_is_named(guest: GuestHost) -> None:
    """A display over the limit is replaced by what it would have been."""
    cell = guest.run("from IPython.display import display\ndisplay({'image/png': 'A' * 3_000_000}, raw=True)")
    (shown,) = (out for out in cell.outputs if out["header"]["msg_type"] == "display_data")
    assert shown["content"]["data"] == {"text/plain": "[… image/png of 3000002 bytes cut …]"}


ERRORS = {
    "message": "raise ValueError('m' * 5_000_000)",
    "recursion": "def f(n): return f(n + 1)\nf(0)",
    "deep": "import sys\nsys.setrecursionlimit(3000)\ndef f(n):\n    if n: g(n - 1)\n    1/0\ndef g(n): f(n)\nf(1000)",
}


@pytest.mark.parametrize("code", ERRORS.values(), ids=ERRORS)
def test_a_huge_error_is_cut(guest: GuestHost, code: str) -> None:
    """Messages and tracebacks stay short and keep their end, which names the error."""
    cell = guest.run(code)
    assert cell.reply["status"] == "error"
    assert len(cell.reply["evalue"]) < 20_000
    trace = "\n".join(cell.reply["traceback"])
    assert len(trace) < 70_000
    assert cell.reply["ename"] in trace
    (error,) = (out for out in cell.outputs if out["header"]["msg_type"] == "error")
    assert error["content"]["traceback"] == cell.reply["traceback"]


def test_the_relay_cuts_what_the_kernel_does_not(fresh: GuestHost) -> None:
    """Code that takes the first cut away meets the second: counted, reported, and the end still arrives."""
    fresh.bind()
    fresh.run("from rlm_guest import output\noutput.CutStream.write = output.OutStream.write")
    cell = fresh.run("import sys\nfor i in range(30): sys.stdout.write('x' * 1_000_000); sys.stdout.flush()")
    assert 11_000_000 < len(cell.text) <= 12 * 1024 * 1024
    cuts = [message for message in fresh.control if message["type"] == "cut"]
    assert {cut["cell_msg_id"] for cut in cuts} == {"cell-2"}
    assert len(cell.text) + sum(cut["bytes"] for cut in cuts) > 30_000_000
    fresh.control.clear()
    cell = fresh.run("sys.stdout.write('x' * 3_000_000)")
    assert cell.text == ""
    assert fresh.until("cut")["cell_msg_id"] == "cell-3"


def test_the_relay_cuts_per_second_too(fresh: GuestHost) -> None:
    """Cell after cell without the first cut can't pass more than the burst; each byte is carried or reported."""
    fresh.bind()
    fresh.run("from rlm_guest import output\noutput.CutStream.write = output.OutStream.write\nimport sys")
    flood = "for i in range(12): sys.stdout.write('x' * 1_000_000); sys.stdout.flush()"
    carried = sum(len(fresh.run(flood).text) for _ in range(4))
    assert 20_000_000 < carried < 45_000_000
    cut = sum(message["bytes"] for message in fresh.control if message["type"] == "cut")
    assert 48_000_000 <= carried + cut < 48_100_000


@pytest.mark.parametrize(
    "code", ["import time\ntime.sleep(30)", "import asyncio\nawait asyncio.sleep(30)", "while True: pass"]
)
def test_an_interrupt_ends_a_cell(guest: GuestHost, code: str) -> None:
    """Sleeping, awaiting and busy cells end soon after an interrupt, and the kernel lives on."""
    cell = guest.request(f"print('go', flush=True)\n{code}")
    started = time.monotonic()
    while not any(m["header"]["msg_type"] == "stream" for _, m in guest.messages):
        guest.step(started + 10)
    guest.tell("interrupt")
    ended = guest.finish(cell, 5)
    assert ended.reply["ename"] in ("KeyboardInterrupt", "CancelledError")
    assert guest.run("1 + 1").result == "2"


@pytest.mark.parametrize(
    "code",
    ["while True: pass", "await asyncio.sleep(30)", "await asyncio.sleep(0)\nwhile True: pass"],
)
def test_a_cancel_ends_a_cell_that_ignores_signals(guest: GuestHost, code: str) -> None:
    """A cancel needs no signal; one for another cell is none for this one."""
    cell = guest.request(
        "import asyncio, signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('go', flush=True)\n" + code
    )
    started = time.monotonic()
    while not any(m["header"]["msg_type"] == "stream" for _, m in guest.messages):
        guest.step(started + 10)
    guest.tell("interrupt")
    guest.tell("cancel", cell="another")
    with pytest.raises(TimeoutError):
        guest.finish(cell, 0.3)
    guest.tell("cancel", cell=cell)
    assert guest.finish(cell, 5).reply["ename"] in ("KeyboardInterrupt", "CancelledError")
    guest.tell("cancel", cell=cell)
    assert guest.run("1 + 1").result == "2"


def test_exit_costs_nothing(guest: GuestHost) -> None:
    """Neither exit() nor sys.exit() ends the kernel."""
    guest.run("precious = 1")
    guest.run("exit()")
    guest.run("import sys; sys.exit(3)")
    guest.run("import time; time.sleep(0.3)")
    assert guest.run("precious").result == "1"


def test_late_output_belongs_to_the_cell_that_started_it(guest: GuestHost) -> None:
    """A thread that prints after its cell's end prints under its own cell."""
    guest.run(
        "import threading\nturn = threading.Event(); done = threading.Event()\n"
        "def late(): turn.wait(); print('late'); done.set()\nthreading.Thread(target=late).start()"
    )
    first = f"cell-{guest.cells}"
    guest.request("turn.set(); done.wait(); import sys; sys.stdout.flush(); print('mine')")
    found: dict[str, str] = {}
    deadline = time.monotonic() + 10
    while len(found) < 2:
        while guest.messages:
            _, message = guest.messages.popleft()
            if message["header"]["msg_type"] == "stream":
                found[message["content"]["text"]] = message["parent_header"]["msg_id"]
        if len(found) < 2:
            guest.step(deadline)
    assert found == {"late\n": first, "mine\n": f"cell-{guest.cells}"}


def test_the_help_of_a_name_is_printed(guest: GuestHost) -> None:
    """What IPython would page is output like any other."""
    assert "Ask a sub-model one question" in guest.run("llm_query?").text


def test_a_cells_end_lists_the_users_names(guest: GuestHost) -> None:
    """Variables are listed; modules, underscores and the names we gave are not."""
    names = guest.run("import os\nmine = 1\n_hidden = 2").end["names"]
    assert "mine" in names
    assert not {"os", "_hidden", "llm_query", "context", "answer", "In", "exit"} & set(names)
    assert CELL_MIME


def test_printed_text_is_not_kept(guest: GuestHost) -> None:
    """What a cell printed or showed can be freed; IPython would remember all of it."""
    guest.run("import sys, gc\nclass Text(str): pass\nfor i in range(5): sys.stdout.write(Text('hello'))")
    assert guest.run("gc.collect(); sum(type(o) is Text for o in gc.get_objects())").result == "0"


def test_a_busy_async_cell_is_interrupted_too(guest: GuestHost) -> None:
    """A cell that awaited once and then never again ends with an interrupt."""
    cell = guest.request("import asyncio\nawait asyncio.sleep(0)\nprint('go', flush=True)\nwhile True: pass")
    started = time.monotonic()
    while not any(m["header"]["msg_type"] == "stream" for _, m in guest.messages):
        guest.step(started + 10)
    guest.tell("interrupt")
    assert guest.finish(cell, 5).reply["ename"] == "KeyboardInterrupt"
    assert guest.run("1 + 1").result == "2"


def test_an_interrupt_between_cells_harms_nothing(guest: GuestHost) -> None:
    """An interrupt that comes too late leaves the kernel alive and its variables there."""
    guest.run("kept = 5")
    for _ in range(20):
        guest.tell("interrupt")
        assert guest.run("kept").reply["status"] in ("ok", "error")
    assert guest.run("kept").result == "5"
