"""The global generators of Python, torch (on the CPU) and NumPy, as samples find them: seeded."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch

from trainer.data.seeding import derive_seed

# The state of a Mersenne twister, as Python and NumPy have it: 624 words and a position.
_TWISTER_WORDS = 625
# By its name it is one of the readers that are watched.
_save_python = random.getstate


class SampleGenerators:
    """Reads samples as if every global generator were seeded anew for each of them.

    A sample is then the same in any worker and after any resume. Only the generators that the
    samples draw from are seeded: to seed all takes longer than to read a simple sample. The first
    sample shows which those are; a batch in which a sample draws from another one is read again.
    """

    def __init__(self) -> None:
        # None until a sample was read.
        self._used: dict[str, _Generator] | None = None

    def read(
        self,
        get: Callable[[int], Any],
        indices: Sequence[int],
        *,
        seed: int,
        numbers: Sequence[int] | None = None,
    ) -> list[Any]:
        """`[get(index), …]`; the generators are afterwards as they were.

        `numbers` seed the samples, with `seed`, where their indices do not.
        """
        wanted = _Wanted(get, indices, seed=seed, numbers=indices if numbers is None else numbers)
        if self._used is None and indices:
            first = self._read_first(wanted)
            return [first, *self._read(wanted.after_first())]
        return self._read(wanted)

    def _read_first(self, wanted: _Wanted) -> Any:
        """Seed them all, and note which of them the sample used."""
        generators = _generators()
        noted: set[str] = set()
        with seeded_generators(wanted.seed_of_first()), _noting_readers(generators, noted):
            fresh = {name: generator.peek() for name, generator in generators.items()}
            sample = wanted.get(wanted.indices[0])
            noted |= _moved(generators, fresh)
        self._used = {name: generators[name] for name in generators if name in noted}
        return sample

    def _read(self, wanted: _Wanted) -> list[Any]:
        """Seed those that are used, and look whether the others stay where they are."""
        used = self._used or {}
        others = {name: found for name, found in _generators().items() if name not in used}
        before = {name: generator.peek() for name, generator in others.items()}
        failure = None
        samples = []
        try:
            samples = wanted.read(used)
        except Exception as error:
            failure = error
        moved = _moved(others, before)
        if not moved:
            if failure is not None:
                raise failure
            return samples
        for name in moved:
            others[name].restore(before[name])
        self._used = used | {name: others[name] for name in moved}
        return self._read(wanted)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The samples of a batch: `get(index)` gives one, seeded by `seed` and its number."""

    get: Callable[[int], Any]
    indices: Sequence[int]
    seed: int
    numbers: Sequence[int]

    def after_first(self) -> _Wanted:
        return dataclasses.replace(self, indices=self.indices[1:], numbers=self.numbers[1:])

    def seed_of_first(self) -> int:
        return derive_seed(self.seed, self.numbers[0])

    def read(self, used: dict[str, _Generator]) -> list[Any]:
        """All samples; the generators `used` are seeded for each, and put back."""
        if not used:
            # Not by `map`, for which a StopIteration of the data set is the end.
            return [self.get(index) for index in self.indices]
        samples = []
        with _kept(used.values()):
            for index, number in zip(self.indices, self.numbers, strict=True):
                own_seed = derive_seed(self.seed, number)
                for generator in used.values():
                    generator.seed(own_seed)
                samples.append(self.get(index))
        return samples


class _Generator(Protocol):
    """One of the global generators."""

    @property
    def readers(self) -> Sequence[tuple[str, str]]:
        """Functions, by module and name, that give its state away: to call one is to use it."""

    def save(self) -> Any:
        """All of its state."""

    def restore(self, state: Any) -> None:
        """Put back what `save` or `peek` returned."""

    def seed(self, seed: int) -> None:
        """Start anew."""

    def peek(self) -> Any:
        """What every draw changes, for a comparison that takes a few microseconds."""


class _Python:
    """Python's generator, peeked at in memory: `getstate` takes 8 us."""

    readers = (("random", "getstate"),)

    def __init__(self) -> None:
        self._address = _twister_address()

    def save(self) -> Any:
        return _save_python()

    def restore(self, state: Any) -> None:
        if isinstance(state, Peek):
            position, *words = (ctypes.c_uint32 * _TWISTER_WORDS).from_buffer_copy(state.twister)
            state = (random.Random.VERSION, (*words, position), state.gauss_next)
        random.setstate(state)

    def seed(self, seed: int) -> None:
        random.seed(seed)

    def peek(self) -> Any:
        if self._address is None:
            return _save_python()
        twister = ctypes.string_at(self._address, 4 * _TWISTER_WORDS)
        return Peek(twister, getattr(_python_generator(), "gauss_next", None))


