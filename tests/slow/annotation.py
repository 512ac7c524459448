"""An annotation server in a process of its own, with people who are signed in: for the tests that kill it, drive it, or time it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from playwright.sync_api import Page

from posttrain.feedback import accounts
from posttrain.feedback.accounts import Role
from posttrain.feedback.ledger import Ledger

PICTURES = os.environ.get("POSTTRAIN_PICTURES")


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


@dataclass
class Server:
    """`posttrain annotate LEDGER` on a port; `start` again after `kill` is what an operator would do."""

    ledger: Path | str
    port: int
    written: Path | None = None
    process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "posttrain.cli", "annotate", str(self.ledger), "--port", str(self.port)]
        written = self.written or Path(f"{self.ledger}.log")
        log = open(written, "a", encoding="utf-8")  # noqa: SIM115
        self.process = subprocess.Popen(
            [*command, "--no-browser"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        log.close()
        until = time.monotonic() + 120
        while time.monotonic() < until:
            assert self.process.poll() is None, written.read_text(encoding="utf-8")
            try:
                if httpx2.get(f"{self.address}/healthz", timeout=5).status_code == 200:
                    return
            except httpx2.TransportError:
                time.sleep(0.2)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        """kill -9, as an accident would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()


def session(opened: Ledger, name: str, role: Role = "annotator") -> tuple[str, str]:
    """(cookie, CSRF token) of a person of that name."""
    with opened.write() as connection:
        secret = accounts.open_session(connection, accounts.named(connection, name, role).id)
    with opened.read() as connection:
        found = accounts.session_of(connection, secret)
    assert found is not None
    return secret, found.csrf


def picture(page: Page, name: str, **options: Any) -> None:
    """Kept for the docs where POSTTRAIN_PICTURES names a directory."""
    if PICTURES:
        page.screenshot(path=str(Path(PICTURES) / f"{name}.png"), **options)


def sign_in(browser: Any, server: Server, secret: str, **options: Any) -> Page:
    """A page of somebody signed in, 1280 wide. `page.faults` gathers what its console calls an error."""
    wanted = {"viewport": {"width": 1280, "height": 820}, "locale": "en-GB", **options}
    context = browser.new_context(**wanted)
    context.add_cookies([{"name": "posttrain_session", "value": secret, "url": server.address, "httpOnly": True}])
    page: Page = context.new_page()
    page.set_default_timeout(20_000)
    page.faults = []  # type: ignore[attr-defined]
    page.on("pageerror", lambda e: page.faults.append(str(e)))  # type: ignore[attr-defined]
    page.on("console", lambda m: page.faults.append(m.text) if m.type == "error" else None)  # type: ignore[attr-defined]
    return page
