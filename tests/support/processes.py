"""Real processes of trainer that start fast: forked from one that has torch loaded, so that
hundreds can be killed.

What happens in them is what happens in a process started from a shell: `main` runs on its words,
its output goes to files, and a SIGKILL is a SIGKILL.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from running import Outcome
from syncing import wait_for_no_disk
from waiting import HANG_S

from trainer.signals import STOPPING

_CONTEXT = multiprocessing.get_context("forkserver")
# Loaded, but nothing computed: threads of torch would not survive the fork. torch's optimizers
# import _inductor.
_CONTEXT.set_forkserver_preload(
    [
        "hydra.main",
        "torch._inductor",
        "trainer.commands.fit.run",
        "trainer.commands.eval",
        "trainer.tracking.tensorboard.tracker",
        "matplotlib.backends.backend_agg",
        "matplotlib.figure",
    ]
)

# Called in the new process before `main`: how a test arranges what is to go wrong there. It must be
# picklable.
Prepare = Callable[[], None]


class Started:
    """A running `trainer …` in the folder `cwd`."""

    def __init__(self, *argv: str, cwd: Path, prepare: Prepare | None = None) -> None:
        self._logs = cwd / f".out-{os.urandom(4).hex()}", cwd / f".err-{os.urandom(4).hex()}"
        self.process: BaseProcess = _CONTEXT.Process(
            target=_main, args=(argv, cwd, self._logs, prepare)
        )
        self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def err(self) -> str:
        """What it has said on standard error so far."""
        return self._logs[1].read_text(errors="replace") if self._logs[1].exists() else ""

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = HANG_S) -> Outcome:
        """How it ended: a code below 0 is the signal that killed it."""
        self.process.join(timeout)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            self.process.join()
            raise AssertionError(f"still running after {timeout:g} s: {self.err}")
        return Outcome(code, self._logs[0].read_text(errors="replace"), self.err)


def run(*argv: str, cwd: Path, prepare: Prepare | None = None) -> Outcome:
    """`trainer …` in the folder `cwd`, to its end."""
    return Started(*argv, cwd=cwd, prepare=prepare).wait()


def _main(
    argv: tuple[str, ...], cwd: Path, logs: tuple[Path, Path], prepare: Prepare | None
) -> None:
    for path, descriptor in zip(logs, (1, 2), strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), descriptor)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    os.chdir(cwd)
    # Where a sweep ran in the process of the tests before, it began the server, which blocks them.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    import torch

    # Two processes with two threads each slow one another down by an order of magnitude on two
    # cores.
    torch.set_num_threads(1)
    wait_for_no_disk()
    if prepare is not None:
        prepare()
    from trainer.cli.main import main

    main(argv)
