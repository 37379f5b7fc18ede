"""Did training wait for samples, and why: the figures of a step, and a sentence for the log where it is too much."""

from dataclasses import dataclass, field

from raypt.tokens.stream.waits import CAUSES, Waits

WARM_UP_STEPS = 20
"""Steps after a start during which waiting is expected: the first blocks are on their way."""
TOO_MUCH = 0.01
"""Share of the time that may go by waiting without a word."""


@dataclass(frozen=True)
class StepWait:
    """How long a step waited for its samples: of all ranks', the longest, since the others wait for that rank."""

    seconds: float = 0.0
    waits: Waits = field(default_factory=Waits)

    def by_cause(self) -> dict[str, float]:
        """Seconds by cause; `preparing` is what the rank itself took to turn samples into micro-batches."""
        causes = {cause: getattr(self.waits, cause) for cause in CAUSES}
        return causes | {"preparing": max(0.0, self.seconds - self.waits.seconds)}


class WaitWatch:
    """Adds up the steps between two lines of the log."""

    def __init__(self) -> None:
        self._steps_since_start = 0
        self._reset()

    def _reset(self) -> None:
        self._steps, self._seconds, self._positions = 0, 0.0, 0
        self._wait = StepWait()

    def add(self, seconds: float, positions: int, wait: StepWait) -> None:
        """A step of `seconds` seconds that trained on `positions` tokens."""
        self._steps_since_start += 1
        if self._steps_since_start <= WARM_UP_STEPS:
            return
        self._steps, self._seconds, self._positions = (
            self._steps + 1,
            self._seconds + seconds,
            self._positions + positions,
        )
        self._wait = StepWait(self._wait.seconds + wait.seconds, self._wait.waits.plus(wait.waits))

    def reason(self) -> str | None:
        """Why the steps since the last call waited for samples, if they did for 1 % of their time or more."""
        steps, seconds, wait = self._steps, self._seconds, self._wait
        speed = self._positions / max(seconds, 1e-9)
        self._reset()
        if not steps or wait.seconds < TOO_MUCH * seconds:
            return None
        return explain(wait, steps, seconds, speed)


def explain(wait: StepWait, steps: int, seconds: float, tokens_per_s: float) -> str:
    """One sentence: how much, for what, and what to do about the main cause."""
    causes, waits = wait.by_cause(), wait.waits
    shown = {
        "shards": f"for shards still being tokenized (last: shard {waits.shard}, source {waits.source!r}, at "
        f"{waits.shard_tokens_per_s:,.0f} tokens/s a task; training takes {tokens_per_s:,.0f})",
        "reading": "for reading the token store",
        "transport": "for Ray Data and the object store to bring blocks",
        "preparing": "for making micro-batches of blocks",
    }
    remedy = {
        "shards": "the producer is behind: raise tokens.stream.tokenizers or ahead_shards, or give it more CPUs",
        "reading": "reading is slow: put the token store on faster storage, or raise tokens.stream.fetchers",
        "transport": "transport is slow: raise tokens.stream.block_bytes, ahead_steps or memory_bytes",
        "preparing": "the workers are short of CPU: raise train.cpus_per_worker",
    }
    main = max(causes, key=lambda cause: causes[cause])
    parts = [
        f"{s:.2f} s {shown[cause]}"
        for cause, s in sorted(causes.items(), key=lambda item: -item[1])
        if s >= 0.005 or cause == main
    ]
    return f"{wait.seconds / seconds:.1%} of the last {steps} steps went by waiting: {', '.join(parts)}; {remedy[main]}"
