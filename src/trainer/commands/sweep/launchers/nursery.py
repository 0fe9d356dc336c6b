"""Loaded in the process that jobs are forked from, and nowhere else: what every job needs, and no signal ends it.

Nothing is computed here: threads of torch would not outlive the fork.
"""

from trainer.leaving import ignore_signals

# A signal to all is for the sweep, which passes it on to the jobs; without this process it could not see them end.
ignore_signals()

import matplotlib.backends.backend_agg  # noqa: E402
import matplotlib.figure  # noqa: E402, F401
import torch._inductor  # noqa: E402, F401 (torch's optimizers import it)

import trainer.commands.fit  # noqa: E402
import trainer.commands.sweep.job  # noqa: E402
import trainer.tracking.tensorboard.tracker  # noqa: E402, F401
