"""Many wrong commands, one after another in a single new process, and the rules for each."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from commandline import Ran, run_python

_DRIVER = """
import contextlib, io, json, sys
from pathlib import Path
from trainer.cli.main import main

for words in json.load(sys.stdin):
    before = set(Path().rglob("*"))
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        try:
            main(words)
        except SystemExit as ended:
            code = ended.code
    texts = [stream.seek(0) or stream.read() for stream in streams]
    made = sorted(map(str, set(Path().rglob("*")) - before))
    print(json.dumps([code, *texts, made, "torch" in sys.modules]))
"""


@dataclass(frozen=True)
class Outcome:
    """How a command ended, what it said and made, and whether torch was loaded by then."""

    ran: Ran
    made: list[str]
    has_torch: bool


def run_commands(commands: Iterable[str], folder: Path) -> dict[str, Outcome]:
    """How each of `commands`, the words after `trainer`, ends in `folder`."""
    commands = list(commands)
    words = [shlex.split(command) for command in commands]
    done = run_python("-c", _DRIVER, cwd=folder, text=json.dumps(words))
    assert done.code == 0, done.err
    found = {}
    for command, line in zip(commands, done.out.splitlines(), strict=True):
        code, out, err, made, has_torch = json.loads(line)
        found[command] = Outcome(Ran(code, out, err), made, has_torch)
    return found


def check(ran: Ran, code: int, words: tuple[str, ...]) -> None:
    """The rules for every wrong command."""
    assert ran.code == code, ran.err
    assert ran.out == ""
    assert 1 <= len(ran.err.splitlines()) <= 3, ran.err
    assert "Traceback" not in ran.err
    assert "fault of trainer" not in ran.err
    assert [word for word in words if word not in ran.err] == [], ran.err
