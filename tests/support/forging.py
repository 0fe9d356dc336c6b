"""Forging checkpoint files with a seal that verifies, as a stranger can, and how a command must
refuse them.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import processes
from running import SMALL, Outcome

from trainer.checkpoint.file import BLANK_SEAL, DESCRIPTION_KEY, SEAL_KEY
from trainer.run.folder import MODEL_FILE, STATE_FILE


@dataclass
class Forged:
    """A checkpoint file taken apart: change what is to be wrong, and write it, sealed anew."""

    description: Any
    tensors: dict[str, Any] = field(default_factory=dict)
    data: bytes = b""

    @classmethod
    def of(cls, path: Path) -> Forged:
        """The parts of the file at `path`."""
        content = path.read_bytes()
        end = 8 + struct.unpack("<Q", content[:8])[0]
        tensors = json.loads(content[8:end])
        return cls(json.loads(tensors.pop("__metadata__")[DESCRIPTION_KEY]), tensors, content[end:])

    def add(self, name: str, *shape: int, data: bytes, dtype: str = "F32") -> None:
        """One more tensor, behind the others."""
        begin = len(self.data)
        self.data += data
        self.tensors[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [begin, len(self.data)],
        }

    def remove(self, name: str) -> None:
        """Take a tensor and its bytes away."""
        begin, end = self.tensors.pop(name)["data_offsets"]
        self.data = self.data[:begin] + self.data[end:]
        for entry in self.tensors.values():
            entry["data_offsets"] = [
                place - (end - begin) * (place > begin) for place in entry["data_offsets"]
            ]

    @property
    def header(self) -> str:
        """The header as JSON, its seal blank."""
        description = (
            self.description if isinstance(self.description, str) else json.dumps(self.description)
        )
        metadata = {DESCRIPTION_KEY: description, SEAL_KEY: BLANK_SEAL}
        return json.dumps({"__metadata__": metadata, **self.tensors}, separators=(",", ":"))

    def write(self, path: Path) -> str:
        """Write it to `path`; returns the seal."""
        return write_sealed(path, self.header, self.data)


def write_sealed(path: Path, header: str, data: bytes = b"") -> str:
    """Write the file of this header, in which the seal is blank, and these bytes, with a seal;
    returns the seal.
    """
    raw = header.encode()
    content = struct.pack("<Q", len(raw)) + raw + data
    seal = hashlib.sha256(content).hexdigest()
    path.write_bytes(content.replace(f'"{BLANK_SEAL}"'.encode(), f'"{seal}"'.encode(), 1))
    return seal


def forge_model(step: Path, change: Callable[[Forged], object]) -> None:
    """Change the model file of a step folder, and have the state beside it belong to it."""
    model, state = Forged.of(step / MODEL_FILE), Forged.of(step / STATE_FILE)
    change(model)
    state.description["model"] = model.write(step / MODEL_FILE)
    state.write(step / STATE_FILE)


def forge_state(step: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the table in the state file of a step folder."""
    state = Forged.of(step / STATE_FILE)
    change(state.description["table"])
    state.write(step / STATE_FILE)


def make_run(cwd: Path, *words: str) -> Path:
    """A real run of `trainer fit` in `cwd`/run, its last epoch complete, with four step folders."""
    base = (
        *SMALL,
        "optimizer=adam",
        "logger=none",
        "trainer.keep=9",
        "trainer.save_every=6steps",
        "run.dir=run",
    )
    outcome = processes.run("fit", *base, *words, cwd=cwd)
    assert outcome.code == 0, outcome.err
    return cwd / "run"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, byte for byte."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def assert_refused(outcome: Outcome, *said: str, code: int = 3) -> None:
    """Refused in three lines that say so, before anything was done."""
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert (
        len(lines) <= 3
        and lines[0].startswith("Error: ")
        and all(len(line) < 1000 for line in lines)
    )
    assert all(line.isprintable() for line in lines)
    assert [text for text in said if text not in outcome.err] == [], outcome.err


def put(table: Any, place: str, value: Any) -> None:
    """Set `model.hidden` and the like in nested tables; a number is the place in a list."""
    *way, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    for part in way:
        table = table[part]
    table[last] = value
