"""Runs in a cell: tries the known ways out of a container and prints, for each, "worked" or the error's name."""

import ctypes
import errno
import json
import os
import platform
import socket
from collections.abc import Callable
from typing import Any

Try = Callable[[], object]

LIBC = ctypes.CDLL(None, use_errno=True)
NUMBERS = {
    "x86_64": {
        "acct": 163, "add_key": 248, "bpf": 321, "clock_settime": 227, "delete_module": 176, "fanotify_init": 300,
        "finit_module": 313, "fsopen": 430, "init_module": 175, "io_uring_setup": 425, "ioperm": 173, "iopl": 172,
        "kcmp": 312, "kexec_load": 246, "keyctl": 250, "mount": 165, "open_by_handle_at": 304, "open_tree": 428,
        "perf_event_open": 298, "pidfd_getfd": 438, "pidfd_open": 434, "pivot_root": 155, "process_vm_readv": 310,
        "ptrace": 101, "quotactl": 179, "reboot": 169, "request_key": 249, "sethostname": 170, "setns": 308,
        "swapoff": 168, "syslog": 103, "umount2": 166, "unshare": 272, "userfaultfd": 323,
    },
    "aarch64": {
        "acct": 89, "add_key": 217, "bpf": 280, "clock_settime": 112, "delete_module": 106, "fanotify_init": 262,
        "finit_module": 273, "fsopen": 430, "init_module": 105, "io_uring_setup": 425, "kcmp": 272, "kexec_load": 104,
        "keyctl": 219, "mount": 40, "open_by_handle_at": 265, "open_tree": 428, "perf_event_open": 241,
        "pidfd_getfd": 438, "pidfd_open": 434, "pivot_root": 41, "process_vm_readv": 270, "ptrace": 117,
        "quotactl": 60, "reboot": 142, "request_key": 218, "sethostname": 161, "setns": 268, "swapoff": 225,
        "syslog": 116, "umount2": 39, "unshare": 97, "userfaultfd": 282,
    },
}  # fmt: skip
NEW_NAMESPACE = {
    "user": 0x10000000,
    "mount": 0x20000,
    "network": 0x40000000,
    "process": 0x20000000,
    "cgroup": 0x2000000,
}
MS_REMOUNT, MS_BIND = 32, 4096
SOCKETS = (
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/run/systemd/private",
    "/run/dbus/system_bus_socket",
)
KNOBS = (
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/vm/panic_on_oom",
    "/proc/sys/fs/binfmt_misc/register",
    "/proc/irq/default_smp_affinity",
    "/proc/bus/pci/devices",
    "/sys/kernel/uevent_helper",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/power/state",
)
DISKS = ("mem", "kmem", "port", "sda", "vda", "xvda", "nvme0n1", "dm-0", "loop0", "fuse", "kvm", "net/tun", "vsock")


def outcome(what: Try) -> str:
    """Return "worked" or the name of the error that `what` ends with."""
    try:
        what()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    return "worked"


def call(name: str, *arguments: Any) -> Try:
    """Return a function that makes one system call, its arguments as C has them."""
    number = NUMBERS.get(platform.machine(), {}).get(name)

    def make() -> None:
        if number is None:
            raise OSError(errno.ENOSYS, name)
        values = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
        ctypes.set_errno(0)
        if LIBC.syscall(ctypes.c_long(number), *values) < 0:
            raise OSError(ctypes.get_errno(), name)

    return make


def write(path: str, flags: int = 0) -> Try:
    """Return a function that opens a file for writing, and leaves it at that: on a weak engine it is the machine's."""
    return lambda: os.close(os.open(path, os.O_WRONLY | flags, 0o600))


def in_child(what: Try) -> Try:
    """Return a function that does in a process of its own what would change this one."""

    def make() -> None:
        child = os.fork()
        if child == 0:
            try:
                what()
                os._exit(0)
            except OSError as error:
                os._exit(error.errno or 255)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            raise OSError(code, "in the child")

    return make


