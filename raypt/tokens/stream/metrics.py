"""What the stream tells Ray's metrics: counters `raypt_stream_*`, which Ray exports as `ray_raypt_stream_*`."""

from typing import Any

COUNTERS = {
    "samples": "Samples handed to the trainers",
    "tokens": "Tokens of those samples, padding included",
    "wait_seconds": "Seconds that fetchers waited for shards that were not tokenized yet",
    "shards_tokenized": "Shards of the token store that were made",
    "tokens_made": "Tokens packed into them",
}


class StreamMetrics:
    """Adds to the counters; to nothing where Ray is not running."""

    def __init__(self) -> None:
        import ray

        self._counters: dict[str, Any] = {}
        if ray.is_initialized():
            from ray.util.metrics import Counter

            self._counters = {key: Counter(f"raypt_stream_{key}", description=text) for key, text in COUNTERS.items()}

    def add(self, **amounts: float) -> None:
        for key, amount in amounts.items():
            if amount > 0 and key in self._counters:
                self._counters[key].inc(amount)
