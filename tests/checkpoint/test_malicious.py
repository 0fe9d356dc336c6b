"""Checkpoints made to do harm: nothing they name is run, imported, resolved or made room for. Group
D.

Each is sealed anew, as a stranger can, and given to the real command in a process of its own, which
is watched.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import shutil
import sys
import zipfile
from collections.abc import Callable
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from commandline import run_python
from forging import (
    Forged,
    assert_refused,
    contents,
    forge_model,
    forge_state,
    make_run,
    put,
    write_sealed,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import Started
from running import Outcome, Trainer

from trainer.checkpoint.header import read_description
from trainer.errors import InputError
from trainer.run.folder import MODEL_FILE, STATE_FILE

STEP = Path("run/checkpoints/step-000018")
SECRET = "a secret of the user"


def call(target: str, *args: Any, **options: Any) -> dict[str, Any]:
    """What Hydra's `instantiate` takes for a call."""
    return {"_target_": target, "_args_": list(args), **options}


# Relative to the folder that the command runs in. These ran, or wrote something, by Hydra 1.3.8 …
LIVE = {
    "torch.load": call("torch.load", "trap.pt", weights_only=False),
    "numpy.load": call("numpy.load", "trap.npy", allow_pickle=True),
    "torch.hub.load": call("torch.hub.load", "trap", "net", source="local"),
    "torch.utils.collect_env.run": call("torch.utils.collect_env.run", "touch canary"),
    "setuptools._distutils.spawn": call("setuptools._distutils.spawn.spawn", ["touch", "canary"]),
    "builtins.open": call("builtins.open", "canary", "w"),
    "pathlib.Path.write_text": call("pathlib.Path.write_text", call("pathlib.Path", "canary"), "x"),
    "import of a module": call("trap_module.anything"),
    "urllib.request.urlretrieve": call(
        "urllib.request.urlretrieve", "file:precious/file", "canary"
    ),
}
# … and these are on its list of blocked ones, which others have got round.
BLOCKED = {
    "os.system": call("os.system", "touch canary"),
    "posix.system": call("posix.system", "touch canary"),
    "logging.os.system": call("logging.os.system", "touch canary"),
    "builtins.exec": call("builtins.exec", "open('canary', 'w')"),
    "builtins.eval": call("builtins.eval", "open('canary', 'w')"),
    "subprocess.run": call("subprocess.run", ["touch", "canary"]),
    "subprocess.Popen": call("subprocess.Popen", ["touch", "canary"]),
    "shutil.rmtree": call("shutil.rmtree", "precious"),
    "pickle.load": call("pickle.load", call("builtins.open", "trap.npy", "rb")),
    "ctypes.CDLL": call("ctypes.CDLL", "./trap.so"),
    "threading.Thread": call(
        "threading.Thread", None, call("os.system", "touch canary", _partial_=True)
    ),
    "nested": call("torch.nn.Sequential", call("os.system", "touch canary")),
    "partial": call("os.system", "touch canary", _partial_=True),
}
PAYLOADS = {**LIVE, **BLOCKED}


def each_payload(*shown: str) -> pytest.MarkDecorator:
    """A test for each payload; those that are not `shown` are slow, for one refusal is for all."""
    names = [
        pytest.param(name, marks=[] if name in shown else [pytest.mark.slow]) for name in PAYLOADS
    ]
    return pytest.mark.parametrize("name", names)


# What the interpreter itself reports when code or files of others are used.
TELLTALES = {
    *(
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.fork",
        "subprocess.Popen",
        "pickle.find_class",
    ),
    *("ctypes.dlopen", "shutil.rmtree", "urllib.Request", "socket.connect", "socket.getaddrinfo"),
}


