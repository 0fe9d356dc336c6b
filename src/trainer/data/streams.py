"""The batches of the parts of a person's data set: streamed, and cached where that is wanted."""

from __future__ import annotations

import torch

from trainer.config.data import CustomDataConfig
from trainer.data.batches import Batches
from trainer.data.cached import CachedBatches, SampleStore
from trainer.data.dataset import EpochHook, Part, StreamedBatches
from trainer.data.image_sets.download import Report


class Streams:
    """Makes the batches of parts as `config` says; parts of one data set share its epoch."""

    def __init__(
        self, config: CustomDataConfig, *, seed: int, device: torch.device, report: Report
    ) -> None:
        self._config = config
        self._seed = seed
        self._device = device
        self._report = report
        self._hooks: list[EpochHook] = []

    def for_training(self, part: Part, store: SampleStore | None) -> Batches:
        """Shuffled batches of the training part."""
        size = self._config.batch_size
        drop_last = self._config.drop_last
        streamed = self._stream(part, size, is_shuffled=True, drop_last=drop_last)
        if store is None:
            return streamed
        return CachedBatches(
            streamed, store, batch_size=size, shuffle_seed=self._seed, drop_last=drop_last
        )

    def for_eval(self, part: Part, store: SampleStore | None) -> Batches:
        """All samples of a part, in their order."""
        size = self._config.eval_batch_size
        streamed = self._stream(part, size, is_shuffled=False, drop_last=False)
        return streamed if store is None else CachedBatches(streamed, store, batch_size=size)

    def split(self, part: Part | None) -> Batches | None:
        """The batches of a part to evaluate, if there is one."""
        if part is None:
            return None
        part = part.limited(self._config.eval_limit)
        return self.for_eval(part, self.make_store(part))

    def make_store(self, part: Part) -> SampleStore | None:
        """Memory for samples that do not change, as the config or the data set says."""
        is_cached = self._config.cache
        if is_cached is None:
            is_cached = getattr(part.dataset.source, "trainer_cache", False) is True
        return SampleStore(len(part), warn=self._report.warn) if is_cached else None

    def _stream(
        self, part: Part, batch_size: int, *, is_shuffled: bool, drop_last: bool
    ) -> StreamedBatches:
        streamed = StreamedBatches(
            part,
            batch_size=batch_size,
            num_workers=self._config.num_workers,
            device=self._device,
            seed=self._seed,
            is_shuffled=is_shuffled,
            drop_last=drop_last,
        )
        for hook in self._hooks:
            if hook.dataset is streamed.hook.dataset:
                streamed.hook = hook
        self._hooks.append(streamed.hook)
        return streamed