def read(path: str) -> Try:
    """Return a function that reads a byte of a file, or the names in a folder."""

    def make() -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            os.listdir(path)
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            os.read(descriptor, 1)
        finally:
            os.close(descriptor)

    return make


def connect(path: str) -> Try:
    """Return a function that connects to a socket."""

    def make() -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)

    return make


def open_socket(family: int, kind: int, protocol: int = 0) -> Try:
    """Return a function that opens a socket."""
    return lambda: socket.socket(family, kind, protocol).close()


def map_users() -> None:
    """Make the own user root, in the own namespace."""
    with open("/proc/self/uid_map", "w") as file:
        file.write("0 0 1")


def peek() -> None:
    """Copy some of the relay's memory."""
    buffer = ctypes.create_string_buffer(64)
    local = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 64)
    remote = (ctypes.c_size_t * 2)(0x400000, 64)
    call("process_vm_readv", 1, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)()


def take_descriptor() -> None:
    """Copy one of the relay's descriptors."""
    process = os.pidfd_open(1)
    try:
        for number in range(29):
            if outcome(call("pidfd_getfd", process, number, 0)) == "worked":
                return
        call("pidfd_getfd", process, 29, 0)()
    finally:
        os.close(process)


def climb() -> None:
    """Look for a path out of the container through every inherited descriptor."""
    here = os.stat("/")
    for number in os.listdir("/proc/self/fd"):
        try:
            out = os.stat(f"/proc/self/fd/{number}/../../../../../..")
        except OSError:
            continue
        if (out.st_dev, out.st_ino) != (here.st_dev, here.st_ino):
            return
    raise OSError(errno.ENOENT, "none leads out")


def release_agents() -> None:
    """Open the first release agent of a cgroup that can be written, else try to make a cgroup."""
    for folder, _, names in os.walk("/sys/fs/cgroup"):
        if "release_agent" in names and outcome(write(f"{folder}/release_agent")) == "worked":
            return
    os.mkdir("/sys/fs/cgroup/rlm-audit")


def mount_cgroup() -> None:
    """Mount a hierarchy of one's own."""
    os.makedirs("/tmp/cgroup", exist_ok=True)
    call("mount", b"cgroup", b"/tmp/cgroup", b"cgroup", 0, b"memory")()


def shared(trick: Try) -> Try:
    """Return a function that tries a trick in the folder shared with the host, if there is one."""

    def make() -> None:
        if not os.path.isdir("/run/rlm"):
            raise OSError(errno.ENOENT, "no folder is shared")
        trick()

    return make