class Trap:
    def __reduce__(self) -> Any:
        return open, ("canary", "w")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and what the payloads would use, touch or take away."""
    folder = tmp_path_factory.mktemp("template")
    make_run(folder)
    torch.save(Trap(), folder / "trap.pt")
    np.save(folder / "trap.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    (folder / "trap_module.py").write_text("open('canary', 'w')\n")
    (folder / "trap").mkdir()
    (folder / "trap/hubconf.py").write_text("def net():\n    open('canary', 'w')\n")
    (folder / "precious").mkdir()
    (folder / "precious/file").write_text("precious")
    return folder


@pytest.fixture
def cwd(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "cwd", symlinks=True))


def watch(room: int) -> None:
    """Note what this process is up to, and leave it in watched.json; give it `room` more bytes
    of memory.
    """
    sys.path.insert(0, str(Path.cwd()))
    os.environ["SECRET"] = SECRET
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
    modules, memory, seen = set(sys.modules), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []

    def note(event: str, args: tuple[Any, ...]) -> None:
        if event in TELLTALES or (event == "open" and "trap" in str(args[0])):
            seen.append(f"{event} {args[0]!r}")

    def write() -> None:
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1000
        content = {"modules": sorted(set(sys.modules) - modules), "seen": seen, "grown": grown}
        Path("watched.json").write_text(json.dumps(content))

    sys.addaudithook(note)
    Finalize(None, write, exitpriority=1)


def watched(*argv: str, cwd: Path, room: int = 4 * 10**9) -> tuple[Outcome, set[str]]:
    """How `trainer …` ended, harmless by what was seen of it, and the modules it has imported."""
    outcome = Started(*argv, cwd=cwd, prepare=functools.partial(watch, room)).wait()
    seen = json.loads((cwd / "watched.json").read_text())
    (cwd / "watched.json").unlink()
    assert seen["seen"] == []
    assert seen["grown"] < 300, "MB"
    assert not (cwd / "canary").exists()
    assert (cwd / "precious/file").read_text() == "precious"
    assert SECRET not in outcome.out + outcome.err
    return outcome, set(seen["modules"])


@pytest.fixture(scope="module")
def usual(template: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The modules that eval imports for a checkpoint nobody has touched."""
    cwd = shutil.copytree(template, tmp_path_factory.mktemp("usual") / "cwd", symlinks=True)
    outcome, modules = watched("eval", f"ckpt={STEP}", cwd=Path(cwd))
    assert outcome.code == 0 and "accuracy" in outcome.out
    return modules


def assert_eval_refuses(*said: str, cwd: Path, usual: set[str]) -> None:
    before = contents(cwd / "run")
    outcome, modules = watched("eval", f"ckpt={STEP}", cwd=cwd)
    assert_refused(outcome, *said)
    assert modules - usual == set()
    assert contents(cwd / "run") == before


FIRE = """
import json, pathlib, sys
from hydra.utils import instantiate
sys.path.insert(0, ".")
fired, canary = [], pathlib.Path("canary")
for name, payload in json.load(sys.stdin).items():
    try:
        instantiate(payload)
    except BaseException:
        pass
    if canary.exists():
        fired.append(name)
        canary.unlink()
print(json.dumps(fired), file=sys.stderr)
"""


def test_the_payloads_are_live(cwd: Path) -> None:
    """By the `instantiate` that trainer never calls: what is refused below is no dud."""
    ran = run_python("-c", FIRE, cwd=cwd, text=json.dumps(LIVE))
    assert json.loads(ran.err.splitlines()[-1]) == list(LIVE)


@pytest.mark.fault("D")
@each_payload(*LIVE, "os.system", "nested", "partial")
def test_code_in_the_config(cwd: Path, usual: set[str], name: str) -> None:
    forge_model(cwd / STEP, lambda file: file.description["config"]["model"].update(PAYLOADS[name]))
    said = "asks to run code (config.model._target_).\ntrainer never runs code from a checkpoint."
    assert_eval_refuses("Error: Refused: ", said, cwd=cwd, usual=usual)


