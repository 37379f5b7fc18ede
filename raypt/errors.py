"""The one error class for mistakes a user can mend."""


class UserError(Exception):
    """A mistake in the configuration or in the input.

    The message says what is wrong, where (configuration key, or file and row) and how to mend it. Jobs print it without
    a traceback and exit with status 2. Broken invariants of raypt itself are assertions instead.
    """
