"""The commands of `python -m pipeline`, a module each with `add` and `run`, and the exit codes they share."""

DONE, REFUSED, NOT_UNDERSTOOD, NOTHING_FOUND, STOPPED, TERMINATED = 0, 1, 2, 3, 130, 143  # the last: 128 + signal