@pytest.mark.fault("D")
@each_payload("torch.load", "os.system", "nested")
def test_code_in_a_hydra_section(cwd: Path, usual: set[str], name: str) -> None:
    section = {"callbacks": {"trap": PAYLOADS[name]}, "searchpath": ["file://."]}
    forge_model(cwd / STEP, lambda file: put(file.description, "config.hydra", section))
    said = "asks to run code (config.hydra.callbacks.trap._target_)."
    assert_eval_refuses("Error: Refused: ", said, cwd=cwd, usual=usual)


def put_beside(text: str, *, cwd: Path) -> None:
    """A config.yaml wherever one may be looked for."""
    for folder in (
        cwd,
        cwd / "run",
        cwd / STEP,
        cwd / STEP / ".hydra",
        cwd / "configs",
        cwd / ".hydra",
    ):
        folder.mkdir(exist_ok=True)
        for name in ("config.yaml", "eval.yaml", "hydra.yaml"):
            (folder / name).write_text(text)


def assert_not_read(text: str, *, cwd: Path, usual: set[str]) -> None:
    put_beside(text, cwd=cwd)
    outcome, modules = watched("eval", f"ckpt={STEP}", cwd=cwd)
    assert outcome.code == 0 and outcome.err == ""
    assert modules - usual == set()


@pytest.mark.fault("D")
@each_payload("torch.load", "os.system", "nested")
def test_code_in_a_config_file_beside_it(cwd: Path, usual: set[str], name: str) -> None:
    section = {"model": PAYLOADS[name], "hydra": {"callbacks": {"trap": PAYLOADS[name]}}}
    assert_not_read(yaml.safe_dump(section), cwd=cwd, usual=usual)


BOMB = "\n".join(
    ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))]
)


@pytest.mark.fault("D")
@pytest.mark.parametrize(
    "text",
    [BOMB, "model: !!python/object/apply:os.system ['touch canary']\n"],
    ids=["alias bomb", "python tag"],
)
def test_yaml_beside_it(cwd: Path, usual: set[str], text: str) -> None:
    assert_not_read(text, cwd=cwd, usual=usual)


@pytest.mark.parametrize("name", ["torch.load", "os.system"])
def test_going_on_refuses_as_well(cwd: Path, name: str) -> None:
    forge_model(
        cwd / STEP, lambda file: file.description["config"]["optimizer"].update(PAYLOADS[name])
    )
    outcome, _ = watched("fit", f"resume={STEP}", "trainer.epochs=3", cwd=cwd)
    assert_refused(outcome, "asks to run code (config.optimizer._target_).")


def pretend(path: Path, *, source: Path) -> None:
    shutil.copy(source, path)


