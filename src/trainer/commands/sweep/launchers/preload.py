"""Imported in the process that jobs are forked from, and nowhere else: what every job needs.

Torch computes nothing here: its threads would not survive the fork.
"""

from __future__ import annotations

import numpy as np

import trainer.commands.fit.run
import trainer.commands.sweep.worker
import trainer.tracking.tensorboard.tracker  # noqa: F401
from trainer.tracking.tensorboard.figures import confusion_figure

# Loads matplotlib and fills its caches of fonts, which would cost each job 0.1 s.
confusion_figure(np.eye(2, dtype=np.int64), ("a", "b"))
