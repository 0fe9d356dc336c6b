"""`trainer` on the words it is given, with a clock on its steps and on its logger.

It prints the seconds of each window between two records, and those that were spent in the logger's
calls meanwhile.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from typing import Any

from benchmarks.contenders.setting import READ_EVERY
from trainer.cli.main import main
from trainer.engine.step import Step
from trainer.tracking import FailSafeTracker

PREFIX = "windows: "

if __name__ == "__main__":
    ends: list[float] = []
    plain = Step.__call__

    def timed(step: Step, *arguments: Any, **options: Any) -> None:
        plain(step, *arguments, **options)
        ends.append(time.perf_counter())

    logging = 0.0

    def counted(name: str) -> Any:
        call = getattr(FailSafeTracker, name)

        def watched(*arguments: Any) -> Any:
            global logging
            start = time.perf_counter()
            result = call(*arguments)
            if len(ends) >= READ_EVERY:
                logging += time.perf_counter() - start
            return result

        return watched

    Step.__call__ = timed  # type: ignore[method-assign, assignment]
    for name in ("record", "update", "wants_update"):  # all that is called between two steps
        setattr(FailSafeTracker, name, counted(name))
    try:
        main(sys.argv[1:])
    finally:
        # From the step before a record to the step before the next: each window contains one record
        # in full.
        marks = ends[READ_EVERY - 1 :: READ_EVERY]
        seconds = [end - start for start, end in itertools.pairwise(marks)]
        sys.stdout.write(f"{PREFIX}{json.dumps({'windows': seconds, 'logging': logging})}\n")
