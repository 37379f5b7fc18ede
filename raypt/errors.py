"""Mistakes a user can mend, and the end that somebody else asked for."""


class UserError(Exception):
    """A mistake in the configuration or in the input.

    The message says what is wrong, where (configuration key, or file and row) and how to mend it. Jobs print it without
    a traceback and exit with status 2. Broken invariants of raypt itself are assertions instead.
    """


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM: `ray job stop`, a preempted node, a batch system's time limit).

    Raised on the main thread, where it unwinds as any KeyboardInterrupt: `except Exception` lets it through, and each
    `finally` gets its turn. A job exits with status 143 then, and the same command resumes it. `args[0]` says why.
    Ray's own waits (`ray.get`, `ray.wait`) end at once for a KeyboardInterrupt alone, and pass on a plain one: whoever
    acts on an end catches KeyboardInterrupt, and the frame of the job tells the two apart.
    """
