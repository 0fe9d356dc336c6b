"""Makes docs/terminal.svg: a real run on a real (pseudo) terminal, drawn as it stood when it was
done.

python docs/terminal.py trainer fit model=cnn data=fashion_mnist
"""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 116


def run_on_terminal(command: list[str]) -> str:
    """What `command` writes to a terminal, control characters included."""
    parent, child = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(WIDTH), "LINES": "40"}
    process = subprocess.Popen(command, stdout=child, stderr=child, stdin=child, env=env)
    os.close(child)
    output = b""
    while True:
        try:
            output += os.read(parent, 65536)
        except OSError:  # the other end is closed
            break
    if process.wait() != 0:
        raise SystemExit(f"{shlex.join(command)} failed:\n{output.decode()}")
    return output.decode()


def lasting_lines(output: str) -> list[str]:
    """The lines that stay when the bar has erased itself; colours are kept."""
    lines = []
    for line in output.replace("\r\n", "\n").split("\n"):
        last = line.split("\r")[-1]
        last = re.sub(r"\x1b\[[0-9;?]*[A-HJKSTfhlnsu]", "", last)
        if "━" not in last:
            lines.append(last)
    return lines


def main() -> None:
    """Run the command given and draw it."""
    command = sys.argv[1:] or ["trainer", "fit", "model=cnn", "data=fashion_mnist"]
    lines = lasting_lines(run_on_terminal(command))
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    shown = [word for word in command if not word.startswith(("data.root=", "run.root="))]
    console.print(Text(f"$ {shlex.join(['trainer', *shown[1:]])}", style="bold"))
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=True)
    Path(__file__).with_name("terminal.svg").write_text(
        console.export_svg(title="trainer"), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
