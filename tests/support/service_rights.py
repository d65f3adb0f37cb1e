"""The rights in Redis that the service's user needs, as rules of an ACL; deploy/README.md names the same."""

from __future__ import annotations

RULE = (
    "resetkeys resetchannels -@all ~vapi:* &vapi:* "
    "+evalsha +eval +select +ping +subscribe +publish +wait +time +set +get +incr +del +pexpire +pexpireat "
    "+hset +hdel +hget +hmget +hgetall +hlen +zadd +zrem +zrange +zrevrange +zrangebyscore +zremrangebyscore +zscore +zcount "
    "+info"
)
"""All that the service's user needs on one Redis; ``wait`` only with STORE_WAIT_REPLICAS, ``select`` only with ``/<db>``."""

ARCHIVE_RULE = "+xadd +xlen +xrange +xdel +xack +xgroup +xinfo +xpending +xclaim +xautoclaim +xreadgroup"
"""What it needs besides with DATABASE_URL."""
