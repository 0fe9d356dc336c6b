"""Waiting for what another process does; the time limit only ends a test that hangs."""

from __future__ import annotations

import time
from collections.abc import Callable

# Far more than a slow machine needs that runs other tests beside this one.
HANG_S = 120.0


def wait_until(is_so: Callable[[], object], *, seconds: float = HANG_S) -> None:
    """Return once `is_so()` is true; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not so after {seconds:g} s"
        time.sleep(0.02)
