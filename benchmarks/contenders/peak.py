"""Runs a command and prints, in one JSON line, the most memory it was resident in at once.

In a separate small process: Linux counts what the parent was resident in when it started a child
as the child's peak.
"""

from __future__ import annotations

import resource
import subprocess
import sys

from benchmarks.contenders.setting import print_result

UNIT = 1 if sys.platform == "darwin" else 1024

if __name__ == "__main__":
    done = subprocess.run(sys.argv[1:], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    print_result({"bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * UNIT})
