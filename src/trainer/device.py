"""The device, number formats, threads and seeds of a run. Nothing here knows models or data."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import random
import sys
from pathlib import Path

import torch

from trainer.config.checks import MAX_THREADS
from trainer.errors import EnvironmentFault, counted, printable
from trainer.state_checks import Count, check

# Parameters of mallopt, malloc.h of glibc.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_KEPT_BYTES = 1 << 30  # free memory at the top of the heap, above which some is returned
_GROWTH_BYTES = 1 << 20

# Devices whose kernels know no float64.
_NO_FLOAT64 = ("mps",)

# Ways to run a model.
EAGER = "eager"
COMPILED = "compiled"


def pick_device(name: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.

    Raises EnvironmentFault when it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise EnvironmentFault(
            f"trainer.device=mps, but PyTorch sees no Apple GPU (torch {torch.__version__}).",
            hint="Use trainer.device=cpu or trainer.device=auto.",
        )
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise EnvironmentFault(
                f"trainer.device={name}, but PyTorch sees no CUDA device (torch "
                f"{torch.__version__}).",
                hint="Use trainer.device=cpu or trainer.device=auto.",
            )
        if device.index is not None and device.index >= count:
            raise EnvironmentFault(
                f"trainer.device={name}, but there are only {count} CUDA devices.",
                hint=f"Use cuda:0 to cuda:{count - 1}, or trainer.device=auto.",
            )
    return device


def sum_dtype(device: torch.device) -> torch.dtype:
    """The widest type that sums can have on a device: float64, or float32 on an Apple GPU."""
    return torch.float32 if device.type in _NO_FLOAT64 else torch.float64


def device_label(device: torch.device) -> str:
    """The device for a person: the name of the GPU, or the number of CPU threads."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type != "cpu":
        return f"{device} (untested)"
    return f"cpu ({counted(torch.get_num_threads(), 'thread')})"


def device_name(device: torch.device) -> str:
    """The model of the GPU or CPU, as far as the system knows it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    # platform.processor() is empty on most Linux systems.
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, torch and NumPy: first weights and dropout, not data.

    NumPy's is for a person's own model; that of a module which is not imported draws nothing.
    """
    random.seed(seed)
    torch.manual_seed(seed)
    if (numpy := sys.modules.get("numpy.random")) is not None:
        numpy.seed(seed % 2**32)


def set_determinism(deterministic: bool) -> None:
    """Refuse operations that may give other bits from run to run, or allow them again."""
    if deterministic:
        # cuBLAS reads it when CUDA starts; without it torch refuses matrix products.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Only where it changes: to set it, torch imports its compiler, which takes longer than torch.
    if deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic


@functools.cache
def _default_threads() -> int:
    # Read before the first change: torch does not remember its own choice.
    return torch.get_num_threads()


def set_threads(threads: int | None) -> None:
    """Use `threads` CPU threads; None is torch's own choice, whatever an earlier job set."""
    default = _default_threads()
    torch.set_num_threads(default if threads is None else threads)


def disable_malloc_trim() -> None:
    """Let the C library's allocator keep freed memory for the next step.

    Every step frees its activations and allocates as much again. Memory returned to the system
    comes back as a page fault and zeros per page: 2,400 faults a step of the cnn, a third of its
    time on 2 cores, half of lenet5's. Only glibc has this call.
    """
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.pythonapi.mallopt
        # A large block by mmap would be returned with every free, whatever the threshold.
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TOP_PAD, _GROWTH_BYTES)


def autocast_dtype(precision: str) -> torch.dtype | None:
    """The dtype of autocast for `fp32` (None: no autocast), `bf16` or `fp16`."""
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


class Machine:
    """What decides the last bits of a result beside the config, as an entry of the state table.

    That is the device, the CPU threads, torch, and the way the model is run (before a resume
    `saved_variant`). A resume sets the number of threads as it was, unless the config sets one.
    `differences` lists what differs from the saved machine, for which the last bits may differ too.
    """

    def __init__(self, device: torch.device, *, threads: int | None) -> None:
        self._device = device
        self._threads = threads
        self.variant = EAGER
        self.saved_variant: str | None = None
        self.differences: list[str] = []

    def state_dict(self) -> dict[str, object]:
        """Device type, threads in use, torch's version, the way the model is run."""
        return {
            "device": self._device.type,
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
            "variant": self.variant,
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Use the threads of `state`; raises ValueError for what `state_dict` did not give."""
        check(state, device=str, threads=Count, torch=str, variant=str)
        if state["variant"] not in (EAGER, COMPILED):
            raise ValueError("variant is unknown")
        self.saved_variant = str(state["variant"])
        threads = int(str(state["threads"]))
        if not 1 <= threads <= MAX_THREADS:
            raise ValueError(f"threads is not between 1 and {MAX_THREADS}")
        # Another number of threads adds up in another order: the last bits would differ.
        if self._threads is None:
            torch.set_num_threads(threads)
        now = self.state_dict()
        labels = {"device": "on {}", "threads": "with {} CPU threads", "torch": "by torch {}"}
        self.differences = [
            f"saved {label.format(printable(state[key])[:40])}, now {now[key]}"
            for key, label in labels.items()
            if state[key] != now[key]
        ]


class RandomState:
    """The global generators, as an entry of the state table: of Python, NumPy, torch and CUDA.

    Those of NumPy and CUDA are there where they may have been used.
    """

    def state_dict(self) -> dict[str, object]:
        """Every generator's state, as tensors and plain values."""
        state: dict[str, object] = {"python": random.getstate(), "torch": torch.get_rng_state()}
        is_used = False
        # To ask an unused GPU for its state would start CUDA, and take memory on each.
        if torch.cuda.is_available():
            is_used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        if is_used:
            state["cuda"] = torch.cuda.get_rng_state_all()
        if "numpy" in sys.modules:
            state["numpy"] = _numpy_state()
        return state

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Restore every generator; raises ValueError for what `state_dict` did not give."""
        # Checkpoints of 0.1.0 have no generator of NumPy.
        check(state, {"cuda": list, "numpy": dict}, python=tuple, torch=torch.Tensor)
        random.setstate(state["python"])  # type: ignore[arg-type]
        torch.set_rng_state(state["torch"])  # type: ignore[arg-type]
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda"])  # type: ignore[arg-type]
        if "numpy" in state:
            _set_numpy_state(state["numpy"])


def _numpy_state() -> dict[str, object]:
    """The state of NumPy's global generator, with its 624 words as a tensor."""
    import numpy as np

    _, words, place, has_normal, normal = np.random.get_state(legacy=True)
    return {
        "words": torch.from_numpy(np.asarray(words).view(np.int32).copy()),
        "place": int(place),
        "has_normal": int(has_normal),
        "normal": float(normal),
    }


def _set_numpy_state(state: object) -> None:
    """Restore what `_numpy_state` returned; raises ValueError for anything else."""
    import numpy as np

    check(state, words=torch.Tensor, place=Count, has_normal=Count, normal=float)
    assert isinstance(state, dict), "it was checked"
    words = state["words"]
    if words.dtype != torch.int32 or words.shape != (624,) or state["place"] > 624:
        raise ValueError("the state of NumPy's generator is not one")
    generator = ("MT19937", words.numpy().view(np.uint32), state["place"])
    np.random.set_state((*generator, state["has_normal"], state["normal"]))
