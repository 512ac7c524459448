"""Start the server: on loopback unless TLS or a proxy stands in front."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import uvicorn

SECOND = 1.0
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises ValueError where the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise ValueError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another --port, or 0 for a free one"
        ) from None
    return made


def check_address(host: str, certificate: str | None, behind_proxy: bool) -> None:
    """Passwords never travel in the open: another address than loopback needs TLS, here or in a proxy."""
    if host not in LOOPBACK and certificate is None and not behind_proxy:
        raise ValueError(
            f"{host} is not loopback: give --certificate and --key for TLS, or --behind-proxy if a proxy has it"
        )


def serve(
    app: Any, sock: socket.socket, certificate: str | None = None, key: str | None = None, behind_proxy: bool = False,
    until: Callable[[], bool] | None = None,
) -> None:  # fmt: skip
    """Answer until interrupted, or until `until`, asked every second, says that it is enough."""
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, ssl_certfile=certificate, ssl_keyfile=key,
        proxy_headers=behind_proxy, timeout_graceful_shutdown=3, lifespan="off",
    )  # fmt: skip
    server = uvicorn.Server(config)
    stopped = threading.Event()

    def watch() -> None:
        while until is not None and not stopped.wait(SECOND):
            if until():
                server.should_exit = True
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        server.run(sockets=[sock])
    finally:
        stopped.set()
