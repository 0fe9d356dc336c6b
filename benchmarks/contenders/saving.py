"""`trainer fit` on the words it is given, with a clock on every save: prints, in one JSON line,
what each one took.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from trainer.checkpoint.store import CheckpointStore
from trainer.cli.main import main

PREFIX = "saves: "


def _timed(
    function: Callable[..., Any], clock: Callable[[], float], seconds: list[float]
) -> Callable[..., Any]:
    def timed(*arguments: Any, **options: Any) -> Any:
        start = clock()
        try:
            return function(*arguments, **options)
        finally:
            seconds.append(clock() - start)

    return timed


if __name__ == "__main__":
    copying: list[float] = []
    beside: list[float] = []
    # The copy of the state, by the clock on the wall; the writing beside the training, by the CPU
    # time of its thread.
    CheckpointStore.save = _timed(CheckpointStore.save, time.perf_counter, copying)  # type: ignore[method-assign]
    CheckpointStore._write = _timed(CheckpointStore._write, time.thread_time, beside)  # type: ignore[method-assign]
    try:
        main(sys.argv[1:])
    finally:
        sys.stdout.write(f"{PREFIX}{json.dumps({'held': copying, 'beside': beside})}\n")
