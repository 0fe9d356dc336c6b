"""Runs a command and says, in one JSON line, the most memory it was resident in at once.

A process of its own, and a small one: Linux counts what the parent held when it started a child as
the child's peak.
"""

from __future__ import annotations

import resource
import subprocess
import sys

from benchmarks.contenders.setting import tell

UNIT = 1 if sys.platform == "darwin" else 1024

if __name__ == "__main__":
    done = subprocess.run(sys.argv[1:], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    tell({"bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * UNIT})
