"""Loaded in the process that jobs are forked from, and nowhere else: what every job needs, and no signal ends it.

Torch computes nothing here: its threads would not outlive the fork.
"""

import signal

from trainer.leaving import STOPPING

# A signal to all is for the sweep, which passes it on to the jobs; without this process it could not see them end.
# Blocked and not ignored: what comes to a job that was just forked waits until it is ready.
signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)

import numpy as np  # noqa: E402

import trainer.commands.fit  # noqa: E402
import trainer.commands.sweep.job  # noqa: E402
import trainer.tracking.tensorboard.tracker  # noqa: E402, F401
from trainer.tracking.tensorboard.figures import confusion_figure  # noqa: E402

# Loads matplotlib, and fills its caches of fonts, for which each job would need 0.1 s.
confusion_figure(np.eye(2, dtype=np.int64), ("a", "b"))
