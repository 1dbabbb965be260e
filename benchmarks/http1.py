"""HTTP/1.1 beside nginx as a plain proxy: requests a second, the median, and CPU of a request, measured in turns.

    python benchmarks/http1.py [--seconds 5] [--connections 16] [--rounds 3]

Wants `nginx` and `wrk` (Debian has both). The server is an nginx with a file of 100 octets; in front of it another
nginx as a proxy that keeps its connections, one van router, or two with a connection between.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NGINX = """
worker_processes 1;
daemon off;
error_log stderr crit;
pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  {rest}
}}
"""
SERVER = "server {{ listen 127.0.0.1:{port}; root {folder}; }}"
PROXY = """
  upstream server {{ server 127.0.0.1:{behind}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://server; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header Forwarded "for=$remote_addr";
    }}
  }}
"""
LISTEN = '[[service]]\nlisten = "http://127.0.0.1:{port}"\naddress = "web"\n'
CONNECT = '[[service]]\nconnect = "http://127.0.0.1:{behind}"\naddress = "web"\n'
ROUTER = '[router]\nid = "{name}"\nmode = "interior"\n'
JOIN = '[[{kind}]]\nurl = "amqp://127.0.0.1:{port}"\nrole = "inter-router"\n'
TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def nginx(folder: Path, name: str, rest: str) -> subprocess.Popen[bytes]:
    place = folder / name
    place.mkdir()
    config = place / "nginx.conf"
    config.write_text(NGINX.format(folder=place, rest=rest))
    return subprocess.Popen(["nginx", "-c", str(config)], stderr=subprocess.DEVNULL)


def router(folder: Path, name: str, text: str) -> subprocess.Popen[bytes]:
    site = folder / f"{name}.toml"
    site.write_text(ROUTER.format(name=name) + text)
    return subprocess.Popen([sys.executable, "-m", "van.router", str(site)], stderr=subprocess.DEVNULL)


def answers(port: int) -> None:
    """Wait until requests are served."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as sock:
                sock.sendall(b"GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if b" 200 " in sock.recv(100):
                    return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"nobody answers on port {port}")


def cpu_seconds(processes: list[subprocess.Popen[bytes]]) -> float:
    """User and system time of processes and their children."""
    pids = [process.pid for process in processes]
    for pid in list(pids):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        pids += [int(child) for child in children.split()]
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def measure(port: int, processes: list[subprocess.Popen[bytes]], seconds: float, connections: int) -> tuple[float, ...]:
    """Requests a second, their median in microseconds, CPU microseconds of one."""
    before = cpu_seconds(processes)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", f"http://127.0.0.1:{port}/file"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    spent = cpu_seconds(processes) - before
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(said)
    requests = int(re.findall(r"(\d+) requests in", said)[0])
    rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0])
    median, unit = re.findall(r"50%\s+([\d.]+)(us|ms|s)", said)[0]
    return rate, float(median) * {"us": 1, "ms": 1e3, "s": 1e6}[unit], spent / requests * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for program in ("nginx", "wrk"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not installed")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # nginx's workers are nobody's.
        folder.chmod(0o755)
        (folder / "file").write_bytes(b"x" * 100)
        behind, proxy, one, two, meeting = (free_port() for _ in range(5))
        started: list[subprocess.Popen[bytes]] = []
        try:
            started.append(nginx(folder, "server", SERVER.format(port=behind, folder=folder)))
            rows = {
                "nginx": (proxy, [nginx(folder, "proxy", PROXY.format(port=proxy, behind=behind))]),
                "van, one router": (
                    one,
                    [router(folder, "one", LISTEN.format(port=one) + CONNECT.format(behind=behind))],
                ),
                "van, two routers": (
                    two,
                    [
                        router(folder, "near", JOIN.format(kind="listener", port=meeting) + LISTEN.format(port=two)),
                        router(
                            folder, "far", JOIN.format(kind="connector", port=meeting) + CONNECT.format(behind=behind)
                        ),
                    ],
                ),
            }
            for port, processes in rows.values():
                started += processes
                answers(port)
            found: dict[str, list[tuple[float, ...]]] = {name: [] for name in rows}
            for _ in range(options.rounds):
                for name, (port, processes) in rows.items():
                    found[name].append(measure(port, processes, options.seconds, options.connections))
            print(f"{options.connections} connections, medians of {options.rounds} rounds of {options.seconds:g} s")
            for name, rounds in found.items():
                rate, median, cpu = (statistics.median(values) for values in zip(*rounds, strict=True))
                print(f"{name:18} {rate:8.0f} requests/s   p50 {median:7.0f} us   CPU {cpu:6.1f} us a request")
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(10)


if __name__ == "__main__":
    main()
