"""A real browser for the slow tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

CHROMIUM = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)


@pytest.fixture
def chromium() -> Iterator[Any]:
    """Debian's Chromium, headless. Without one the test is skipped, but under CI it fails: nobody would notice that it never ran."""
    if CHROMIUM is None:
        why = "no chromium on this machine (apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(f"{why}; CI is set, where this test must run")
        pytest.skip(f"{why}; with CI set this is a failure")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()
