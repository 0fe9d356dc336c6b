"""The profile: which updates it sees, what it says of them, and that no fault of it stops the
training.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from disks import Disk
from torch.autograd import DeviceType  # type: ignore[attr-defined]

from trainer.commands.fit import profile as under_test
from trainer.commands.fit.profile import Profile, ProfileResult, top_rows, write_trace


@dataclass
class Heard:
    """What a profile told and warned of."""

    found: list[ProfileResult] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def update() -> None:
    """One product of matrices, and nothing else that takes as long."""
    torch.mm(torch.ones(200, 200), torch.ones(200, 200))


def train(
    path: Path,
    *,
    first: int,
    count: int,
    until: int,
    done: int = 0,
    do: Callable[[], None] = update,
) -> Heard:
    """Train from update `done` + 1 to `until`; profile `count` updates from `first` on."""
    heard = Heard()
    with Profile(
        first,
        count,
        done=done,
        path=path,
        on_gpu=False,
        report=heard.found.append,
        warn=heard.warnings.append,
    ) as profile:
        for step in range(done + 1, until + 1):
            do()
            profile.after_update(step)
    return heard


def num_products(path: Path) -> int:
    """How many of `update` are in a trace, which is what Chrome's viewer reads: JSON with
    complete events.
    """
    events = json.loads(path.read_text())["traceEvents"]
    products = [event for event in events if event.get("name") == "aten::mm"]
    assert all(event["ph"] == "X" and event["dur"] >= 0 and "ts" in event for event in products)
    return len(products)


@pytest.mark.parametrize(
    ("first", "count", "done", "until", "seen"),
    [
        (3, 4, 0, 10, (3, 6)),
        (1, 2, 0, 10, (1, 2)),  # from before the first update
        (1, 1, 0, 1, (1, 1)),
        (3, 100, 0, 7, (3, 7)),  # a run shorter than was asked for: what there is
        (3, 4, 4, 10, (5, 6)),  # gone on with in the midst of it
        (7, 2, 4, 10, (7, 8)),
    ],
)
def test_the_updates_asked_for_are_profiled_by_their_number(
    tmp_path: Path, first: int, count: int, done: int, until: int, seen: tuple[int, int]
) -> None:
    heard = train(tmp_path / "trace.json", first=first, count=count, done=done, until=until)
    [found] = heard.found
    num = seen[1] - seen[0] + 1
    assert (found.first, found.last) == seen and heard.warnings == []
    assert found.trace == tmp_path / "trace.json" and num_products(found.trace) == num
    [row] = [row for row in found.rows if row.operator == "aten::mm"]
    assert row.calls == num
    assert row.ms_per_update == pytest.approx(row.total_ms / num)
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"], "nothing is left beside it"


def test_rows_are_the_longest_first_and_shares_of_the_whole(tmp_path: Path) -> None:
    def do() -> None:
        update()
        torch.sigmoid(
            torch.ones(3).add(1).mul(2).sub(1).div(3).exp().log().sqrt().abs().neg().tanh()
        )

    [found] = train(tmp_path / "trace.json", first=2, count=5, until=9, do=do).found
    assert len(found.rows) == 10
    times = [row.total_ms for row in found.rows]
    assert found.rows[0].operator == "aten::mm" and times == sorted(times, reverse=True)
    assert 0 < sum(times) <= found.total_ms <= found.wall_ms
    assert [row.share for row in found.rows] == pytest.approx(
        [time / found.total_ms for time in times]
    )


@pytest.mark.parametrize(
    ("done", "until", "said"),
    [
        (0, 4, "Nothing was profiled: the run ended after 4 updates, before update 5."),
        (0, 0, "Nothing was profiled: the run ended after 0 updates, before update 5."),
        (5, 5, "Nothing was profiled: the run ended after 5 updates, before update 6."),
        (7, 9, "Nothing was profiled: the run continued from step 7, past update 7."),
    ],
)
def test_a_run_without_the_updates_says_so_once(
    tmp_path: Path, done: int, until: int, said: str
) -> None:
    heard = train(tmp_path / "trace.json", first=5, count=3, done=done, until=until)
    assert heard == Heard(warnings=[said])
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_fails_tells_what_there_is_and_the_next_one_is_profiled(tmp_path: Path) -> None:
    calls = 0

    def do() -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise ZeroDivisionError
        update()

    heard = Heard()
    with (
        pytest.raises(ZeroDivisionError),
        Profile(
            2,
            50,
            done=0,
            path=tmp_path / "first",
            on_gpu=False,
            report=heard.found.append,
            warn=heard.warnings.append,
        ) as profile,
    ):
        for step in range(1, 9):
            do()
            profile.after_update(step)
    assert [(found.first, found.last) for found in heard.found] == [(2, 4)]
    assert num_products(tmp_path / "first") == 3
    assert train(tmp_path / "second", first=2, count=2, until=5).warnings == []
    assert num_products(tmp_path / "second") == 2


def test_a_trace_that_cannot_be_written_is_a_sentence_and_the_rows_are_told(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "trace.json"
    heard = train(path, first=2, count=2, until=5)
    assert heard.warnings == [
        f"The trace of the profile was not written to {path} (No such file or directory). Training "
        "continues."
    ]
    [found] = heard.found
    assert found.trace is None and found.rows


class Exporter:
    """Writes a text where torch's profiler would write a trace of so many events."""

    def __init__(self, text: str, *, num_events: int = 1) -> None:
        self._text, self._num_events = text, num_events

    def events(self) -> range:
        return range(self._num_events)

    def export_chrome_trace(self, path: str) -> None:
        Path(path).write_text(self._text)


