"""Two runs compared bit for bit, and a data set of a person's own that draws random numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from running import Run
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# A person's own data set that draws its augmentation from the global generators, as torchvision's
# transforms do.
OWN_DATA = """
import random, torch
class Noisy(torch.utils.data.Dataset):
    def __init__(self, size=90, offset=0):
        self.size, self.offset = size, offset
    def __len__(self):
        return self.size
    def __getitem__(self, index):
        label = (index + self.offset) % 3
        return torch.eye(3)[label] + 0.3 * torch.randn(3) + 0.1 * random.random(), label
"""
STREAMED = (
    "data=custom", "data.target=own_data.Noisy", "data.val_size=20", "data.test_kwargs={size: 40}",
    "data.num_classes=3", "data.batch_size=8", "model=mlp", "model.hidden=[8]", "model.dropout=0.2",
    "trainer.epochs=3", "logger.log_every=3", "logger.figures=false", "trainer.save_every=2steps",
)  # fmt: skip


def evidence(folder: Path) -> dict[str, Any]:
    """Everything that must be equal, by the name of its place."""
    last, best = folder / "checkpoints/last", folder / "checkpoints/best"
    found: dict[str, Any] = {
        "steps": Run(folder).steps,
        "last": last.resolve().name,
        "best": best.resolve().name,
    }
    for path in (
        last / "model.safetensors",
        last / "state.safetensors",
        best / "model.safetensors",
    ):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                found[f"{path.parent.name}/{path.name}: {name}"] = (
                    file.get_tensor(name).numpy().tobytes()
                )
            if path.name == "state.safetensors":
                table = json.loads(file.metadata()["trainer"])["table"]
                table["progress"].pop("seconds")
                found |= {f"state: {name}": entry for name, entry in table.items()}
    found["rows"] = [
        {key: value for key, value in row.items() if "second" not in key}
        for row in Run(folder).rows
    ]
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    for tag in sorted(
        set(events.Tags()["scalars"]) - {"Throughput/samples_per_second", "Memory/peak_resident"}
    ):
        found[tag] = [(event.step, event.value) for event in events.Scalars(tag)]
    return found


def assert_equal(found: Path, expected: Path) -> None:
    got, wanted = evidence(found), evidence(expected)
    assert [key for key in {**got, **wanted} if got.get(key) != wanted.get(key)] == []
    for tag in (key for key in got if "/" in key and isinstance(got[key], list)):
        steps = [step for step, _ in got[tag]]
        assert steps == sorted(set(steps)), f"{tag} has double or unordered points"
