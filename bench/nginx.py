"""nginx with one worker on loopback, with its own configuration, for as long as it is needed."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trustme

from bench.machine import PATH
from bench.site import TINY

HOSTS: Final = tuple(f"127.0.0.{number}" for number in range(2, 22))
_ATTEMPTS: Final = 5
_PATIENCE: Final = 10.0

_CONFIGURATION: Final = """\
{user}worker_processes 1;
worker_rlimit_nofile 8192;
pid {prefix}/nginx.pid;
error_log {prefix}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    default_type application/octet-stream;
    client_body_temp_path {prefix}/client; proxy_temp_path {prefix}/proxy; fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi; scgi_temp_path {prefix}/scgi;
    log_format times "$msec";
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    server {{
{listens}
        ssl_certificate {prefix}/server.pem;
        ssl_certificate_key {prefix}/server.pem;
        ssl_protocols TLSv1.3;
        root {root};
        location /{tiny}/ {{ access_log {prefix}/access.log times; return 200 "$uri\\n"; }}
    }}
}}
"""


class ServerError(Exception):
    """The server is missing or does not start."""


@dataclass(frozen=True, slots=True)
class Nginx:
    """A server that runs: its ports, what to trust for TLS, and the log of the tiny bodies."""

    plain: int
    tls: int
    ca_file: Path
    log: Path

    def url(self, path: str, *, host: str = "127.0.0.1", tls: bool = False) -> str:
        """The URL of a path, which starts without a slash."""
        return f"https://{host}:{self.tls}/{path}" if tls else f"http://{host}:{self.plain}/{path}"


@contextmanager
def serving(root: Path, prefix: Path) -> Iterator[Nginx]:
    """Serve ``root`` on free ports of 127.0.0.1, and without TLS of ``HOSTS``, until the end of the block.

    Everything that nginx writes goes to ``prefix``, which is made. Raises ServerError.
    """
    program = shutil.which("nginx", path=PATH)
    if program is None:
        raise ServerError("nginx is missing; install the package nginx (Debian: apt install nginx)")
    prefix.mkdir()
    _certify(prefix)
    for _ in range(_ATTEMPTS):
        server = Nginx(_free_port(), _free_port(), prefix / "ca.pem", prefix / "access.log")
        _configure(server, root, prefix)
        process = subprocess.Popen(
            [program, "-p", prefix, "-c", prefix / "nginx.conf", "-e", prefix / "error.log", "-g", "daemon off;"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            if _answers(server, process):
                yield server
                return
        finally:
            _stop(process)
    raise ServerError(f"nginx does not start: {(prefix / 'error.log').read_text()[-500:]}")


def _certify(prefix: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(prefix / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(prefix / "server.pem"))


def _configure(server: Nginx, root: Path, prefix: Path) -> None:
    listens = [f"{host}:{server.plain} backlog=4096" for host in ("127.0.0.1", *HOSTS)]
    listens.append(f"127.0.0.1:{server.tls} ssl backlog=4096")
    # Started by root, its worker would be another user, who cannot read a private folder.
    user = f"user {pwd.getpwuid(0).pw_name};\n" if os.geteuid() == 0 else ""
    (prefix / "nginx.conf").write_text(
        _CONFIGURATION.format(
            user=user,
            prefix=prefix,
            root=root,
            tiny=TINY,
            listens="\n".join(f"        listen {listen};" for listen in listens),
        )
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _answers(server: Nginx, process: subprocess.Popen[bytes]) -> bool:
    """Whether it listens before it ends or ``_PATIENCE`` is over."""
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", server.plain), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return True
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
