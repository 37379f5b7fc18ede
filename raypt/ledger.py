"""The ledger: every document and every byte that enters a stage is kept, removed for a reason, or cut for a reason."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Amount:
    """Documents, and bytes of their UTF-8 text."""

    documents: int = 0
    bytes: int = 0

    def add(self, documents: int, nbytes: int) -> None:
        self.documents += int(documents)
        self.bytes += int(nbytes)


@dataclass
class StageAccount:
    """One stage. `in = kept + removed + edited` in bytes, `in = kept + removed` in documents.

    `removed` and `edited` are by reason; `edited` counts documents whose text was changed for that reason, and by how
    many bytes it became shorter (negative where a mask is longer than what it hides).
    """

    entered: Amount = field(default_factory=Amount)
    kept: Amount = field(default_factory=Amount)
    removed: dict[str, Amount] = field(default_factory=dict)
    edited: dict[str, Amount] = field(default_factory=dict)

    def merge(self, other: "StageAccount") -> None:
        self.entered.add(other.entered.documents, other.entered.bytes)
        self.kept.add(other.kept.documents, other.kept.bytes)
        for mine, theirs in ((self.removed, other.removed), (self.edited, other.edited)):
            for reason, amount in theirs.items():
                mine.setdefault(reason, Amount()).add(amount.documents, amount.bytes)

    def check(self, name: str) -> None:
        documents = self.kept.documents + sum(a.documents for a in self.removed.values())
        nbytes = self.kept.bytes + sum(a.bytes for a in [*self.removed.values(), *self.edited.values()])
        assert documents == self.entered.documents, f"stage {name} lost documents: {self}"
        assert nbytes == self.entered.bytes, f"stage {name} lost bytes: {self}"


@dataclass
class Ledger:
    """Accounts by stage, in the order in which documents pass them."""

    stages: dict[str, StageAccount] = field(default_factory=dict)

    def stage(self, name: str) -> StageAccount:
        """The account of a stage, opened at the end if there is none."""
        return self.stages.setdefault(name, StageAccount())

    def merge(self, other: "Ledger") -> "Ledger":
        """Add another part's accounts (another shard, or later stages); returns self."""
        for name, account in other.stages.items():
            self.stage(name).merge(account)
        return self

    def check(self, *, chained: bool = True) -> None:
        """Assert that each stage adds up, and (`chained`) that each receives what the one before it kept."""
        before: StageAccount | None = None
        for name, account in self.stages.items():
            account.check(name)
            if chained and before is not None:
                assert account.entered == before.kept, f"stage {name} received {account.entered}, not {before.kept}"
            before = account

    def to_json(self) -> dict[str, Any]:
        """`{stage: {in, kept, removed: {reason: ...}, edited: {reason: ...}}}`, amounts as {documents, bytes}."""

        def amounts(by_reason: dict[str, Amount]) -> dict[str, Any]:
            return {reason: vars(amount).copy() for reason, amount in by_reason.items()}

        return {
            name: {
                "in": vars(account.entered).copy(),
                "kept": vars(account.kept).copy(),
                "removed": amounts(account.removed),
                "edited": amounts(account.edited),
            }
            for name, account in self.stages.items()
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Ledger":
        """Inverse of `to_json` (the order of the stages is that of the mapping)."""
        ledger = cls()
        for name, entry in value.items():
            account = ledger.stage(name)
            account.entered, account.kept = Amount(**entry["in"]), Amount(**entry["kept"])
            account.removed = {reason: Amount(**amount) for reason, amount in entry["removed"].items()}
            account.edited = {reason: Amount(**amount) for reason, amount in entry.get("edited", {}).items()}
        return ledger

    def short(self) -> str:
        """The ledger as text: a line a stage, with what it kept and the reason for which it removed most."""
        first = next(iter(self.stages.values()), StageAccount()).entered
        rows = [("", "documents", "%", "bytes", "%", "")]
        for name, account in self.stages.items():
            kept, removed = account.kept, sorted(account.removed.items(), key=lambda item: -item[1].bytes)
            most = ""
            if removed:
                reason, amount = removed[0]
                others = f" and {len(removed) - 1} more" if len(removed) > 1 else ""
                most = f"most by {reason.removeprefix(f'{name}.')}: {amount.documents:,}{others}"
            shares = [
                f"{100 * part / whole:.1f}" if whole else "-"
                for part, whole in ((kept.documents, first.documents), (kept.bytes, first.bytes))
            ]
            rows.append((name, f"{kept.documents:,}", shares[0], f"{kept.bytes:,}", shares[1], most))
        widths = [max(len(r[i]) for r in rows) for i in range(5)]
        lines = (r[0].ljust(widths[0]) + "".join("  " + r[i].rjust(widths[i]) for i in range(1, 5)) for r in rows)
        return "\n".join(f"{line}  {r[5]}".rstrip() for line, r in zip(lines, rows, strict=True))
