"""What the doctor says about a Redis user that may do too little."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from service.config import Settings
from service.load_config import load_settings
from service.redis_client.topology import open_redis
from service.store.keys import Keys
from service.store.rights import Rights, find_missing_rights
from tests.support.cluster_setup import ClusterSetup
from tests.support.diagnosis import NOBODY_THERE, Diagnosis, diagnose, diagnose_until
from tests.support.redis_server import RedisProcess
from tests.support.redis_topologies import ask
from tests.support.replica import ROOT
from tests.support.service_rights import ARCHIVE_RULE, RULE

COMMANDS = [word for word in RULE.split() if word.startswith("+")]
ONLY_WITH_A_DATABASE = "+select"
"""Sent while connecting, so a user without it reaches nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisProcess]:
    server = RedisProcess().start()
    yield server
    server.stop()


def settings_of(server: RedisProcess, **more: str) -> Settings:
    given = {"redis_url": f"redis://service:password@127.0.0.1:{server.port}", "store_wait_replicas": "1", **more}
    return load_settings({name.upper(): value for name, value in given.items()})


def set_user(server: RedisProcess, *rule: str) -> None:
    ask(server, "ACL", "SETUSER", "service", "reset", "on", ">password", *rule)
    server.client.client_kill_filter(_type="normal", skipme=True)


async def rights_at(server: RedisProcess, **more: str) -> Rights:
    settings = settings_of(server, **more)
    redis = open_redis(settings, Keys(settings.redis_key_prefix).probes)
    redis.commands.start()
    try:
        return await find_missing_rights(redis, settings, 0)
    finally:
        await redis.commands.close()


async def test_the_documented_user_lacks_nothing(server: RedisProcess) -> None:
    set_user(server, *RULE.split())
    assert await rights_at(server) == Rights((), ())


async def test_every_command_that_is_missing_is_named(server: RedisProcess) -> None:
    wrong = []
    for command in COMMANDS:
        set_user(server, *(word for word in RULE.split() if word != command))
        rights = await rights_at(server)
        if command != ONLY_WITH_A_DATABASE and command not in (*rights.missing, *rights.missing_optional):
            wrong.append((command, rights))
    assert wrong == []


async def test_only_one_is_named_when_only_one_is_missing(server: RedisProcess) -> None:
    for command in ("+hset", "+eval", "+publish", "+subscribe"):
        set_user(server, *(word for word in RULE.split() if word != command))
        assert await rights_at(server) == Rights((command,), ())
    set_user(server, *(word for word in RULE.split() if word != "+info"))
    assert await rights_at(server) == Rights((), ("+info",))


@pytest.mark.parametrize(("rule", "missing"), [("~vapi:*", "~vapi:*"), ("&vapi:*", "&vapi:*")])
async def test_keys_and_channels_that_are_not_allowed_are_named(server: RedisProcess, rule: str, missing: str) -> None:
    set_user(server, *(word for word in RULE.split() if word != rule))
    assert missing in (await rights_at(server)).missing


async def test_another_prefix_than_the_users_is_found(server: RedisProcess) -> None:
    set_user(server, *RULE.split())
    assert (await rights_at(server, redis_key_prefix="other")).missing == ("&other:*", "~other:*")


def test_the_doctor_says_what_to_give_the_user(server: RedisProcess) -> None:
    set_user(server, *(word for word in RULE.split() if word not in ("+zcount", "+hlen")))
    url = f"redis://service:password@127.0.0.1:{server.port}"
    found = diagnose("--url", NOBODY_THERE, redis_url=url).one("redis", "rights")
    assert (found.level, found.found) == ("error", "the user lacks +hlen +zcount")
    assert shlex.split(str(found.advice))[:5] == ["ACL", "SETUSER", "<user>", "+hlen", "+zcount,"]


def test_a_user_that_may_not_see_the_settings_is_told_so(server: RedisProcess) -> None:
    set_user(server, *(word for word in RULE.split() if word != "+info"))
    url = f"redis://service:password@127.0.0.1:{server.port}"
    diagnosis = diagnose("--url", NOBODY_THERE, redis_url=url)
    assert diagnosis.troubles("redis") == ["settings: warning", "rights: warning"]


def test_every_master_of_a_cluster_is_looked_at() -> None:
    cluster = ClusterSetup().start()
    try:
        for node in cluster.nodes:
            ask(node, "CONFIG", "SET", "appendonly", "yes")
            ask(node, "CONFIG", "SET", "maxmemory", "512mb")
        one = cluster.masters()[0]
        ask(one, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")

        def diagnosis_with(*rights: str) -> Diagnosis:
            for node in cluster.nodes:
                ask(node, "ACL", "SETUSER", "service", "reset", "on", ">password", *RULE.split(), *rights)
            as_service = cluster.url.replace("://", "://service:password@")
            return diagnose("--url", NOBODY_THERE, redis_url=as_service)

        without_slots = diagnosis_with("+asking")
        diagnose_until(
            lambda found: found.level("redis", "rights") == "ok", lambda: diagnosis_with("+asking", "+cluster|slots")
        )
        unrestricted = diagnose_until(
            lambda found: found.level("redis", "rights") == "ok",
            lambda: diagnose("--url", NOBODY_THERE, redis_url=cluster.url),
        )
    finally:
        cluster.stop()
    assert without_slots.troubles("redis") == ["reachable: error"]
    assert "+cluster|slots" in str(without_slots.one("redis", "reachable").advice)
    assert unrestricted.troubles("redis") == ["topology: warning", "eviction: error", "replicas: warning"]
    assert f"127.0.0.1:{one.port}: maxmemory-policy is allkeys-lru" in unrestricted.one("redis", "eviction").found
    assert "3 masters" in unrestricted.one("redis", "reachable").found


async def test_what_the_archive_needs_is_named_only_with_an_archive(server: RedisProcess) -> None:
    database = {"database_url": "postgresql://nobody@127.0.0.1:9/nothing"}
    set_user(server, *RULE.split())
    assert await rights_at(server) == Rights((), ())
    assert sorted((await rights_at(server, **database)).missing) == sorted(ARCHIVE_RULE.split())

    set_user(server, *RULE.split(), *ARCHIVE_RULE.split())
    assert await rights_at(server, **database) == Rights((), ())
    assert ARCHIVE_RULE in (ROOT / "deploy" / "README.md").read_text()