ATTEMPTS: dict[str, dict[str, Try]] = {
    "namespaces": {
        **{f"a new {name} namespace": in_child(call("unshare", flag)) for name, flag in NEW_NAMESPACE.items()},
        "set the host name": call("sethostname", socket.gethostname().encode(), len(socket.gethostname())),
    },
    "kernel": {
        "add_key": call("add_key", b"user", b"rlm", b"x", 1, -2),
        "keyctl": call("keyctl", 0, -3, 0),
        "request_key": call("request_key", b"user", b"rlm", 0, -2),
        "bpf": call("bpf", 0, 0, 0),
        "perf_event_open": call("perf_event_open", 0, 0, -1, -1, 0),
        "userfaultfd": call("userfaultfd", 0),
        "io_uring_setup": call("io_uring_setup", 1, 0),
        "init_module": call("init_module", 0, 0, b""),
        "finit_module": call("finit_module", -1, b"", 0),
        "delete_module": call("delete_module", b"none", 0),
        "kexec_load": call("kexec_load", 0, 0, 0, 0),
        "open_by_handle_at": call("open_by_handle_at", -100, 0, 0),
        "fanotify_init": call("fanotify_init", 0, 0),
        "quotactl": call("quotactl", 0, 0, 0, 0),
        "acct": call("acct", b"/none"),
        "swapoff": call("swapoff", b"/none"),
        "reboot": call("reboot", 0, 0, 0, 0),
        "clock_settime": call("clock_settime", 0, 0),
        "syslog": call("syslog", 3, ctypes.create_string_buffer(64), 64),
        "iopl": call("iopl", 3),
        "ioperm": call("ioperm", 0, 1, 1),
    },
    "sockets": {
        "raw": open_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "packet": open_socket(socket.AF_PACKET, socket.SOCK_RAW),
        "to the hypervisor": open_socket(40, socket.SOCK_STREAM),
        "of the kernel's cryptography": open_socket(38, socket.SOCK_SEQPACKET),
    },
    "relay": {
        **{
            f"/proc/1/{name}": read(f"/proc/1/{name}")
            for name in ("mem", "environ", "maps", "fd", "root", "cwd", "ns/mnt")
        },
        "ptrace": call("ptrace", 16, 1, 0, 0),
        "process_vm_readv": peek,
        "pidfd_getfd": take_descriptor,
    },
    "descriptors": {"a path out through a descriptor": climb},
    "own-program": {
        "overwrite /proc/self/exe": write("/proc/self/exe", os.O_APPEND),
        "overwrite /proc/1/exe": write("/proc/1/exe", os.O_APPEND),
        "write below /usr": write("/usr/x", os.O_CREAT),
        "write below /etc": write("/etc/x", os.O_CREAT),
        "write below /opt/rlm": write("/opt/rlm/x", os.O_CREAT),
    },
    "cgroup": {"write a release_agent": release_agents, "mount a cgroup": mount_cgroup},
    "knobs": {path: write(path) for path in KNOBS},
    "devices": {
        "make a disk's node": lambda: os.mknod("/tmp/disk", 0o60666, os.makedev(8, 0)),
        "make /dev/mem": lambda: os.mknod("/tmp/mem", 0o20666, os.makedev(1, 1)),
        **{f"open /dev/{name}": read(f"/dev/{name}") for name in DISKS},
    },
    "engine": {path: connect(path) for path in SOCKETS},
    "root": {
        "become root": in_child(lambda: os.setresuid(0, 0, 0)),
        "join the group root": in_child(lambda: os.setgroups([0])),
        "a user map of one's own": in_child(map_users),
    },
    "shared-folder": {
        "a symbolic link": shared(lambda: os.symlink("/etc/passwd", "/run/rlm/link")),
        "a hard link": shared(lambda: os.link("/run/rlm/context", "/run/rlm/hard")),
        "rename the context": shared(lambda: os.rename("/run/rlm/context", "/run/rlm/other")),
        "remove the context": shared(lambda: os.unlink("/run/rlm/context")),
        "make the context writable": shared(lambda: os.chmod("/run/rlm/context", 0o666)),
        "write the context": shared(write("/run/rlm/context")),
        "a socket in the host's place": shared(lambda: socket.socket(socket.AF_UNIX).bind("/run/rlm/stream")),
        "a second connection": shared(connect("/run/rlm/stream")),
    },
    # Last, since what follows a mount that works sees other files.
    "mounts": {
        "mount a tmpfs": call("mount", b"none", b"/tmp", b"tmpfs", 0, 0),
        "mount / again, writable": call("mount", b"none", b"/", 0, MS_REMOUNT | MS_BIND, 0),
        "mount /proc anew": call("mount", b"proc", b"/tmp", b"proc", 0, 0),
        "take a mask off /proc": call("umount2", b"/proc/keys", 2),
        "fsopen": call("fsopen", b"tmpfs", 0),
        "open_tree": call("open_tree", -100, b"/", 1),
        "chroot": in_child(lambda: os.chroot("/tmp")),
        "pivot_root": call("pivot_root", b"/tmp", b"/tmp"),
    },
}

print(json.dumps({group: {name: outcome(what) for name, what in tries.items()} for group, tries in ATTEMPTS.items()}))