def test_a_trace_that_has_no_room_or_is_cut_off_does_not_replace_the_one_before(
    tmp_path: Path,
) -> None:
    path = tmp_path / "trace.json"
    write_trace(Exporter('{"traceEvents": []}\n'), path)
    with pytest.raises(OSError, match="truncated"):
        write_trace(Exporter('{"traceEvents": [{"ph'), path)
    with pytest.raises(OSError, match="No space left on device"):
        write_trace(Exporter('{"traceEvents": [1]}', num_events=10**12), path)
    assert path.read_text() == '{"traceEvents": []}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_becomes_full_meanwhile_is_noticed(disk: Disk) -> None:
    class Filling:
        """As torch does it: what has no room is left out, and nothing is said; by chance it ends
        like a whole one.
        """

        def export_chrome_trace(self, path: str) -> None:
            Path(path).write_text('{"traceEvents": [{}')
            disk.fill(but=0)

        def events(self) -> list[object]:
            return []

    with pytest.raises(OSError, match="No space left on device"):
        write_trace(Filling(), disk.inside / "trace.json")
    assert [path.name for path in disk.inside.iterdir()] == ["filler"]


@pytest.mark.parametrize("fails_at", ["start", "stop"])
def test_a_profiler_that_fails_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    class Failing:
        def __init__(self, activities: Any) -> None:
            pass

        def start(self) -> None:
            if fails_at == "start":
                raise RuntimeError("it is in use")

        def stop(self) -> None:
            raise RuntimeError("it is in use")

    monkeypatch.setattr(under_test, "profile", Failing)
    heard = train(tmp_path / "trace.json", first=2, count=2, until=9)
    assert heard.found == [] and list(tmp_path.iterdir()) == []
    assert (
        len(heard.warnings) == 1
        and "(RuntimeError: it is in use). Training continues." in heard.warnings[0]
    )


def event(
    key: str, *, cpu: float, gpu: float = 0.0, kind: Any = DeviceType.CPU, count: int = 4
) -> SimpleNamespace:
    """One of torch's averages; microseconds."""
    return SimpleNamespace(
        key=key, count=count, device_type=kind, self_cpu_time_total=cpu, self_device_time_total=gpu
    )


def test_on_a_gpu_operators_are_ranked_by_its_time_and_kernels_are_not_counted_twice() -> None:
    events = [
        event("aten::add", cpu=9_000, gpu=1_000),
        event("aten::mm", cpu=2_000, gpu=3_000),
        event("cudaLaunchKernel", cpu=50_000),
        event("sgemm_128", cpu=0, gpu=3_000, kind=DeviceType.CUDA),
        event("add_kernel", cpu=0, gpu=1_000, kind=DeviceType.CUDA),
    ]
    on_gpu, total_ms, rows = top_rows(events, num_updates=2)
    assert on_gpu and total_ms == 4
    assert [(row.operator, row.total_ms, row.share, row.ms_per_update) for row in rows] == [
        ("aten::mm", 3.0, 0.75, 1.5),
        ("aten::add", 1.0, 0.25, 0.5),
    ]


@pytest.mark.gpu
def test_a_gpu_is_in_the_trace(tmp_path: Path) -> None:
    heard = Heard()
    matrix = torch.ones(2000, 2000, device="cuda")
    with Profile(
        2,
        3,
        done=0,
        path=tmp_path / "trace.json",
        on_gpu=True,
        report=heard.found.append,
        warn=heard.warnings.append,
    ) as profile:
        for step in range(1, 7):
            torch.mm(matrix, matrix)
            profile.after_update(step)
    [found] = heard.found
    assert found.on_gpu and found.rows[0].operator == "aten::mm" and found.rows[0].calls == 3
    assert any(
        event.get("cat") == "kernel"
        for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    )
