"""The wheel: it holds the YAML, and works in an empty folder without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_folder(tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--outdir",
        str(tmp_path / "dist"),
        str(ROOT),
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        shipped = {
            name.removeprefix("trainer/")
            for name in archive.namelist()
            if name.startswith("trainer/configs/")
        }
        for name in archive.namelist():
            archive.extract(name, site)
    assert shipped == {str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.yaml")}
    env = {**os.environ, "PYTHONPATH": str(site)}

    def run(*argv: str) -> str:
        command = [sys.executable, "-m", *argv]
        done = subprocess.run(
            command, cwd=empty, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run(
        [sys.executable, "-c", "import trainer; print(trainer.__file__)"],
        cwd=empty,
        env=env,
        capture_output=True,
        text=True,
    )
    assert where.stdout.startswith(str(site)), "the checkout is not what runs"
    assert "optimizer.lr" in run("trainer", "fit", "--help")
    assert "y = 2.0000 x + 1.0000" in run("trainer", "fit", "experiment=line")
    assert "loss" in run("trainer", "eval", "ckpt=last")
