"""What the path of a file says of it and of its records."""

from urllib.parse import unquote

from raypt.outside import redact

NULL = "__HIVE_DEFAULT_PARTITION__"


def plain_path(uri: str) -> str:
    """A URI without the query that a web server gets (signatures, mostly); file names elsewhere may hold any sign."""
    return uri.partition("?")[0].partition("#")[0] if uri.startswith(("http://", "https://")) else uri


def file_name(uri: str) -> str:
    """The last component of a URI, as it may be shown."""
    return plain_path(redact(uri)).rsplit("/", 1)[-1]


def partitions(uri: str) -> dict[str, str | None]:
    """Fields in the directories of a path, as Hive, Spark and Arrow write them: `year=2024/lang=en/part-0.parquet`."""
    out: dict[str, str | None] = {}
    for part in uri.split("/")[:-1]:
        key, equals, value = part.partition("=")
        if equals and key and not key.startswith("?"):
            out[unquote(key)] = None if value == NULL else unquote(value)
    return out
