"""The load benchmark on a tiny setting: it measures what it says, and nothing gets lost under it."""

from __future__ import annotations

import pytest
from benchmarks import service_load


@pytest.mark.timeout(300)
def test_uploads_side_by_side_are_all_done_once() -> None:
    found = service_load.load(uploaders=5, clips=4, workers=1, paced=1)
    assert (found["uploads"], found["jobs_done"], found["lost"], found["finished_twice"]) == (25, 25, 0, 0)
    for part in ("as_fast_as_they_can", "one_a_second_each"):
        assert 0 < found[part]["post_p50_ms"] <= found[part]["post_p95_ms"] < 30_000
    # The client must not take what it measures.
    fast = found["as_fast_as_they_can"]
    assert fast["client_cpu_ms_per_upload_and_look"] < fast["server_cpu_ms_per_upload_and_look"]
    memory = found["server_memory_mb_by_share_of_jobs_done"]
    assert list(memory) == [0.25, 0.5, 0.75, 1.0]
    assert all(20 < megabytes < 2000 for megabytes in memory.values())


def test_the_sizing_table_is_computed_from_the_cost() -> None:
    rows = [row.split("|") for row in service_load.sizing(10.0).splitlines()[2:]]
    cores = {row[1].strip(): int(row[3].replace(",", "")) for row in rows}
    assert list(cores)[-1] == "10,000,000"
    # 115.7 videos a second, 10 processor seconds each, planned 60 % full.
    assert cores["10,000,000"] == pytest.approx(10_000_000 / 86_400 * 10 / 0.6, abs=1)
    assert cores["100"] == 1
