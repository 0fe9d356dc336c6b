"""Where a part of the system is missing, as on Windows: one sentence and exit code 4."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from commandline import run_python

from trainer.__main__ import main

MISSING = ("fcntl", "resource", "SIGHUP", "SIGUSR1", "pthread_sigmask", "O_NOFOLLOW")
# Everything at once, in a new process: nothing that is imported before the check may need it.
BARE = """
import os, runpy, signal, sys
sys.modules["fcntl"] = sys.modules["resource"] = None
for name in ("SIGHUP", "SIGUSR1", "pthread_sigmask"):
    delattr(signal, name)
del os.O_NOFOLLOW
sys.platform = "win32"
sys.argv = ["trainer", *sys.argv[1:]]
runpy.run_module("trainer", run_name="__main__")
"""


@pytest.mark.parametrize("missing", MISSING)
def test_each_missing_part_is_named(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if missing.islower() and missing != "pthread_sigmask":
        monkeypatch.setitem(sys.modules, missing, None)
    else:
        monkeypatch.delattr(os if missing.startswith("O_") else signal, missing)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert missing in err and "WSL" in err and "notebook" in err
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize("words", [("--help",), ("fit", "model=mlp"), ("runs",)])
def test_every_command_ends_in_a_sentence(words: tuple[str, ...], tmp_path: Path) -> None:
    ran = run_python("-c", BARE, *words, cwd=tmp_path)
    assert (ran.code, ran.out) == (4, ""), ran.err
    assert "this system (win32) has no fcntl, resource, SIGHUP" in ran.err
    assert "Traceback" not in ran.err
