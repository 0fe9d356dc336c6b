"""A Slurm of one machine in a few lines of shell: sbatch, srun, squeue and scancel for the PATH of
a test.

sbatch keeps what it was given and starts it at once, each element of an array on its own, with the
variables and the log that Slurm would give it. So the way is real up to Slurm's own door. What was
called is in `calls`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

_PROGRAM = """#!{python}
import json, os, pathlib, re, signal, subprocess, sys

state = pathlib.Path({state!r})
name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
with (state / "calls").open("a") as calls:
    print(json.dumps([name, *words]), file=calls)

if name == "sbatch":
    script = pathlib.Path(words[0]).read_text()
    if "--partition=full" in script:
        sys.exit("sbatch: error: invalid partition specified: full")
    number = 100 + len(list(state.glob("*.sh")))
    (state / f"{{number}}.sh").write_text(script)
    array = re.search("--array=0-([0-9]+)", script)
    elements = [str(number)]
    if array:
        elements = [f"{{number}}_{{i}}" for i in range(int(array[1]) + 1)]
    for element in elements:
        own = {{"SLURM_JOB_ID": str(number), "SLURM_CPUS_ON_NODE": "1"}}
        if array:
            own["SLURM_ARRAY_JOB_ID"] = str(number)
            own["SLURM_ARRAY_TASK_ID"] = element.partition("_")[2]
        streams = {{}}
        for key in ("output", "error"):
            path = re.search(f"--{{key}}=(.*)", script)[1]
            path = path.replace("%A_%a", element).replace("%j", element)
            streams[{{"output": "stdout", "error": "stderr"}}[key]] = open(path, "a")
        at = state / element
        # Its end is seen by one who waits for it, as slurmd does.
        job = f"bash {{state / str(number)}}.sh"
        watch = f"{{job}} & echo $! > {{at}}.pid; wait $!; echo $? > {{at}}.code"
        command = ["setsid", "bash", "-c", watch]
        subprocess.Popen(command, env=os.environ | own, stdin=subprocess.DEVNULL, **streams)
    print(f"Submitted batch job {{number}}")
elif name == "squeue":
    for pid in state.glob("*.pid"):
        code = pid.with_suffix(".code")
        if not code.exists():
            print(pid.stem, "RUNNING")
        elif pid.with_suffix(".cancelled").exists():
            print(pid.stem, "CANCELLED")
        else:
            print(pid.stem, "COMPLETED" if code.read_text().strip() == "0" else "FAILED")
elif name == "scancel":
    jobs = [word for word in words if not word.startswith("-")]
    for word in words:
        if word.startswith("--name="):
            line = f"--job-{{word[2:]}}\\n"
            named = [path.stem for path in state.glob("*.sh") if line in path.read_text()]
            pids = [path.stem for path in state.glob("*.pid")]
            jobs += [pid for pid in pids if pid.partition("_")[0] in named]
    for job in jobs:
        if "--signal=TERM" not in words:
            (state / f"{{job}}.cancelled").touch()
        if not (state / f"{{job}}.code").exists():
            os.kill(int((state / f"{{job}}.pid").read_text()), signal.SIGTERM)
"""


class SlurmCommands:
    """The commands, in `folder`/bin; `scripts` are what sbatch was given."""

    def __init__(self, folder: Path) -> None:
        self._state = folder / "state"
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        self._state.mkdir()
        for name in ("sbatch", "srun", "squeue", "scancel"):
            program = self.bin / name
            program.write_text(_PROGRAM.format(python=sys.executable, state=str(self._state)))
            program.chmod(0o755)

    def end(self) -> None:
        """End what a test that failed left running."""
        for pid in self._state.glob("*.pid"):
            if not pid.with_suffix(".code").exists():
                with contextlib.suppress(ProcessLookupError, ValueError):
                    os.kill(int(pid.read_text()), signal.SIGKILL)

    @property
    def scripts(self) -> list[str]:
        return [path.read_text() for path in sorted(self._state.glob("*.sh"))]

    @property
    def calls(self) -> list[list[str]]:
        """Every command that was called, with its words."""
        path = self._state / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
