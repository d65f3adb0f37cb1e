"""Judges what a Redis server says about itself. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from service.cli.doctor.findings import Finding, error, ok, warning
from service.config import Settings
from service.redis_client.wrong_topology import IS_A_CLUSTER
from service.store.server_info import ServerInfo

OLDEST: Final = (7, 0)

NEARLY_FULL: Final = 0.75
"""Above it the archive's backlog is given up, and a peak of calls soon fills the rest."""

SLOW_S: Final = 0.01
"""Each webhook and each poll waits for one round trip."""

SKEW_S: Final = 1.0
"""The service tells Kestra's pauses apart by their times, and compares them with Redis's clock."""

SIGNATURES_FAIL_S: Final = 120.0
"""A signature's timestamp may be five minutes off. This leaves room for VAPI's own clock."""


def judge(facts: ServerInfo, settings: Settings) -> Iterator[Finding]:
    yield _version(facts)
    yield from _topology(facts, settings)
    yield _eviction(facts)
    yield _memory(facts)
    yield _persistence(facts, settings)
    if not is_replica(facts):
        yield _replicas(facts, settings)


def is_replica(facts: ServerInfo) -> bool:
    return facts.info.get("role") == "slave"


def _version(facts: ServerInfo) -> Finding:
    found = re.match(r"(\d+)\.(\d+)", facts.version)
    if found is None:
        return warning("version", "Redis does not tell its version", f"see that it is {_dotted(OLDEST)} or newer")
    if (int(found[1]), int(found[2])) < OLDEST:
        return error("version", f"{facts.version} is too old", f"use Redis {_dotted(OLDEST)} or newer")
    return ok("version", facts.version)


def _topology(facts: ServerInfo, settings: Settings) -> Iterator[Finding]:
    scheme = settings.redis_url.split("://")[0]
    if facts.is_cluster and not scheme.endswith("+cluster"):
        yield error("topology", "REDIS_URL names one server, and it is a node of a Cluster", IS_A_CLUSTER)
    elif is_replica(facts):
        yield error(
            "topology",
            "REDIS_URL leads to a replica, which takes no writes",
            "name the master, or use redis+sentinel://, which follows it",
        )
    elif facts.config.get("cluster-require-full-coverage") == "yes" and facts.is_cluster:
        yield warning(
            "topology",
            "cluster-require-full-coverage is yes: one lost shard makes all others refuse",
            "CONFIG SET cluster-require-full-coverage no on every node, and the same in its file",
        )
    else:
        kind = {"cluster": "a Cluster", "sentinel": "a master behind Sentinels"}.get(
            scheme.rpartition("+")[2], "one server"
        )
        yield ok("topology", kind)


def _eviction(facts: ServerInfo) -> Finding:
    policy = facts.info.get("maxmemory_policy")
    if policy is None:
        return warning("eviction", "Redis does not tell its maxmemory-policy", "see that it is noeviction")
    if policy == "noeviction":
        return ok("eviction", "maxmemory-policy is noeviction")
    mend = "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf"
    if facts.number("maxmemory"):
        return error("eviction", f"maxmemory-policy is {policy}: Redis may evict acknowledged results", mend)
    return warning("eviction", f"maxmemory-policy is {policy}: with a maxmemory, results would be evicted", mend)


def _memory(facts: ServerInfo) -> Finding:
    used, most = facts.number("used_memory"), facts.number("maxmemory")
    if not most:
        return warning(
            "memory",
            "maxmemory is not set: when the machine is full, it kills Redis instead of refusing writes",
            "set maxmemory to two thirds of what Redis may have; rewriting the AOF needs the rest",
        )
    share = used / most
    found = f"{share:.0%} of {_size(most)} used"
    if share > NEARLY_FULL:
        return warning("memory", found, "raise maxmemory: a full Redis refuses webhooks, which are then spooled or 503")
    return ok("memory", found)


