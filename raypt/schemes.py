"""Which URIs this machine can reach: a scheme's package is named before work starts, not when a worker meets it."""

import fsspec

from raypt.errors import UserError

EXTRAS = {"s3": "raypt[s3]", "s3a": "raypt[s3]", "gs": "raypt[gcs]", "gcs": "raypt[gcs]", "hf": "raypt[hf]"}
"""What to install for a scheme that raypt has an extra for."""


def check_scheme(uri: str, key: str) -> None:
    """Make sure that the file system of a URI can be used here; a path without a scheme always can.

    Raises:
        UserError: its package is not installed, or fsspec knows no such scheme; `key` is what names the URI.
    """
    scheme, separator, _ = uri.partition("://")
    if not separator:
        return
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as e:
        wanted = f"pip install '{EXTRAS[scheme]}'" if scheme in EXTRAS else str(e)
        raise UserError(f"{key}: {scheme}:// needs a package that is not installed here: {wanted}") from None
    except ValueError:
        raise UserError(f"{key}: {uri}: no file system is known by {scheme}:// (a local path has no scheme)") from None
