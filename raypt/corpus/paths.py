"""What the path of a file says of its records."""

from urllib.parse import unquote

NULL = "__HIVE_DEFAULT_PARTITION__"


def partitions(uri: str) -> dict[str, str | None]:
    """Fields in the directories of a path, as Hive, Spark and Arrow write them: `year=2024/lang=en/part-0.parquet`."""
    out: dict[str, str | None] = {}
    for part in uri.split("/")[:-1]:
        key, equals, value = part.partition("=")
        if equals and key and not key.startswith("?"):
            out[unquote(key)] = None if value == NULL else unquote(value)
    return out
