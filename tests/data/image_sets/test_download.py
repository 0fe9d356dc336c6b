from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fake_images import names_in
from loopback import (
    Answer,
    Handler,
    Loopback,
    drip,
    hang,
    in_turn,
    redirect,
    serve,
    status,
)
from waiting import HANG_S

from trainer.data.image_sets.download import (
    DEFAULT_TIMEOUTS,
    Advance,
    DownloadFailed,
    QuietReport,
    download,
    exclusive,
)
from trainer.data.image_sets.https import Timeouts
from trainer.errors import DataError, EnvironmentFault

CONTENT = b"right content " * 1000
HALF = CONTENT[:7000]
# For servers that answer, however busy the machine is; and for those that hang.
PATIENT = Timeouts(connect=HANG_S, idle=HANG_S, total=HANG_S, backoff=0.001)
HASTY = replace(PATIENT, idle=0.25)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback() as server:
        yield server


@pytest.fixture
def other() -> Iterator[Loopback]:
    with Loopback() as server:
        yield server


@pytest.fixture
def plain_server() -> Iterator[Loopback]:
    with Loopback(is_tls=False) as server:
        yield server


def verify(path: Path) -> None:
    if not path.is_file() or path.read_bytes() != CONTENT:
        raise DataError(f"{path.name.removesuffix('.part')}: not the right content.")


def fetch(
    *urls: str,
    target: Path,
    timeouts: Timeouts = PATIENT,
    report: QuietReport | None = None,
) -> None:
    download(
        urls,
        target,
        verify=verify,
        max_bytes=2 * len(CONTENT),
        report=report or QuietReport(),
        timeouts=timeouts,
        hint="Get it by hand.",
    )


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "raw" / "t10k.gz"


def assert_fails(*urls: str, target: Path, text: str, timeouts: Timeouts = PATIENT) -> None:
    with pytest.raises(DownloadFailed) as caught:
        fetch(*urls, target=target, timeouts=timeouts)
    assert text in caught.value.what
    assert str(caught.value).startswith("Download of t10k.gz failed (")
    assert len(str(caught.value).splitlines()) <= 3
    assert caught.value.exit_code == 4
    assert names_in(target.parent) == []


