from __future__ import annotations

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from service_under_test import make_clip, submit
from sqlalchemy.exc import DatabaseError
from typer.testing import CliRunner

from faceproof.cli import app
from faceproof.service import audit
from faceproof.service.site import Site


def fill(site: Site, count: int = 5) -> None:
    for number in range(count):
        with site.store.write() as session:
            audit.record(session, "someone", "job.submit", f"job-{number}")


def without_guards(site: Site, statement: str) -> None:
    """What someone with the database's file could do."""
    with site.store.engine.begin() as connection:
        for verb in ("update", "delete"):
            connection.exec_driver_sql(f"DROP TRIGGER audit_no_{verb}")
        connection.exec_driver_sql(statement)


def test_an_untouched_log_is_whole(site: Site) -> None:
    fill(site)
    found = audit.verify(site.store)
    assert found.whole
    assert found.entries == 5
    assert audit.verify(site.store, head=found.head).whole


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"])
def test_the_database_refuses_changes(site: Site, statement: str) -> None:
    fill(site)
    with pytest.raises(DatabaseError, match="append-only"), site.store.write() as session:
        session.execute(sa.text(statement))


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("UPDATE audit SET target = 'other' WHERE seq = 3", 3),
        ("UPDATE audit SET at = at + 1 WHERE seq = 5", 5),
        ("DELETE FROM audit WHERE seq = 2", 2),
        ("UPDATE audit SET seq = seq - 1 WHERE seq > 0", 1),
    ],
)
def test_whoever_gets_round_that_breaks_the_chain(site: Site, statement: str, place: int) -> None:
    fill(site)
    without_guards(site, statement)
    found = audit.verify(site.store)
    assert found.broken_at == place


def test_a_noted_hash_shows_that_the_end_was_cut_off(site: Site) -> None:
    fill(site)
    head = audit.verify(site.store).head
    without_guards(site, "DELETE FROM audit WHERE seq = 5")
    assert audit.verify(site.store).whole
    assert not audit.verify(site.store, head=head).whole


def test_it_records_who_did_what_but_nothing_about_the_file(idle: TestClient) -> None:
    job = submit(idle, make_clip(1), "secret-name.mp4")
    idle.delete(f"/v1/jobs/{job['id']}")
    site: Site = idle.app.state.site  # type: ignore[attr-defined]
    with site.store.read() as session:
        rows = session.scalars(sa.select(audit.AuditEntry).order_by(audit.AuditEntry.seq)).all()
    assert [(row.action, row.target) for row in rows] == [("job.submit", job["id"]), ("job.erase", job["id"])]
    assert "secret-name" not in str([vars(row) for row in rows])


def test_the_command_line_tells_whole_from_broken(site: Site) -> None:
    fill(site)
    data = str(site.settings.data)
    run = CliRunner()
    good = run.invoke(app, ["audit", "verify", "--data", data])
    assert good.exit_code == 0
    assert "5 entries, unbroken" in good.output
    without_guards(site, "UPDATE audit SET action = 'x' WHERE seq = 4")
    bad = run.invoke(app, ["audit", "verify", "--data", data])
    assert bad.exit_code == 1
    assert "entry 4" in bad.output
