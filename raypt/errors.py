"""Mistakes a user can mend, and the end that somebody else asked for."""


class UserError(Exception):
    """A mistake in the configuration or in the input.

    The message says what is wrong, where (configuration key, or file and row) and how to mend it. Jobs print it without
    a traceback and exit with status 2. Broken invariants of raypt itself are assertions instead.
    """


class Terminated(BaseException):
    """The process was asked to end (SIGTERM: `ray job stop`, a preempted node, a batch system's time limit).

    Raised on the main thread, where it unwinds as KeyboardInterrupt does: `except Exception` lets it through, and each
    `finally` gets its turn. A job exits with status 143 then, and the same command resumes it. `args[0]` says why.
    """
