"""The commands of `python -m pipeline`, a module each with `add` and `run`, and the exit codes they share."""

DONE, REFUSED, NOT_UNDERSTOOD, STOPPED, TERMINATED = 0, 1, 2, 130, 143  # the last two are 128 + signal
