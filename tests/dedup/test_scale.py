import dataclasses

import pytest

from raypt.dedup.config import DedupConfig
from raypt.dedup.scale import ROUNDS, Costs, needs, table

COSTS = Costs(
    document_bytes=1000.0,
    members_share=0.1,
    text_cpu_s=1e-8,
    document_cpu_s=1e-6,
    row_cpu_s=1e-7,
    star_cpu_s=1e-6,
    member_cpu_s=1e-5,
    document_file_bytes=300.0,
    member_file_bytes=100.0,
)


def test_needs_add_up_the_costs_of_each_pass() -> None:
    found = needs(COSTS, DedupConfig(), 10**6, cores=10)
    seconds = 10**6 * (1000 * 1e-8 + 1e-6 + 14 * 1e-7) + 10**5 * 1e-5
    assert found.core_hours == pytest.approx(seconds / 3600)
    assert found.hours == pytest.approx(found.core_hours / 10)
    assert found.file_bytes == pytest.approx(10**6 * 300 + 10**5 * 100)
    assert found.rounds == 0


def test_needs_reckon_with_star_passes_where_the_components_do_not_fit() -> None:
    few, many = (needs(COSTS, DedupConfig(memory_mb=memory), 10**9, 1) for memory in (2**20, 1024))
    assert (few.rounds, many.rounds) == (0, ROUNDS)
    assert many.core_hours - few.core_hours == pytest.approx(ROUNDS * 10**8 * 1e-6 / 3600)


def test_partitions_keep_to_the_memory_of_a_task() -> None:
    found = needs(COSTS, DedupConfig(memory_mb=1024), 10**9, 1)
    rows = 10**9 * 14 / found.partitions
    assert rows * 16 < 2**30 / 4


def test_table_has_a_line_a_size() -> None:
    rows = [needs(COSTS, DedupConfig(), n, 256) for n in (10**9, 10**10)]
    lines = table([*rows, dataclasses.replace(rows[0], documents=5)]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line.split()[0] for line in lines[1:]] == ["1e+09", "1e+10", "5e+00"]
