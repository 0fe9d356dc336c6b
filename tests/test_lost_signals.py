"""Signals that end the process outside of training: they are never lost."""

from __future__ import annotations

import subprocess
import sys

import pytest
from waiting import HANG_S

# Where Python ignores an exception.
_IGNORING = {
    "finaliser": """
class Ended:
    def __del__(self):
        send()
Ended()
""",
    "fork": """
os.register_at_fork(after_in_parent=send)
if os.fork() == 0:
    os._exit(0)
""",
    "weak reference": """
import weakref
class Ended:
    pass
ended = Ended()
reference = weakref.ref(ended, lambda _: send())
del ended
""",
}
_PROGRAM = """
import os, signal, time
from trainer.signals import set_signals
def send():
    os.kill(os.getpid(), signal.{name})
    for _ in range(100):
        pass
set_signals()
try:
{ignoring}
    time.sleep({seconds})
finally:
    print("cleaned up", flush=True)
"""


@pytest.mark.process
@pytest.mark.parametrize("where", _IGNORING)
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", -2)])
def test_a_signal_is_not_lost_where_exceptions_are_ignored(
    where: str, name: str, code: int
) -> None:
    ignoring = "\n".join(f"    {line}" for line in _IGNORING[where].splitlines())
    program = _PROGRAM.format(name=name, ignoring=ignoring, seconds=HANG_S)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    # Python itself ends by SIGINT for a KeyboardInterrupt that nobody catches.
    assert (done.returncode, done.stdout) == (code, "cleaned up\n"), done.stderr
    assert "ignored" not in done.stderr
