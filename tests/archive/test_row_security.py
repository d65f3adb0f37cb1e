"""Who sees which rows in a database with users: each user the calls of its own requests, the service all, others none."""

from __future__ import annotations

import pytest

from service.archive.migrate import numbered_migrations
from tests.support.archives import make_tables, open_archive
from tests.support.postgres_server import PostgresProcess, PostgresRefusedError
from tests.support.store_events import change, lifetime_of

ONE, OTHER = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
"""Users, and the requests of each, as both are UUIDs."""

NOBODYS = "00000000-0000-4000-8000-000000000003"

SUPABASE = f"""
CREATE SCHEMA auth;
GRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role;
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT current_setting('request.uid', true)::uuid $$;
CREATE TABLE service_requests (id uuid PRIMARY KEY, user_id uuid);
INSERT INTO service_requests VALUES ('{ONE}', '{ONE}'), ('{OTHER}', '{OTHER}'), ('{NOBODYS}', NULL);
GRANT SELECT ON service_requests TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role;
"""
"""As Supabase sets up a database, with requests in it. Its roles are those of the whole server."""

ROLES = ("anon", "authenticated", "service_role")
TABLES = ("vapi_call_results", "vapi_call_deletions", "vapi_forgotten_phones", "vapi_archive_migrations")


@pytest.fixture
async def supabase(postgres_process: PostgresProcess) -> str:
    postgres_process.create_roles(*ROLES)
    return postgres_process.create_database()


async def test_each_user_sees_the_calls_of_its_own_requests_and_nothing_else(
    postgres_process: PostgresProcess, supabase: str
) -> None:
    postgres_process.ask(SUPABASE, supabase)
    await make_tables(postgres_process.url_of(supabase))
    # The service connects as a role that the policies let through, not as the owner of the tables.
    archive = open_archive(postgres_process.url_of(supabase, "service_role"))
    calls = [
        lifetime_of(change(name, at_ms=1, service_request_id=f'"{request}"'))
        for name, request in (("of-one", ONE), ("of-other", OTHER), ("of-nobody", NOBODYS), ("unlinked", "none"))
    ]
    assert (await archive.write(calls, {b"gone": 5})).failed == {}
    await archive.forget("+18645550123", now_ms=5)
    await archive.close()

    def seen(role: str, user: str = "") -> list[str]:
        question = f"SET request.uid = '{user}'; SELECT call_id FROM vapi_call_results ORDER BY 1"
        return postgres_process.ask(question, supabase, role).split()

    assert seen("authenticated", ONE) == ["of-one"]
    assert seen("authenticated", OTHER) == ["of-other"]
    assert seen("anon") == []
    assert seen("service_role") == ["of-nobody", "of-one", "of-other", "unlinked"]
    for table in TABLES[1:]:
        rows = len(numbered_migrations()) if table == "vapi_archive_migrations" else 1
        assert postgres_process.ask(f"SELECT count(*) FROM {table}", supabase) == str(rows)
        assert postgres_process.ask(f"SELECT count(*) FROM {table}", supabase, "anon") == "0"
    for role in ("anon", "authenticated"):
        with pytest.raises(PostgresRefusedError, match="row-level security"):
            postgres_process.ask("INSERT INTO vapi_call_deletions VALUES ('x', now())", supabase, role)
        changed = f"SET request.uid = '{ONE}'; WITH gone AS (DELETE FROM vapi_call_results RETURNING 1) SELECT count(*) FROM gone"
        assert postgres_process.ask(changed, supabase, role) == "0"
