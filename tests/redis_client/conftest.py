from __future__ import annotations

from tests.store.conftest import answer_with, open_on, open_store, opened, redis_url, store

__all__ = ["answer_with", "open_on", "open_store", "opened", "redis_url", "store"]
