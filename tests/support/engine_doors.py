"""Other ways to the engine than its socket: TCP, TCP with TLS and client certificates, and ssh."""

from __future__ import annotations

import asyncio
import getpass
import os
import pwd
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support.engine_proxy import ENGINE_SOCKET

SSHD = Path("/usr/sbin/sshd")


@asynccontextmanager
async def tcp_door(tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Forward connections on a port of this host to the engine. Yield `127.0.0.1:PORT`."""
    serving: dict[asyncio.Task[Any] | None, asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engine_reader, engine_writer = await asyncio.open_unix_connection(ENGINE_SOCKET)
        serving[asyncio.current_task()] = engine_writer
        await asyncio.gather(_pass_on(reader, engine_writer), _pass_on(engine_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for writer in serving.values():
        writer.close()
    await asyncio.gather(*(task for task in serving if task is not None))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def make_certificates(folder: Path) -> ssl.SSLContext:
    """Write ca.pem, cert.pem and key.pem, as Docker's client wants them, and return what a server needs for them."""
    folder.mkdir(parents=True)
    authority = ["-CA", "ca.pem", "-CAkey", "ca-key.pem"]
    _openssl(folder, "ca", "ca-key", "/CN=test authority", [])
    _openssl(folder, "server", "server-key", "/CN=localhost", ["-addext", "subjectAltName=IP:127.0.0.1", *authority])
    _openssl(folder, "cert", "key", "/CN=client", authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server-key.pem")
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _openssl(folder: Path, name: str, key: str, subject: str, options: list[str]) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", subject]
    command += ["-keyout", f"{key}.pem", "-out", f"{name}.pem", *options]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@contextmanager
def ssh_door(folder: Path) -> Iterator[str]:
    """Run an sshd that lets this user in with a new key. Yield `user@host:port` for an `ssh` that uses `folder/bin`.

    `ssh` reads the home that the system says, whatever HOME is, so a program `ssh` is put in front of the real one.
    """
    folder.mkdir(parents=True)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    port = _free_port()
    (folder / "authorized").write_text((folder / "user.pub").read_text())
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
    )
    (folder / "ssh_config").write_text(
        f"Host *\n  IdentityFile {folder}/user\n  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known\n"
        "  GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n"
    )
    (folder / "bin").mkdir()
    program = folder / "bin" / "ssh"
    program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
    program.chmod(0o755)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with subprocess.Popen(
        [SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr is not None
            assert "Server listening" in server.stderr.readline()
            yield f"{getpass.getuser() or pwd.getpwuid(os.getuid()).pw_name}@127.0.0.1:{port}"
        finally:
            server.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