def zip_up(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../../canary", "escaped")


def inflate(path: Path) -> None:
    write_sealed(path, Forged.of(path).header + " " * 99_000_000, Forged.of(path).data)


def add_tensors(path: Path, *, count: int) -> None:
    file = Forged.of(path)
    for number in range(count):
        file.tensors[f"t{number}"] = {
            "dtype": "F32",
            "shape": [0],
            "data_offsets": [len(file.data)] * 2,
        }
    file.write(path)


def add_tensor(path: Path, *, name: str, shape: tuple[int, ...]) -> None:
    file = Forged.of(path)
    file.add(name, *shape, data=b"")
    file.write(path)


def describe(path: Path, *, place: str, value: Any) -> None:
    file = Forged.of(path)
    put(file.description, place, value)
    file.write(path)


def config(place: str, value: Any) -> Callable[[Path], None]:
    return functools.partial(describe, place=f"config.{place}", value=value)


CLEAR = "\x1b[2J\x1b]0;pwned\x07"
FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "pickle": (lambda path: pretend(path, source=path.parents[3] / "trap.npy"), "is damaged"),
    "torch's zip of a pickle": (
        lambda path: pretend(path, source=path.parents[3] / "trap.pt"),
        "is damaged",
    ),
    "zip": (zip_up, "is damaged"),
    "99 MB of header": (inflate, "larger than any of trainer's"),
    "200,000 tensors": (
        functools.partial(add_tensors, count=200_000),
        "larger than any of trainer's",
    ),
    "100,000 tensors": (
        functools.partial(add_tensors, count=100_000),
        "100,004 tensors, more than any",
    ),
    "shape [0, 2^62]": (
        functools.partial(add_tensor, name="x", shape=(0, 2**62)),
        "the shape of x does not fit",
    ),
    "escapes in a tensor's name": (
        functools.partial(add_tensor, name=CLEAR, shape=(0,)),
        "that trainer gives to none",
    ),
    "escapes in a value": (
        config("optimizer.lr", CLEAR),
        "optimizer.lr=?[2J?]0;pwned? has the wrong type",
    ),
    "escapes in a key": (
        config(f"model.{CLEAR}", 1),
        "model.?[2J?]0;pwned?: model=mlp has no such key",
    ),
    "escapes in an alias": (
        functools.partial(describe, place="aliases", value={"x": CLEAR}),
        "x shares the weights of ?[2J?]0;pwned?, which are not there",
    ),
    "extra state that is no table": (
        functools.partial(describe, place="extra", value=["x"]),
        "the field extra of its description has the wrong type",
    ),
    "extra state for a built-in model": (
        functools.partial(describe, place="extra", value={"fc1.bias": {"$float": "nan"}}),
        "fc1.bias: checkpoint extra state, model",
    ),
    "a path as a tensor's name": (
        functools.partial(add_tensor, name="../../../canary", shape=(0,)),
        "../../../canary: checkpoint 0, model none",
    ),
    "a path as a name of data": (
        config("data.name", "../../mnist"),
        "data=../../mnist: there is no such data",
    ),
    "an environment variable": (
        config("run.root", "${oc.env:SECRET}"),
        "interpolation or an oversized text",
    ),
    "a nested interpolation": (
        config("trainer.monitor", "${oc.create:${oc.env:SECRET}}"),
        "interpolation",
    ),
    "someone's class": (
        config(
            "model",
            {"name": "custom", "target": "trap_module.Net", "kwargs": {}, "output": "logits"},
        ),
        "needs your own class trap_module.Net; trainer never imports what a checkpoint names",
    ),
    "a million values": (
        config("model.hidden", [[0] * 5000] * 200),
        "too long to be one of trainer's",
    ),
    "as many keys": (
        config("model", {f"k{number}": 0 for number in range(400_000)}),
        "too long to be one of",
    ),
    "nested lists": (
        config("model.hidden", json.loads("[" * 500 + "]" * 500)),
        "nested too deeply",
    ),
}


@pytest.mark.fault("D")
@pytest.mark.parametrize("name", FILES)
def test_a_file_made_to_do_harm(cwd: Path, usual: set[str], name: str) -> None:
    make, said = FILES[name]
    make(cwd / STEP / MODEL_FILE)
    assert_eval_refuses(said, cwd=cwd, usual=usual)
    assert not list(cwd.parent.glob("canary"))


@pytest.mark.fault("D")
def test_a_folder_named_by_a_checkpoint_is_not_made(cwd: Path) -> None:
    for key in ("run.dir", "run.root", "resume"):
        describe(cwd / STEP / MODEL_FILE, place=f"config.{key}", value="../escaped")
    outcome, _ = watched("eval", f"ckpt={STEP}", cwd=cwd)
    assert outcome.code == 0
    assert not (cwd.parent / "escaped").exists()


