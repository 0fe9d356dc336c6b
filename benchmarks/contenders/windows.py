"""`trainer` on the words it is given, with a clock on its steps: the seconds of each window between two records."""

from __future__ import annotations

import itertools
import json
import sys
import time
from typing import Any

from benchmarks.contenders.setting import READ_EVERY
from trainer.cli import main
from trainer.engine.step import Step

SAYS = "windows: "

if __name__ == "__main__":
    ends: list[float] = []
    plain = Step.__call__

    def timed(step: Step, *arguments: Any, **options: Any) -> None:
        plain(step, *arguments, **options)
        ends.append(time.perf_counter())

    Step.__call__ = timed  # type: ignore[method-assign, assignment]
    try:
        main(sys.argv[1:])
    finally:
        # From the step before a record to the step before the next: each window holds one record in full.
        marks = ends[READ_EVERY - 1 :: READ_EVERY]
        seconds = [end - start for start, end in itertools.pairwise(marks)]
        sys.stdout.write(f"{SAYS}{json.dumps(seconds)}\n")
