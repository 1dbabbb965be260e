"""Servers from Debian that know nothing of van, each on a port of its own: PostgreSQL, Redis, nginx.

Responsible for: finding the programs (and saying in one line what is missing), starting, waiting until they answer, and
ending them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.interop.harness import PATIENCE, Program, missing
from tests.ports import free_port


def find(program: str, package: str) -> str:
    """Where a program is; else the test is skipped, or fails where everything has to be there."""
    found = shutil.which(program)
    if found is None:
        missing(f"{program} (Debian's {package}) is not installed")
    return found


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def wait_until_listening(port: int, program: Program | None = None) -> None:
    """Wait until somebody listens on a port."""
    end = time.monotonic() + PATIENCE
    while not answers(port):
        assert program is None or program.running, "\n".join(program.errors[-20:])
        assert time.monotonic() < end, f"nobody listens on {port}"
        time.sleep(0.02)


def end_in_order(program: Program, number: signal.Signals = signal.SIGTERM) -> None:
    """End a server as its operator would."""
    program.signal(number)
    with contextlib.suppress(BaseException):
        program.output(None)
    program.kill()


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[int]:
    """A PostgreSQL with a database `postgres` and a user of that name, who needs no password. Gives its port."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        missing("PostgreSQL (Debian's postgresql) is not installed")
    programs = found[-1].parent
    # It refuses to be run by root.
    as_postgres = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--"]
    other = as_postgres if os.geteuid() == 0 else []
    data = folder / "postgres"
    data.mkdir()
    if other:
        shutil.chown(data, "postgres")
        # pytest makes its folders for their owner alone.
        for above in data.parents:
            if above == Path(tempfile.gettempdir()):
                break
            above.chmod(0o755)
    made = subprocess.run(
        [*other, str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "--no-sync"],
        capture_output=True,
        text=True,
        cwd="/",
        timeout=60,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    port = free_port()
    options = ["-D", str(data), "-p", str(port), "-k", "", "-h", "127.0.0.1", "-F"]
    program = Program([*other, str(programs / "postgres"), *options], folder=Path("/"))
    try:
        wait_until_listening(port, program)
        ready = [str(programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(port)]
        end = time.monotonic() + PATIENCE
        while subprocess.run(ready, capture_output=True, check=False, timeout=PATIENCE).returncode:
            assert time.monotonic() < end, "\n".join(program.errors[-20:])
            time.sleep(0.05)
        yield port
    finally:
        end_in_order(program, signal.SIGINT)


@contextlib.contextmanager
def redis() -> Iterator[int]:
    """A Redis that keeps nothing. Gives its port."""
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"]
    program = Program([find("redis-server", "redis-server"), *options], folder=Path("/tmp"))
    try:
        wait_until_listening(port, program)
        yield port
    finally:
        end_in_order(program)


NGINX = """
daemon off;
{user}
worker_processes 1;
error_log stderr;
pid {folder}/nginx.pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    server {{
        listen 127.0.0.1:{port}{version};
        location = /hello {{ return 200 "hello from {name}\\n"; }}
        location / {{ root {folder}/files; dav_methods PUT; }}
    }}
}}
"""


@contextlib.contextmanager
def nginx(folder: Path, name: str, *, http2: bool = False) -> Iterator[int]:
    """An nginx that says hello, serves `folder/files` and takes files there by PUT. Gives its port.

    http2: it speaks HTTP/2 there, without TLS, and nothing else.
    """
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None:
        missing("nginx (Debian's nginx-light) is not installed")
    files = folder / "files"
    files.mkdir(parents=True)
    # Else its worker is another user, who may not look into our folders.
    user = "user root;" if os.geteuid() == 0 else ""
    port = free_port()
    configuration = folder / "nginx.conf"
    version = " http2" if http2 else ""
    configuration.write_text(NGINX.format(folder=folder, port=port, name=name, user=user, version=version))
    program = Program([found, "-p", str(folder), "-c", str(configuration), "-e", "stderr"])
    try:
        wait_until_listening(port, program)
        yield port
    finally:
        end_in_order(program)
