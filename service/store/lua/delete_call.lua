-- Delete a call's record and leave a tombstone: later events of the call then make no new record.
--
-- KEYS  1 call (hash)  2 expiry index  3 update index  4 partial index  5 deleted index  6 due index
--       7 subscribed index  8 the call's subscriptions (hash, see subscribe.lua)
-- ARGV  1 call id  2 channel  3 prefix of the phone index of this bucket  4 life of the tombstone, ms
--       5 how long the deletion stays in the deleted index, ms
--       6 token of this run: a repetition, after a lost reply, gets the same answer
--       7 life of the due index, ms  8 held index (same slot as the keys; see record_life.lua)
--       9 archive stream (same slot), '' without an archive: its row is deleted as well, and the tombstone lives until
--         that is done (archive_done.lua), as the archive would give the call back
--       10 prefix of the due indices of callbacks (same slot), '' where this replica sends none
-- Returns {1 when there was a record else 0, the queues in which something is due now (see resume_waiting.lua)}

local call, expiry, updates, partial, deleted, due, subscribed, subscriptions = unpack(KEYS)
local id, channel, phone_prefix, tombstone_ttl, deletion_ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local token, index_ttl, held, archive, due_callbacks = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local facts, deleted_by = unpack(redis.call('HMGET', call, 'facts', 'deleted_by'))
local life = archive ~= '' and math.max(tombstone_ttl, UNARCHIVED_DELETION_LIFE_MS) or tombstone_ttl
if deleted_by == token then
  -- Write it again: without a write WAIT would confirm nothing (idempotency_claim.lua).
  redis.call('PEXPIRE', call, life)
  return {1, resume_waiting(subscriptions, due, due_callbacks, subscribed, id, now, index_ttl)}
end

-- While a Cluster slot is moving, Redis aborts the script at the first missing key, even one that the script itself has
-- emptied. So the phone's key, which is not declared, comes first, and the call's hash is never empty.
local entry
if archive ~= '' then
  entry = redis.call('XADD', archive, '*', 'layout', '1', 'deleted', id, 'at', string.format('%.0f', now))
end
if facts then
  local phone = phone_of(facts)
  if phone ~= '' then
    redis.call('ZREM', phone_prefix .. phone, id)
    redis.call('ZREM', updates .. ':' .. phone, id)
  end
end
redis.call('ZREM', expiry, id)
redis.call('ZREM', updates, id)
redis.call('ZREM', partial, id)
redis.pcall('ZREM', held, id)  -- not declared, so it may be missing
redis.call('ZADD', deleted, now, id)
redis.call('ZREMRANGEBYSCORE', deleted, '-inf', '(' .. now - deletion_ttl)
redis.call('PEXPIRE', deleted, deletion_ttl)

redis.call('HSET', call, 'deleted', now)
-- By name: reading a record of 9 MB only to remove it took Redis 50 ms.
local removed = redis.pcall('HDEL', call, 'state', 'facts', 'stamps', 'facts2', '1', '2', '3', '4', 'no_analysis',
  'refresh', 'final_by', 'complete_by', 'deleted_by', 'asked', 'gone', 'unarchived', 'deleted_at_vapi', 'raw',
  'raw_stamp')
if type(removed) == 'table' then  -- a Redis user that may not HDEL
  redis.call('DEL', call)
  redis.call('HSET', call, 'deleted', now)
elseif redis.call('HLEN', call) > 1 then  -- fields of a later version
  local rest = redis.call('HGETALL', call)
  for i = 1, #rest, 2 do
    if rest[i] ~= 'deleted' then redis.call('HDEL', call, rest[i]) end
  end
end
if facts then redis.call('HSET', call, 'deleted_by', token) end
if entry then redis.call('HSET', call, 'unarchived', entry, 'life', tombstone_ttl) end
redis.call('PEXPIRE', call, life)

local queues = {}
if redis.call('PEXPIRE', subscriptions, tombstone_ttl) == 1 then
  queues = resume_waiting(subscriptions, due, due_callbacks, subscribed, id, now, index_ttl)
end
redis.call('PUBLISH', channel, id)
return {facts and 1 or 0, queues}
