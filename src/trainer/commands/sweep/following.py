"""What a running job has written to its metrics.jsonl since the last look, and how far it is; nothing is drawn here.

The file is another process's, perhaps another machine's: nothing in it is believed, and looking never waits or raises.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Any

from trainer.rundir import read_json
from trainer.tracking.metrics_file import FILE_NAME, MAX_LINE_BYTES, parse_row

# What is read of a job in one look. Of more than that only the end counts: what the job does now.
_MAX_BYTES = 64 * 1024


class Following:
    """A running job: `train` and `val` are its last rows of these splits, `fraction` is how much of it is done, 0 to 1.

    `fraction` goes back only when the file is another or shorter: a resumed run begins at its checkpoint.
    """

    def __init__(self, run: Path, *, epochs: int, max_steps: int | None) -> None:
        self._run, self._path = run, run / FILE_NAME
        self._epochs, self._max_steps = max(1, epochs), max_steps
        self._identity: tuple[int, int] | None = None
        self._has_begun, self._num_steps = False, 0
        self._start_over()

    def _start_over(self) -> None:
        self.train: dict[str, Any] | None = None
        self.val: dict[str, Any] | None = None
        self.fraction = 0.0
        self._epoch, self._step = 0, 0
        self._offset, self._rest = 0, b""

    @property
    def position(self) -> str:
        """`epoch 2/5`, both complete, or `step 40/100` where the limit of steps is nearer; or what it waits for."""
        if self.train is None and self.val is None:
            return "starting" if self._has_begun else "waiting"
        if self._max_steps and self._step / self._max_steps >= self._epoch / self._epochs:
            return f"step {self._step}/{self._max_steps}"
        return f"epoch {self._epoch}/{self._epochs}"

    def look(self) -> None:
        """Take in the rows that were appended since the last look."""
        with contextlib.suppress(OSError, ValueError):
            if not self._has_begun and (record := read_json(self._run / "run.json")):
                steps = record.get("steps")
                self._has_begun, self._num_steps = True, steps if type(steps) is int else 0
            self._take(self._appended())

    def _appended(self) -> bytes:
        found = self._path.stat()
        if not stat.S_ISREG(found.st_mode):
            return b""
        # A resume replaces the file; a person may shorten it.
        if (found.st_dev, found.st_ino) != self._identity or found.st_size < self._offset:
            self._start_over()
            self._identity = (found.st_dev, found.st_ino)
        if found.st_size - self._offset > _MAX_BYTES:
            self._offset, self._rest = found.st_size - _MAX_BYTES, b""
        if found.st_size == self._offset:
            return b""
        # Not blocking: it may have become a named pipe, which would wait for its writer.
        handle = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            data = os.pread(handle, found.st_size - self._offset, self._offset)
        finally:
            os.close(handle)
        self._offset += len(data)
        return data

    def _take(self, data: bytes) -> None:
        """The rows in `data`; a line without its end is kept until the rest of it comes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        # No row is as long, and what follows of such a line is no row either.
        if len(self._rest) > MAX_LINE_BYTES:
            self._rest = b""
        for line in lines:
            row = parse_row(line)
            if isinstance(row, str) or row["split"] == "test":
                continue
            if row["split"] == "train":
                self.train = row
            else:
                self.val = row
            self._advance(row)

    def _advance(self, row: dict[str, Any]) -> None:
        """How far the job is, by the counters of a row; each of them but the step may be null."""
        self._step, self._epoch = row["step"], int(min(max(0, row["epoch"] or 0), self._epochs))
        fractions = [self._step / steps for steps in (self._num_steps, self._max_steps) if steps and steps > 0]
        self.fraction = max(self.fraction, min(1.0, max([self._epoch / self._epochs, *fractions])))