@pytest.mark.parametrize("length", [-1, None])
def test_brings_a_file_with_and_without_a_length(
    server: Loopback, target: Path, length: int | None
) -> None:
    server.answers["/x"] = serve(CONTENT, length=length)
    fetch(f"{server.base}x", target=target)
    assert target.read_bytes() == CONTENT
    assert names_in(target.parent) == ["t10k.gz"]
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_right_file_is_not_fetched_again(server: Loopback, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    fetch(f"{server.base}x", target=target)
    assert server.requests == []


def test_a_wrong_file_is_replaced_only_by_a_right_one(server: Loopback, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old")
    server.answers["/x"] = in_turn(serve(b"wrong"), serve(CONTENT))
    with pytest.raises(DownloadFailed):
        fetch(f"{server.base}x", target=target)
    assert target.read_bytes() == b"old"
    fetch(f"{server.base}x", target=target)
    assert target.read_bytes() == CONTENT


# What a mirror does, what is said of it, and how often it is asked.
OF_THE_PLAN: dict[str, tuple[Answer, str, int]] = {
    "hangs before its headers": (hang, "stopped after 0.25 s without data (tried 3 times)", 3),
    "hangs in its headers": (
        drip(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9999, every=0.03),
        "stopped after 0.25 s without data",
        3,
    ),
    "hangs in its body": (
        serve(CONTENT[:400], length=len(CONTENT), then_hang=True),
        "stopped after 0.25 s",
        3,
    ),
    "a byte now and then": (
        drip(b"x" * 9999, every=0.01, head=b"HTTP/1.0 200 OK\r\n\r\n"),
        "stopped after 0.25 s at less than 1000 bytes/s (tried 3 times)",
        3,
    ),
    "half, with a length": (
        serve(HALF, length=len(CONTENT)),
        "sent 7000 of 14000 bytes (tried 3 times)",
        3,
    ),
    "half, without a length": (
        serve(HALF, length=None),
        "sent something else: t10k.gz: not the right content",
        3,
    ),
    "404": (status(404), "answered 404 Not Found", 1),
    "403": (status(403), "answered 403 Forbidden", 1),
    "redirects in a loop": (redirect("/x"), "redirected more than 5 times", 6),
    "too long, with a length": (serve(CONTENT * 3), "offers 42000 bytes, more than the 28000", 1),
    "too long, without a length": (
        serve(CONTENT * 3, length=None),
        "sends more than the 28000 bytes",
        1,
    ),
}
MORE: dict[str, tuple[Answer, str, int]] = {
    "wrong content": (serve(b"wrong"), "sent something else: t10k.gz: not the right content", 1),
    "500": (status(500), "answered 500 Internal Server Error (tried 3 times)", 3),
    "503": (status(503), "answered 503", 3),
    "204": (status(204), "answered 204", 1),
    "redirects to a file": (
        redirect("file:///etc/passwd"),
        "Refused redirect to file:///etc/passwd",
        1,
    ),
    "redirects to http": (
        redirect("http://example.org/x"),
        "Refused redirect to http://example.org/x",
        1,
    ),
    "redirects to no address": (redirect("https://[/"), "Refused redirect to", 1),
    "speaks no http": (drip(b"nonsense\r\n\r\n", every=0.0), "broke off", 3),
}


@pytest.mark.parametrize(
    ("answer", "text", "num_requests"),
    [
        *(
            pytest.param(*case, id=name, marks=pytest.mark.fault("F"))
            for name, case in OF_THE_PLAN.items()
        ),
        *(pytest.param(*case, id=name) for name, case in MORE.items()),
    ],
)
def test_says_why_a_mirror_failed_and_goes_on_to_the_next(
    server: Loopback, other: Loopback, target: Path, answer: Answer, text: str, num_requests: int
) -> None:
    timeouts = HASTY if "after 0.25 s" in text else PATIENT
    server.answers["/x"] = answer
    assert_fails(f"{server.base}x", target=target, text=text, timeouts=timeouts)
    assert len(server.requests) == num_requests

    other.answers["/x"] = serve(CONTENT)
    fetch(f"{server.base}x", f"{other.base}x", target=target, timeouts=timeouts)
    assert target.read_bytes() == CONTENT
    assert other.requests == ["/x"]
    assert names_in(target.parent) == ["t10k.gz"]


@pytest.mark.fault("F")
def test_500_twice_then_200_is_tried_again(server: Loopback, target: Path) -> None:
    server.answers["/x"] = in_turn(status(500), status(500), serve(CONTENT))
    fetch(f"{server.base}x", target=target)
    assert server.requests == ["/x"] * 3
    assert target.read_bytes() == CONTENT


def test_the_tries_are_bounded_over_all_mirrors(
    server: Loopback, other: Loopback, target: Path
) -> None:
    server.answers["/x"] = other.answers["/x"] = hang
    urls = (f"{server.base}x", f"{other.base}x")
    assert_fails(*urls, target=target, text="without data", timeouts=HASTY)
    assert (len(server.requests), len(other.requests)) == (2, 1)


def test_without_the_haste_of_tests_a_hang_ends_within_two_minutes() -> None:
    tries = DEFAULT_TIMEOUTS.tries
    assert tries * DEFAULT_TIMEOUTS.idle + (2 ** (tries - 1) - 1) * DEFAULT_TIMEOUTS.backoff <= 120


@pytest.mark.fault("F")
@pytest.mark.parametrize("where", ["the same host", "another host"])
def test_follows_a_redirect_to(server: Loopback, other: Loopback, target: Path, where: str) -> None:
    to = server if where == "the same host" else other
    server.answers["/x"] = redirect(f"{to.base}y")
    to.answers["/y"] = serve(CONTENT)
    fetch(f"{server.base}x", target=target)
    assert server.requests + other.requests == ["/x", "/y"]
    assert target.read_bytes() == CONTENT
    assert names_in(target.parent) == ["t10k.gz"]


def test_a_slow_but_steady_line_is_enough(server: Loopback, target: Path) -> None:
    parts = [serve(CONTENT[:7000], length=len(CONTENT))]

    def halves(handler: object) -> None:
        parts[0](handler)  # type: ignore[arg-type]
        for start in range(7000, 14000, 1000):
            time.sleep(0.1)  # longer than idle in all, each part of it shorter
            handler.wfile.write(CONTENT[start : start + 1000])  # type: ignore[attr-defined]

    server.answers["/x"] = halves
    fetch(f"{server.base}x", target=target, timeouts=HASTY)
    assert len(server.requests) == 1


def test_a_connected_server_may_think_longer_than_it_takes_to_connect(
    server: Loopback, target: Path
) -> None:
    def thinking(handler: object) -> None:
        time.sleep(1.2)
        serve(CONTENT)(handler)  # type: ignore[arg-type]

    server.answers["/x"] = thinking
    fetch(f"{server.base}x", target=target, timeouts=replace(PATIENT, connect=1.0))
    assert target.read_bytes() == CONTENT


def test_gives_up_after_the_total_time(server: Loopback, target: Path) -> None:
    server.answers["/x"] = drip(b"HTTP/1.0 200 OK\r\n\r\n" + CONTENT, every=0.002)
    with pytest.raises(DownloadFailed, match=r"took more than 0\.1 s"):
        fetch(f"{server.base}x", target=target, timeouts=replace(PATIENT, total=0.1))


def test_a_refused_connection_is_not_tried_again(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # nobody listens
        monkeypatch.setattr(
            time, "sleep", lambda _: pytest.fail("waited for a mirror that is not there")
        )
        assert_fails(
            f"https://127.0.0.1:{sock.getsockname()[1]}/x", target=target, text="cannot be reached"
        )


@pytest.mark.fault("F")
def test_an_unknown_host_is_not_tried_again(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = ".".join(
        ["nowhere"] * 40
    )  # longer than a name can be: the resolver says no without asking the network
    monkeypatch.setattr(
        time, "sleep", lambda _: pytest.fail("waited for a mirror that is not there")
    )
    assert_fails(f"https://{host}/x", target=target, text=f"{host}: its name cannot be looked up")


def test_the_connect_time_is_shared_over_the_addresses_of_a_host(
    server: Loopback, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        port = server.server_address[1]
        places = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", p))
            for p in (dead.getsockname()[1], port)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places)
        server.answers["/x"] = serve(CONTENT)
        fetch(f"{server.base}x", target=target)
    assert target.read_bytes() == CONTENT


def test_an_address_without_https_is_refused(plain_server: Loopback, target: Path) -> None:
    for url in (
        f"{plain_server.base}x",
        "http://example.org/x",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "https:///x",
        "https://a:b/x",
    ):
        assert_fails(url, target=target, text="only https addresses are used")
    assert plain_server.requests == []


def test_no_address_at_all(target: Path) -> None:
    assert_fails(target=target, text="No address is known")


def test_a_redirect_may_be_relative(server: Loopback, target: Path) -> None:
    server.answers["/a/y"] = redirect("x")
    server.answers["/a/x"] = serve(CONTENT)
    fetch(f"{server.base}a/y", target=target)
    assert target.read_bytes() == CONTENT


@pytest.mark.fault("F")
@pytest.mark.parametrize("scheme", ["http", "file"])
def test_a_redirect_from_https_is_refused_to(
    server: Loopback, plain_server: Loopback, tmp_path: Path, target: Path, scheme: str
) -> None:
    # What lies there is the right content: only the way to it is wrong.
    (tmp_path / "x").write_bytes(CONTENT)
    plain_server.answers["/x"] = serve(CONTENT)
    url = f"{plain_server.base}x" if scheme == "http" else (tmp_path / "x").as_uri()
    server.answers["/x"] = redirect(url)
    assert_fails(f"{server.base}x", target=target, text=f"Refused redirect to {url}")
    assert plain_server.requests == []


def test_a_host_that_never_answers_in_tls_is_left(target: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts for it
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(DownloadFailed, match=r"did not answer within 0\.1 s \(tried 3 times\)"):
            fetch(url, target=target, timeouts=replace(PATIENT, connect=0.1))


@pytest.mark.fault("F")
def test_bad_tls_a_certificate_nobody_vouches_for(server: Loopback, target: Path) -> None:
    server.answers["/x"] = serve(CONTENT)
    del os.environ["SSL_CERT_FILE"]
    assert_fails(f"{server.base}x", target=target, text="TLS certificate is not valid")
    assert server.requests == []


@pytest.mark.fault("F")
def test_bad_tls_a_certificate_of_another_host(server: Loopback, target: Path) -> None:
    server.answers["/x"] = serve(CONTENT)
    # The same machine under a name it has no certificate for.
    url = server.base.replace("127.0.0.1", "127.1")
    assert_fails(f"{url}x", target=target, text="TLS certificate is not valid")
    assert server.requests == []


def test_goes_through_a_proxy_by_a_tunnel(
    plain_server: Loopback, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = f"http://user:secret@127.0.0.1:{plain_server.server_address[1]}"
    monkeypatch.setenv("https_proxy", proxy)
    # The server knows no CONNECT: that it was asked for one is what shows.
    assert_fails(
        "https://example.org/x",
        target=target,
        text="example.org: cannot be reached (Tunnel connection failed",
    )


def test_a_folder_that_cannot_be_written_is_said(server: Loopback, tmp_path: Path) -> None:
    (tmp_path / "raw").touch()
    with pytest.raises(
        EnvironmentFault,
        match=r"t10k\.gz must be fetched, but cannot be written: its folder is a file",
    ) as caught:
        fetch(f"{server.base}x", target=tmp_path / "raw" / "t10k.gz")
    assert type(caught.value) is EnvironmentFault
    assert len(str(caught.value).splitlines()) == 3


def test_a_directory_in_its_place_is_said(server: Loopback, target: Path) -> None:
    target.mkdir(parents=True)
    server.answers["/x"] = serve(CONTENT)
    with pytest.raises(EnvironmentFault, match="something that is not a file is in its place"):
        fetch(f"{server.base}x", target=target)


def test_a_full_disk_is_said_and_leaves_nothing(
    server: Loopback, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    server.answers["/x"] = serve(CONTENT)
    with pytest.raises(EnvironmentFault, match="No space left on device") as caught:
        fetch(f"{server.base}x", target=target)
    assert type(caught.value) is EnvironmentFault
    assert names_in(target.parent) == []
    assert len(server.requests) == 1


def test_an_interrupt_leaves_nothing(
    server: Loopback, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    server.answers["/x"] = serve(CONTENT)
    with pytest.raises(KeyboardInterrupt):
        fetch(f"{server.base}x", target=target)
    assert names_in(target.parent) == []


START = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from test_download import fetch_aloud
fetch_aloud(sys.argv[1], target=Path(sys.argv[2]))
"""


class Aloud(QuietReport):
    """Prints at once what happens, so that a test can wait for it."""

    def note(self, text: str) -> None:
        print(text, flush=True)

    @contextmanager
    def progress(self, *description: object, **_: object) -> Iterator[Advance]:
        yield lambda _: print(description[0], flush=True)


def fetch_aloud(url: str, *, target: Path) -> None:
    fetch(url, target=target, timeouts=Timeouts(), report=Aloud())


def start(url: str, target: Path) -> subprocess.Popen[str]:
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "support")]
    command = [sys.executable, "-c", START, url, str(target), *folders]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.fault("F")
def test_of_two_processes_one_fetches(server: Loopback, target: Path) -> None:
    asked, go = threading.Event(), threading.Event()

    def slow(handler: Handler) -> None:
        asked.set()
        go.wait(HANG_S)
        serve(CONTENT)(handler)

    server.answers["/x"] = slow
    with start(f"{server.base}x", target) as one:
        assert asked.wait(HANG_S)
        with start(f"{server.base}x", target) as two:
            assert first_line(two) == "Waiting for another process that is fetching t10k.gz.\n"
            go.set()
    assert (one.returncode, two.returncode) == (0, 0)
    assert server.requests == ["/x"]
    assert target.read_bytes() == CONTENT
    assert names_in(target.parent) == ["t10k.gz"]


@pytest.mark.fault("F")
def test_after_kill_9_the_next_one_fetches(server: Loopback, target: Path) -> None:
    server.answers["/x"] = in_turn(serve(HALF, length=len(CONTENT), then_hang=True), serve(CONTENT))
    with start(f"{server.base}x", target) as process:
        assert first_line(process) == "Downloading t10k.gz\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert names_in(target.parent) == [".t10k.gz.lock", "t10k.gz.part"]
    fetch(f"{server.base}x", target=target)
    assert target.read_bytes() == CONTENT
    assert names_in(target.parent) == ["t10k.gz"]


def test_many_waiters_hold_the_lock_one_at_a_time(target: Path) -> None:
    inside, most, report = [0], [0], QuietReport()

    def work() -> None:
        for _ in range(20):
            with exclusive(target, report=report) as is_locked:
                assert is_locked
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.0005)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert names_in(target.parent) == []
    assert "Waiting for another process that is fetching t10k.gz." in report.notes


def test_works_on_a_file_system_without_locks(
    server: Loopback, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    server.answers["/x"] = serve(CONTENT)
    fetch(f"{server.base}x", target=target)
    assert target.read_bytes() == CONTENT
