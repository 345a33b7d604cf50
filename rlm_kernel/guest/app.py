# mypy: disable-error-code="no-untyped-call"
"""IPython's kernel application, set up for a container: quick to start, nothing on disk, output cut."""

import contextvars
import gc
import os
import random
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import zmq
from ipykernel.kernelapp import IPKernelApp
from IPython.core.profiledir import ProfileDir
from tornado.ioloop import IOLoop
from traitlets.config import Config

from . import names, places
from .output import CutStream, end_cell_output
from .plain import CutPlainText
from .shell import GuestKernel

OUTPUT_QUEUE = 100_000
"""Messages that may wait for the relay, which reads all the time; libzmq drops the rest without a word."""


class _Forgetful(dict[int, list[Any]]):
    """A history of outputs that keeps none."""

    def __missing__(self, key: int) -> list[Any]:
        return []


class GuestKernelApp(IPKernelApp):
    """Starts the kernel without what a container has no use for: profile files, a heartbeat, a debugger, a history."""

    tell: Callable[[str], None]

    def init_profile_dir(self) -> None:
        """Give IPython a folder in memory."""
        self.profile_dir = ProfileDir.create_profile_dir(f"{places.PRIVATE}/ipython")

    def init_config_files(self) -> None:
        """Read no configuration files."""

    def load_config_file(self, *args: Any, **kwargs: Any) -> None:
        """Read no configuration files."""

    def init_pdb(self) -> None:
        """Load no debugger."""

    def init_heartbeat(self) -> None:
        """Have none: the relay is told when this process ends."""

    def init_iopub(self, context: "zmq.Context[Any]") -> None:
        """Open the output's socket with a longer queue."""
        context.sndhwm = OUTPUT_QUEUE
        super().init_iopub(context)

    def init_sockets(self) -> None:
        """Open the sockets and tell the relay that it may connect."""
        super().init_sockets()
        self.tell("listening")

    def init_gui_pylab(self) -> None:
        """Leave matplotlib to the cell that wants it."""
        os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")

    def init_extensions(self) -> None:
        """Load none."""

    def init_code(self) -> None:
        """Run no start-up files; hide the names that are here before the first cell."""
        assert self.shell is not None
        self.shell.user_ns_hidden.update(self.shell.user_ns)
        self.shell._sys_modules_keys = set(sys.modules)

    def start(self) -> None:
        """Serve until the process is killed or a client asks for the end; an interrupt never is the end."""
        self.kernel.start()
        loop = IOLoop.current()
        while True:
            try:
                loop.start()
            except KeyboardInterrupt:
                continue
            return


def run(variables: dict[str, Any], tell: Callable[[str], None], seed: int | None) -> None:
    """Start the kernel over the namespace `variables` and serve until the process is killed.

    `seed` is that of `random`; None leaves it to chance.
    """
    config = Config(
        {
            "HistoryManager": {"enabled": False},
            "InteractiveShell": {"colors": "nocolor", "banner1": ""},
            "IPCompleter": {"use_jedi": False},
            "Kernel": {"_execute_sleep": 0.0},
        }
    )
    app: GuestKernelApp = GuestKernelApp.instance(
        config=config,
        connection_file=os.environ.pop("RLM_CONNECTION_FILE"),
        kernel_class=GuestKernel,
        log_level=50,
        outstream_class=f"{CutStream.__module__}.{CutStream.__name__}",
        user_ns=variables,
    )
    app.tell = tell
    app.initialize([])
    assert app.shell is not None
    _prepare_shell(app.shell)
    _inherit_context()
    tempfile.tempdir = "/tmp"  # noqa: S108 - each cell needs its name, found by a write that fails in a full /tmp
    random.seed(seed)
    gc.freeze()
    gc.enable()
    app.start()


def _prepare_shell(shell: Any) -> None:
    shell.history_manager.outputs = _Forgetful()
    names.hide(shell.user_ns_hidden)
    shell.events.register("pre_run_cell", lambda _: names.start_cell())
    shell.events.register("post_run_cell", lambda _: end_cell_output())
    shell.display_formatter.formatters["text/plain"] = CutPlainText(parent=shell.display_formatter)


def _inherit_context() -> None:
    """Let threads inherit the context they are started in, so that output belongs to the cell that started them."""
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit

    def start_in_context(thread: threading.Thread) -> None:
        context, body = contextvars.copy_context(), thread.run
        thread.run = lambda: context.run(body)  # type: ignore[method-assign]
        start(thread)

    def submit_in_context(pool: ThreadPoolExecutor, call: Any, /, *args: Any, **kwargs: Any) -> Any:
        return submit(pool, contextvars.copy_context().run, call, *args, **kwargs)

    threading.Thread.start = start_in_context  # type: ignore[assignment,method-assign]
    ThreadPoolExecutor.submit = submit_in_context  # type: ignore[assignment,method-assign]
