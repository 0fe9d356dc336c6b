"""A real TensorBoard on a port of this machine, asked over HTTP as its pages ask it."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from waiting import HANG_S, wait_until


class Server:
    """A TensorBoard that is up."""

    def __init__(self, address: str) -> None:
        self._address = address

    def get(self, route: str, **query: str) -> bytes:
        """What is answered to a GET of /data/`route`."""
        url = f"{self._address}/data/{route}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=HANG_S) as answer:
            content: bytes = answer.read()
        return content

    def post(self, route: str, body: Any) -> Any:
        """The JSON answered to a POST of JSON to /data/`route`."""
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(
            f"{self._address}/data/{route}", json.dumps(body).encode(), headers
        )
        with urllib.request.urlopen(request, timeout=HANG_S) as answer:
            return json.load(answer)

    def runs(self) -> list[str]:
        """The names of the runs that were found so far."""
        found: list[str] = json.loads(self.get("runs"))
        return found


@contextlib.contextmanager
def serving(logdir: Path, *, runs: int) -> Iterator[Server]:
    """TensorBoard for `logdir`, once it has found so many runs."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir)]
    options = ["--port", "0", "--reload_interval", "1"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            address = next(
                found[0]
                for line in process.stderr
                if (found := re.search(r"http://localhost:\d+", line))
            )
            # What it says later must go somewhere, or it waits.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            server = Server(address)
            wait_until(lambda: len(server.runs()) == runs)
            yield server
        finally:
            process.terminate()