def _persistence(facts: ServerInfo, settings: Settings) -> Finding:
    fsync = facts.config.get("appendfsync")
    if facts.info.get("aof_enabled") != "1":
        mend = "CONFIG SET appendonly yes, and the same in redis.conf"
        if settings.store_wait_replicas:
            return warning("persistence", "appendonly is no: only the replicas keep what was acknowledged", mend)
        return error("persistence", "appendonly is no: a restart of Redis loses what was acknowledged", mend)
    if "err" in (facts.info.get("aof_last_write_status"), facts.info.get("aof_last_bgrewrite_status")):
        return error("persistence", "Redis cannot write its AOF", "look at Redis's log and at its disk")
    if fsync is None:
        return ok("persistence", "appendonly is yes; appendfsync is not shown to this user (+config|get)")
    if fsync == "no":
        return warning(
            "persistence",
            "appendfsync is no: a power loss takes what the system had not written, often 30 s",
            "CONFIG SET appendfsync everysec, or always where a lost result means phoning twice",
        )
    loses = {"everysec": "a crash loses up to the last 2 s", "always": "a crash loses nothing"}.get(fsync, "")
    return ok("persistence", f"appendonly is yes, appendfsync {fsync}: {loses}")


def _replicas(facts: ServerInfo, settings: Settings) -> Finding:
    replicas, waited_for = facts.replicas, settings.store_wait_replicas
    least = int(facts.config.get("min-replicas-to-write") or ("min_slaves_good_slaves" in facts.info))
    has = f"{replicas} replica{'' if replicas == 1 else 's'} connected"
    if least > replicas:
        mend = "CONFIG SET min-replicas-to-write 0, or start the replicas"
        return error("replicas", f"{has}, min-replicas-to-write is {least}: every write is refused", mend)
    if waited_for > replicas:
        mend = f"start {waited_for - replicas} more, or lower STORE_WAIT_REPLICAS"
        return error(
            "replicas", f"{has}, STORE_WAIT_REPLICAS is {waited_for}: every webhook is refused or spooled", mend
        )
    if waited_for and waited_for == replicas:
        mend = "run one replica more than STORE_WAIT_REPLICAS"
        return warning("replicas", f"{has}, and all must confirm: when one is away, webhooks are refused", mend)
    if settings.can_fail_over and not replicas:
        return warning("replicas", f"{has}: there is none to fail over to", "start a replica of this master")
    if replicas and not waited_for and not least:
        mend = "STORE_WAIT_REPLICAS=1, or min-replicas-to-write 1 with min-replicas-max-lag 2 on every server"
        return warning("replicas", f"{has}, none has to confirm: a failover may lose acknowledged webhooks", mend)
    return ok("replicas", f"{has}, STORE_WAIT_REPLICAS is {waited_for}, min-replicas-to-write {least}")


def judge_latency(median_s: float, settings: Settings) -> Finding:
    found = f"{median_s * 1000:.1f} ms, the median of some PINGs"
    if median_s > settings.store_timeout_s / 10:
        mend = "move Redis nearer, or see what makes it slow (SLOWLOG GET, fork, swap)"
        return error(
            "latency",
            f"{found}: a new connection takes several, and STORE_TIMEOUT_S is {settings.store_timeout_s:g} s",
            mend,
        )
    if median_s > SLOW_S:
        mend = "move Redis into the network of the replicas, or see what makes it slow (SLOWLOG GET)"
        return warning("latency", f"{found}; every webhook and poll takes at least that", mend)
    return ok("latency", found)


def judge_clock(ahead_s: float, uncertain_s: float) -> Finding:
    off = abs(ahead_s)
    found = f"Redis's clock is {off:.1f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's"
    mend = "run NTP on both machines (timedatectl, chronyc tracking)"
    if off - uncertain_s > SIGNATURES_FAIL_S:
        return error("clock", f"{found}; signed webhooks may be refused, and pauses confused", mend)
    if off - uncertain_s > SKEW_S:
        return warning("clock", f"{found}; pauses in Kestra may be confused", mend)
    return ok("clock", found)


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