HUGE: dict[str, tuple[str, Any]] = {
    "layer": ("model.hidden", [2_000_000_000]),
    "layers": ("model.hidden", [2_000_000_000] * 2),
    "overflow": ("model.hidden", [10**18]),
    "no int64": ("model.hidden", [10**30]),
    "samples": ("data.train_size", 10**12),
    "some samples": ("data.train_size", 10**8),
    "test samples": ("data.test_size", 10**12),
    "features": ("data.features", 10**9),
    "device": ("trainer.device", "cuda:" + "9" * 30),
    "threads": ("trainer.threads", 4096),
}


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("verb", ["eval", "fit"])
def test_a_config_of_huge_things(cwd: Path, verb: str, name: str) -> None:
    place, value = HUGE[name]
    forge_model(cwd / STEP, lambda file: put(file.description, f"config.{place}", value))
    words = (
        ("eval", f"ckpt={STEP}")
        if verb == "eval"
        else ("fit", f"resume={STEP}", "trainer.epochs=3")
    )
    before = contents(cwd / "run")
    outcome, _ = watched(*words, cwd=cwd)
    assert outcome.code in (2, 3) and "fault of trainer" not in outcome.err
    assert contents(cwd / "run") == before


MOMENTA = "optimizer.state.$items.0.1"
HUGE_INT = 10**400
# What is wrong, where in the table, and what is there instead.
STATES: dict[str, tuple[str, Any]] = {
    "momenta of another shape": (f"{MOMENTA}.exp_avg", {"$tensor": "optimizer.state.1.exp_avg"}),
    "momenta that are a list": (f"{MOMENTA}.step", []),
    "no such parameter": ("optimizer.state.$items.0.0", 99),
    "a parameter that is a text": ("optimizer.state.$items.0.0", "x"),
    "a parameter that is a table": ("optimizer.state", {"$items": [[{"a": 1}, 2]]}),
    "no parameters": ("optimizer.param_groups.0.params", [0]),
    "parameters without a name": ("optimizer.param_groups.0.params", [[], 1, 2, 3]),
    "no groups": ("optimizer.param_groups", []),
    "a group that is a text": ("optimizer.param_groups.0", "x"),
    "a negative counter": ("progress.step", -1),
    "a counter that is a text": ("progress.batch", "1"),
    "a count beyond int64": ("unread_sums.correct", HUGE_INT),
    "a sum beyond float": ("unread_sums.loss", HUGE_INT),
    "what is owed": ("journal.owed", {"evaluates": True}),
    "three numbers for two": ("journal.last_epoch", {"$tuple": [1, 2, 3]}),
    "threads that are a text": ("machine.threads", "2"),
    "a short random state": ("random.python", {"$tuple": [3, {"$tuple": [1] * 10}, None]}),
    "a random state beyond its words": (
        "random.python",
        {"$tuple": [3, {"$tuple": [HUGE_INT] * 625}, None]},
    ),
    "a random state at a wrong place": (
        "random.python",
        {"$tuple": [3, {"$tuple": [1] * 624 + [10**6]}, None]},
    ),
    "a random state of texts": ("random.python", {"$tuple": [3, {"$tuple": ["a"] * 625}, None]}),
    "an empty random state": ("random.python", {"$tuple": []}),
    "a random state that is a list": ("random.torch", [1]),
    "a random state of another type": ("random.torch", {"$tensor": "optimizer.state.0.exp_avg"}),
    "an unknown entry": ("evil", {}),
    "an unknown kind": ("schedule", {"$code": "os.system"}),
    "a tensor that is not there": ("random.torch", {"$tensor": "missing"}),
    "nested lists": ("schedule", json.loads("[" * 500 + "]" * 500)),
}
# Each with what it would lead to.
LATER: dict[str, tuple[str, Any, str]] = {
    "parameters named twice": (
        "optimizer.param_groups.0.params",
        [0, 0, 0, 0],
        "a crash: fused kernels read outside",
    ),
    "parameters in another order": (
        "optimizer.param_groups.0.params",
        [3, 2, 1, 0],
        "momenta of other parameters",
    ),
    "momenta that are a text": (f"{MOMENTA}.exp_avg", "x", "TypeError at the first step"),
    "momenta that are null": (f"{MOMENTA}.exp_avg", None, "TypeError at the first step"),
    "a place behind the epoch": ("progress.batch", 1000, "training never ends"),
    "another place than the model's": ("progress.step", 7, "trained on from another step"),
    "a step beyond int64": ("progress.step", HUGE_INT, "OSError: file name too long"),
    "seconds beyond float": ("progress.seconds", HUGE_INT, "OverflowError"),
    "seconds that are no number": ("progress.seconds", {"$float": "nan"}, "nan in the records"),
    "a best beyond float": ("monitor.best", HUGE_INT, "OverflowError"),
    "a negative wait": ("monitor.num_stale", -10, "patience is longer"),
    "a negative number of samples": ("unread_sums.samples", -100, "wrong means"),
    "samples beyond float": ("journal.window.samples", HUGE_INT, "OverflowError"),
    "a window beyond float": ("journal.window.loss", HUGE_INT, "OverflowError"),
    "4096 threads": ("machine.threads", 4096, "takes them"),
    "a negative number of threads": ("machine.threads", -1, "a warning"),
}


