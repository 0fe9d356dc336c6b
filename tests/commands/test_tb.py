"""`trainer tb`: a real server on the runs that were asked for, on this machine alone, and
nothing left of it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorboard
from commandline import ROOT, quiet_environment, run_trainer, trainer_main
from running import SMALL
from signalling import processes_of
from waiting import HANG_S, wait_until

from trainer.cli.arguments import Arguments
from trainer.cli.verbs import VERBS
from trainer.commands.tb import PINNED, pinned, short_names
from trainer.tracking.event_files import event_files

NAMES = {
    "first": "runs/2026-01-01/10-00-00-mlp",
    "second": "runs/2026-01-01/10-05-00-mlp",
    "sweep": "swept",
}
# Says at its end what it has loaded.
WITHOUT_TORCH = """
import sys
from trainer.cli.main import main
try:
    main()
finally:
    print("loaded:", sorted({"torch", "torchvision", "hydra"} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs on one day, the newest run, which is called `newest`, and a sweep
    of two; not changed.
    """
    folder = tmp_path_factory.mktemp("trained")
    small = (*SMALL, "trainer.epochs=1")
    jobs = (
        (f"run.dir={NAMES['first']}",),
        ("-m", "run.dir=swept", "seed=0,1"),
        ("run.dir=silent", "logger=none"),
        ("run.dir=runs/2026-01-02/newest",),
    )
    for words in jobs:
        ran = trainer_main("fit", *small, *words, cwd=folder)
        assert ran.code == 0, ran.err
    shutil.copytree(folder / NAMES["first"], folder / NAMES["second"], symlinks=True)
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("notes")
    return folder


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Served:
    """A real `trainer tb …`, started as from a shell: it leads a session, and has a folder for
    temporary files.
    """

    def __init__(self, *words: str, cwd: Path, python: tuple[str, ...] = ("-m", "trainer")) -> None:
        self.port = free_port()
        self.temporary = Path(tempfile.mkdtemp(dir=cwd.parent))
        self._process = subprocess.Popen(
            [sys.executable, *python, "tb", *words, f"port={self.port}"],
            cwd=cwd,
            env=quiet_environment(cwd.parent, {"TMPDIR": str(self.temporary)}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @property
    def session(self) -> int:
        return self._process.pid

    @property
    def links(self) -> list[Path]:
        return list(self.temporary.glob("trainer-tb-*"))

    def told(self) -> dict[str, str]:
        """What it says once it serves: the rows of its block."""
        assert self._process.stdout is not None
        rows = {}
        while "to stop" not in rows:
            line = self._process.stdout.readline()
            assert line, self._process.communicate()[1]
            name, _, value = line.strip().partition("  ")
            rows[name] = value.strip()
        return rows

    def ask(self, path: str) -> Any:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.port}/{path}", timeout=HANG_S
        ) as answer:
            return json.load(answer)

    def signal(self, number: int, *, to_all: bool = False) -> None:
        """`to_all` is what a terminal does."""
        (os.killpg if to_all else os.kill)(self.session, number)

    def wait(self) -> tuple[int, str, str]:
        """Its exit code, and what it has said since."""
        out, err = self._process.communicate(timeout=HANG_S)
        return self._process.returncode, out, err

    def end(self) -> None:
        if self._process.poll() is None:
            os.killpg(self.session, signal.SIGKILL)
        self._process.communicate()


Serve = Callable[..., Served]


@pytest.fixture
def serve(trained: Path) -> Iterator[Serve]:
    """`serve("last")` starts `trainer tb last` beside the runs."""
    started: list[Served] = []

    def start(
        *words: str, cwd: Path = trained, python: tuple[str, ...] = ("-m", "trainer")
    ) -> Served:
        started.append(Served(*words, cwd=cwd, python=python))
        return started[-1]

    yield start
    for served in started:
        served.end()


DAY = ("2026-01-01/10-00-00-mlp", "2026-01-01/10-05-00-mlp", "2026-01-02/newest")
SHOWN: dict[str, tuple[str, ...]] = {
    "": DAY,
    "runs": DAY,
    "runs/2026-01-01": ("10-00-00-mlp", "10-05-00-mlp"),
    "run.root=swept": ("000-dirichlet-mlp-seed0", "001-dirichlet-mlp-seed1"),
    "last": ("newest",),
    NAMES["first"]: ("mlp",),
    f"{NAMES['first']}/ {NAMES['second']} last": ("10-00-00-mlp", "10-05-00-mlp", "newest"),
    f"last {NAMES['first']} runs/2026-01-02/newest": ("newest", "mlp"),
    "swept": ("000-dirichlet-mlp-seed0", "001-dirichlet-mlp-seed1"),
    "swept last": ("swept/000-dirichlet-mlp-seed0", "swept/001-dirichlet-mlp-seed1", "newest"),
}


@pytest.mark.parametrize("words", SHOWN)
def test_what_is_shown_and_by_which_names(words: str, serve: Serve) -> None:
    served = serve(*words.split())
    told = served.told()
    assert told["address"] == f"http://localhost:{served.port}/"
    assert told["pinned"] == pinned(told["address"])
    wait_until(lambda: set(served.ask("data/runs")) == set(SHOWN[words]))
    wait_until(lambda: set(served.ask("data/plugin/scalars/tags")) == set(SHOWN[words]))
    assert all(set(PINNED) <= set(tags) for tags in served.ask("data/plugin/scalars/tags").values())
    served.signal(signal.SIGINT, to_all=True)
    assert served.wait() == (0, "Stopped.\n", "")
    assert list(served.temporary.iterdir()) == []


def test_the_loader_in_python_follows_the_links_too(serve: Serve, trained: Path) -> None:
    """It is the one that is used where there is no data server: a machine it was not built for."""
    without = (
        "import sys; sys.modules['tensorboard_data_server'] = None; "
        "from trainer.cli.main import main; main()"
    )
    served = serve("last", "swept", python=("-c", without))
    served.told()
    names = {"newest", "swept/000-dirichlet-mlp-seed0", "swept/001-dirichlet-mlp-seed1"}
    wait_until(lambda: set(served.ask("data/runs")) == names)
    assert len(processes_of(served.session)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("runs/2026-01-01",)])
def test_runs_that_are_still_to_come_are_shown(
    words: tuple[str, ...], serve: Serve, trained: Path, tmp_path: Path
) -> None:
    day = tmp_path / "cwd" / "runs" / "2026-01-01"
    shutil.copytree(trained / NAMES["first"], day / "one", symlinks=True)
    served = serve(*words, cwd=tmp_path / "cwd")
    served.told()
    shutil.copytree(trained / NAMES["first"], day / "two", symlinks=True)
    wait_until(lambda: len(served.ask("data/runs")) > 1)
    assert {Path(name).name for name in served.ask("data/runs")} == {"one", "two"}


def test_a_run_need_not_have_a_checkpoint_to_be_the_newest(
    serve: Serve, trained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "cwd" / "runs" / "day" / "begun"
    shutil.copytree(trained / "runs" / "2026-01-02", run.parent, symlinks=True)
    run.mkdir()
    record = json.loads((run.parent / "newest" / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "started": "2100-01-01T00:00:00+00:00"}))
    shutil.copy(event_files(run.parent / "newest")[0], run)
    assert serve("last", cwd=tmp_path / "cwd").told()["runs"] == "begun"


def listening(session: int) -> set[str]:
    """The addresses, in hexadecimal, on which the processes of a session listen."""
    sockets = set()
    for process in processes_of(session):
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            sockets.update(re.findall(r"socket:\[(\d+)\]", str(descriptor.readlink())))
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()
    ]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in sockets}


def test_it_listens_on_this_machine_alone(serve: Serve) -> None:
    served = serve()
    served.told()
    assert listening(served.session) == {"0100007F"}, "127.0.0.1, also of the data server"


def test_torch_is_not_loaded(serve: Serve) -> None:
    served = serve("last", python=("-c", WITHOUT_TORCH))
    served.told()
    served.ask("data/runs")
    served.signal(signal.SIGINT)
    assert served.wait() == (0, "Stopped.\nloaded: []\n", "")


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["INT", "TERM", "HUP"],
)
def test_a_signal_ends_it_and_nothing_is_left(
    number: int, code: int, serve: Serve, trained: Path
) -> None:
    before = sorted(trained.rglob("*"))
    served = serve(NAMES["first"], "swept")
    served.told()
    assert {path.name for path in served.links[0].iterdir()} == {"mlp", "swept"}
    served.signal(number)
    assert served.wait() == (code, "Stopped.\n" if code == 0 else "", "")
    assert list(served.temporary.iterdir()) == []
    assert sorted(trained.rglob("*")) == before
    wait_until(lambda: not processes_of(served.session))


@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_while_it_starts_leaves_nothing_either(times: int, serve: Serve) -> None:
    served = serve("last")
    wait_until(lambda: served.links)
    for _ in range(times):
        served.signal(signal.SIGTERM)
        time.sleep(0.1)  # two at once are one; its data server takes five times as long
    code, _, err = served.wait()
    assert (code, err) == (143, "")
    assert served.links == []
    wait_until(lambda: not processes_of(served.session))


def test_a_reader_that_goes_away_ends_it(trained: Path, tmp_path: Path) -> None:
    command = (
        f"{sys.executable} -m trainer tb last port={free_port()} | true; echo ${{PIPESTATUS[0]}}"
    )
    environment = quiet_environment(tmp_path, {"TMPDIR": str(tmp_path)})
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=trained,
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("141\n", "")
    assert list(tmp_path.glob("trainer-tb-*")) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])
def test_a_port_that_is_taken(host: str, trained: Path, serve: Serve) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as other:
        try:
            other.bind((host, 0))
        except OSError:
            pytest.skip(f"{host} is no address here")
        other.listen()
        port = int(other.getsockname()[1])
        ran = run_trainer("tb", "last", "run.root=runs/2026-01-01/..", f"port={port}", cwd=trained)
        assert (ran.code, ran.out) == (4, "")
        assert len(ran.err.splitlines()) == 3
        assert ran.err.startswith(f"Error: Port {port} is taken")
        assert f"http://localhost:{port}/" in ran.err
        [command] = re.findall(r": python -m trainer tb (.*)$", ran.err, re.MULTILINE)
        arguments = Arguments.parse(VERBS["tb"], shlex.split(command))
        free = int(arguments.values["port"])
        assert (arguments.words, arguments.root) == (["last"], Path("runs/2026-01-01/.."))
        with socket.socket() as ours:
            ours.bind(("127.0.0.1", free))


@pytest.mark.parametrize("wanted", ["tensorboard", "pkg_resources"])
def test_without_tensorboard(wanted: str, trained: Path, tmp_path: Path) -> None:
    shadow = tmp_path / "tensorboard"
    shadow.mkdir()
    (shadow / "__init__.py").write_text(
        f"raise ModuleNotFoundError('No module named {wanted}', name={wanted!r})"
    )
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    ran = run_trainer("tb", "last", f"port={free_port()}", cwd=trained, env={"PYTHONPATH": path})
    assert (ran.code, ran.out) == (4, "")
    if wanted == "tensorboard":
        assert (
            ran.err == "Error: TensorBoard is not installed.\nInstall it: pip install tensorboard\n"
        )
    else:
        assert (
            "cannot be loaded" in ran.err
            and "pkg_resources" in ran.err
            and "pip install" in ran.err
        )


NOTHING_TO_SHOW: dict[str, tuple[str, ...]] = {
    "silent": ("silent holds no records for TensorBoard", "logger=none"),
    "last silent": ("silent holds no records for TensorBoard",),
    "run.root=quiet": ("The runs in quiet hold no records for TensorBoard",),
    "run.root=empty": ("There is no run in empty", "trainer fit"),
    "run.root=emtpy": ("There is no run in emtpy", "Did you mean empty?"),
    "last run.root=empty": ("There is no run in empty",),
    "empty": ("empty is not a run folder", "the word last"),
    "notes.txt": ("notes.txt is not a run folder", "the word last"),
    "runs/2026-01-01/10-00-00-ml": ("does not exist", "Did you mean runs/2026-01-01/10-00-00-mlp?"),
    "sweptt": ("sweptt does not exist", "Did you mean swept?"),
    "lats": ("Did you mean last?",),
    "6007": ("6007 does not exist", "Did you mean port=6007?"),
    "x" * 300: ("x does not exist", "the word last"),
    f"{NAMES['first']}/checkpoints/last": (f"trainer tb {NAMES['first']}",),
    f"{NAMES['first']}/checkpoints": (f"trainer tb {NAMES['first']}",),
}


@pytest.mark.parametrize("words", NOTHING_TO_SHOW, ids=lambda words: words[:40])
def test_nothing_is_started_where_there_is_nothing_to_show(
    words: str, trained: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cwd"
    shutil.copytree(trained, folder, symlinks=True)
    shutil.copytree(folder / "silent", folder / "quiet" / "day" / "silent", symlinks=True)
    ran = trainer_main("tb", *words.split(), cwd=folder)
    assert (ran.code, ran.out) == (3, "")
    assert len(ran.err.splitlines()) <= 3
    assert [
        part for part in NOTHING_TO_SHOW[words] if part not in ran.err.replace(f"{folder}/", "")
    ] == []


def test_short_names_are_the_shortest_that_are_their_own(tmp_path: Path) -> None:
    names = {
        "a/10-00-00-cnn": "cnn",
        "a/10-00-00-mlp": "a-10-00-00-mlp",
        "b/10-00-00-mlp": "b-10-00-00-mlp",
        "b/10-30-00-mlp": "10-30-00-mlp",
        "b/mlp": "mlp",
        "b/10-00-00-": "10-00-00-",
        "c/x/1": "x-1",
        "c/y/1": "y-1",
        # Of one name in folders of one name: a number.
        "d/z/2": "2-2",
        "e/z/2": "2-3",
    }
    given = [tmp_path / path for path in names]
    assert short_names([*given, given[0]]) == {
        name: tmp_path / path for path, name in names.items()
    }


def test_the_pinned_address_is_the_one_that_the_page_reads() -> None:
    parts = urllib.parse.urlsplit(pinned("http://localhost:6006/"))
    assert (parts.netloc, parts.path, parts.fragment) == ("localhost:6006", "/", "timeseries")
    [[key, value]] = urllib.parse.parse_qsl(parts.query)
    assert key == "pinnedCards"
    assert json.loads(value) == [
        {"plugin": "scalars", "tag": tag} for tag in ("Loss/train", "Loss/val", "Accuracy/val")
    ]
    with zipfile.ZipFile(Path(str(tensorboard.__file__)).with_name("webfiles.zip")) as files:
        page = files.read("index.js")
    # It reads the key, knows that name of scalars, and wants no run for them (but for histograms
    # and images).
    assert all(
        piece in page for piece in (b'case"pinnedCards":', b'SCALARS="scalars"', b'"timeseries"')
    )


def commands_of_the_page() -> list[list[str]]:
    text = (ROOT / "docs" / "tb.md").read_text(encoding="utf-8")
    lines = re.findall(r"^trainer tb\b(.*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines if "<" not in line]


def test_the_commands_and_keys_of_the_page() -> None:
    commands = commands_of_the_page()
    assert len(commands) >= 4
    for words in commands:
        Arguments.parse(VERBS["tb"], words)
    text = (ROOT / "docs" / "tb.md").read_text(encoding="utf-8")
    assert [key.name for key in VERBS["tb"].keys if f"| `{key.name}` |" not in text] == []
    assert all(f"`{tag}`" in text for tag in PINNED)