class Peek(NamedTuple):
    """Python's generator: position and words of the twister, and the half of a pair of normals."""

    twister: bytes
    gauss_next: float | None


def _python_generator() -> random.Random:
    """The one behind `random.random`."""
    return random.random.__self__  # type: ignore[attr-defined,no-any-return]


def _twister_address() -> int | None:
    """Where CPython has the twister of `random`: right after the head of the object.

    None where that is not so, as a comparison with what `getstate` returns shows.
    """
    generator = _python_generator()
    head = object.__basicsize__
    if type(generator).__basicsize__ < head + 4 * _TWISTER_WORDS:
        return None
    address = id(generator) + head
    state = (ctypes.c_uint32 * _TWISTER_WORDS).from_address(address)
    position, *words = state
    return address if (*words, position) == _save_python()[1] else None


class _Torch:
    readers = tuple(
        (module, name)
        for module in ("torch", "torch.random")
        for name in ("initial_seed", "get_rng_state")
    )

    def save(self) -> Any:
        return torch.default_generator.get_state()

    def restore(self, state: Any) -> None:
        if isinstance(state, bytes):
            state = torch.tensor(list(state), dtype=torch.uint8)
        torch.default_generator.set_state(state)

    def seed(self, seed: int) -> None:
        # Not torch.manual_seed: that would seed the GPU's generators as well.
        torch.default_generator.manual_seed(seed)

    def peek(self) -> Any:
        return torch.default_generator.get_state().numpy().tobytes()


class _Numpy:
    """The legacy generator, peeked at in memory: NumPy takes 0.1 ms to save and restore it."""

    readers = (("numpy.random", "get_state"),)

    def save(self) -> Any:
        return sys.modules["numpy"].random.get_state()

    def restore(self, state: Any) -> None:
        if isinstance(state, bytes):
            *words, position = (ctypes.c_uint32 * _TWISTER_WORDS).from_buffer_copy(state)
            state = ("MT19937", words, position)
        sys.modules["numpy"].random.set_state(state)

    def seed(self, seed: int) -> None:
        sys.modules["numpy"].random.seed(seed % 2**32)

    def peek(self) -> Any:
        bits = sys.modules["numpy"].random.mtrand._rand._bit_generator
        return ctypes.string_at(bits.ctypes.state_address, 4 * _TWISTER_WORDS)


_GENERATORS: dict[str, _Generator] = {"python": _Python(), "torch": _Torch(), "numpy": _Numpy()}
_WITHOUT_NUMPY = {name: found for name, found in _GENERATORS.items() if name != "numpy"}


def _generators() -> dict[str, _Generator]:
    """Those that are there: NumPy's only where something has loaded NumPy."""
    return _GENERATORS if "numpy" in sys.modules else _WITHOUT_NUMPY


def _moved(generators: dict[str, _Generator], before: dict[str, Any]) -> set[str]:
    """The names of those that are not where they were."""
    return {name for name, found in generators.items() if found.peek() != before[name]}


@contextlib.contextmanager
def _kept(generators: Iterable[_Generator]) -> Iterator[None]:
    """Put all back afterwards."""
    states = [(generator, generator.save()) for generator in generators]
    try:
        yield
    finally:
        for generator, state in states:
            generator.restore(state)


@contextlib.contextmanager
def seeded_generators(seed: int) -> Iterator[None]:
    """Seed every global generator, and put all back after the block."""
    generators = _generators().values()
    with _kept(generators):
        for generator in generators:
            generator.seed(seed)
        yield


@contextlib.contextmanager
def _noting_readers(generators: dict[str, _Generator], used: set[str]) -> Iterator[None]:
    """Add a generator's name to `used` when one of its `readers` is called."""

    def noting(name: str, reader: Callable[[], Any]) -> Callable[[], Any]:
        def noted() -> Any:
            used.add(name)
            return reader()

        return noted

    replaced = []
    for name, generator in generators.items():
        for module_name, function in generator.readers:
            module = sys.modules[module_name]
            reader = getattr(module, function)
            replaced.append((module, function, reader))
            setattr(module, function, noting(name, reader))
    try:
        yield
    finally:
        for module, function, reader in replaced:
            setattr(module, function, reader)