def assert_resume_refuses(*said: str, cwd: Path) -> None:
    before = contents(cwd / "run")
    outcome = Started("fit", f"resume={STEP}", "trainer.epochs=3", cwd=cwd).wait()
    assert_refused(outcome, *said)
    assert contents(cwd / "run") == before


@pytest.mark.parametrize("name", STATES)
def test_a_state_made_to_do_harm(cwd: Path, trainer: Trainer, name: str) -> None:
    forge_state(cwd / STEP, lambda table: put(table, *STATES[name]))
    before = contents(cwd / "run")
    assert_refused(trainer("fit", f"resume={cwd / STEP}", "trainer.epochs=3"), str(STEP))
    assert contents(cwd / "run") == before


@pytest.mark.parametrize(
    ("place", "value"),
    [pytest.param(place, value, id=name) for name, (place, value, _) in LATER.items()],
)
def test_a_state_that_harms_later(cwd: Path, place: str, value: Any) -> None:
    forge_state(cwd / STEP, lambda table: put(table, place, value))
    assert_resume_refuses(str(STEP), cwd=cwd)


def test_a_missing_entry(cwd: Path) -> None:
    forge_state(cwd / STEP, lambda table: table.pop("monitor"))
    assert_resume_refuses("monitor is on one side only", cwd=cwd)


def test_the_state_of_another_model(cwd: Path) -> None:
    describe(cwd / STEP / STATE_FILE, place="model", value="0" * 64)
    assert_resume_refuses("belongs to another model.safetensors", cwd=cwd)


# Fused kernels would read and write outside of them.
@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 10), (16, 1)], ids=str)
def test_momenta_that_would_spread_over_the_parameter(cwd: Path, shape: tuple[int, ...]) -> None:
    name, file = "optimizer.state.1.exp_avg", Forged.of(cwd / STEP / STATE_FILE)
    file.remove(name)
    file.add(name, *shape, data=bytes(4 * int(np.prod(shape))))
    file.write(cwd / STEP / STATE_FILE)
    assert_resume_refuses("exp_avg of parameter 1", cwd=cwd)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["???", "${x}", "custom"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.just("_target_"), inner, max_size=4)
    ),
    max_leaves=8,
)


def places(value: Any, prefix: str = "") -> list[str]:
    if not isinstance(value, dict):
        return []
    return [
        place for key in value for place in (prefix + key, *places(value[key], f"{prefix}{key}."))
    ]


@settings(
    deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_description_is_read_or_refused(
    template: Path, tmp_path: Path, data: st.DataObject
) -> None:
    file = Forged.of(template / STEP / MODEL_FILE)
    place = data.draw(st.sampled_from(["", *places(file.description)]))
    value = data.draw(JSON)
    if place:
        put(file.description, place, value)
    else:
        file.description = value
    file.write(tmp_path / MODEL_FILE)
    try:
        read_description(tmp_path / MODEL_FILE)
    except InputError as error:
        assert len(str(error).splitlines()) <= 3
