-- Scan one bucket: drop expired calls, count live ones, and find those that a process has to act on.
--
-- A scan must not fail when only writes do (a Redis that is full, read-only, or short of replicas), so every write is a
-- pcall. A later scan then drops the expired calls, and a call whose next turn cannot be written is not returned.
--
-- KEYS  1 expiry index  2 update index  3 partial index  4 deleted index  5 due index  6 subscribed index
-- ARGV  1 report grace, ms  2 time since which changes are wanted, ms, or ''  3 how many of the newest are wanted
--       4 how many subscribed calls are wanted  5 ms during which no other scan gets the same ones
--       6 prefix of the subscriptions of this bucket's calls (same slot as the keys)  7 life of the subscribed index, ms
--       8 how many calls to ask VAPI for once more are wanted  9 ms during which no other scan gets the same ones
--       10 refresh index (same slot as the keys)
--       11 life of a final record, ms, or '' where records that are not final live no longer
--       12 held index (same slot as the keys; see record_life.lua)
-- Returns {now in ms, live records, ids past their report grace, ids changed or deleted since, newest ids,
--         number of subscriptions to be resumed now, number of subscribed calls, those of them whose turn it is,
--         calls that VAPI may be asked for once more, records that are not final, the ms when the one of them that was
--         silent for longest expires or ''}

local expiry, updates, partial, deleted, due, subscribed = unpack(KEYS)
local grace, changed_since, newest_wanted = ARGV[1], ARGV[2], tonumber(ARGV[3])
local subscribed_wanted, subscribed_every, subscriptions, index_ttl = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local refreshes_wanted, refresh_lease, refresh, result_ttl, held = ARGV[8], ARGV[9], ARGV[10], ARGV[11], ARGV[12]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

for _, by_expiry in ipairs({expiry, held}) do
  local dead = redis.pcall('ZRANGEBYSCORE', by_expiry, '-inf', '(' .. now, 'LIMIT', 0, 1000)
  if #dead > 0 then  -- an error, as in a Cluster slot that is moving, has no entries
    redis.pcall('ZREM', by_expiry, unpack(dead))
    redis.pcall('ZREM', updates, unpack(dead))
    redis.pcall('ZREM', partial, unpack(dead))
  end
end
local held_count = redis.pcall('ZCOUNT', held, now, '+inf')
if type(held_count) ~= 'number' then held_count = 0 end
local function lives_until(id)
  return redis.call('ZSCORE', expiry, id) or held_count > 0 and redis.call('ZSCORE', held, id)
end
local past_grace = redis.call('ZRANGEBYSCORE', partial, '-inf', now - grace, 'LIMIT', 0, 100)
local changed = {}
if changed_since ~= '' then
  changed = redis.call('ZRANGEBYSCORE', updates, changed_since, '+inf')
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', deleted, changed_since, '+inf')) do changed[#changed + 1] = id end
end
local newest, at = {}, 0
while #newest < 2 * newest_wanted do
  local some = redis.call('ZREVRANGE', updates, at, at + newest_wanted - 1, 'WITHSCORES')
  if #some == 0 then break end
  for i = 1, #some, 2 do
    -- When very many calls expire at once, some are not dropped yet.
    local expires = lives_until(some[i])
    if expires and tonumber(expires) >= now and #newest < 2 * newest_wanted then
      newest[#newest + 1] = some[i]
      newest[#newest + 1] = some[i + 1]
    end
  end
  at = at + newest_wanted
end
local to_reconcile = {}
if subscribed_wanted ~= '0' then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', subscribed, '-inf', now, 'LIMIT', 0, subscribed_wanted)) do
    if redis.call('HLEN', subscriptions .. id) == 0 then
      redis.pcall('ZREM', subscribed, id)
    elseif type(redis.pcall('ZADD', subscribed, now + subscribed_every, id)) == 'number' then
      to_reconcile[#to_reconcile + 1] = id
    end
  end
  redis.pcall('PEXPIRE', subscribed, index_ttl)
end
local refreshable = {}
if refreshes_wanted ~= '0' then
  -- The reply may be an error; ipairs finds no entries in it.
  for _, id in ipairs(redis.pcall('ZRANGEBYSCORE', refresh, '-inf', now, 'LIMIT', 0, refreshes_wanted)) do
    local written = redis.pcall('ZADD', refresh, now + refresh_lease, id)
    if type(written) == 'number' then refreshable[#refreshable + 1] = id end
  end
end
-- A record that is not final lives longer after its last event, so its expiry tells it from a final one. Final records
-- that live longer are in the held index instead.
local running, first = 0, ''
if result_ttl ~= '' then
  local above = '(' .. (now + result_ttl)
  running = redis.call('ZCOUNT', expiry, above, '+inf')
  first = redis.call('ZRANGEBYSCORE', expiry, above, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2] or ''
end
return {now, redis.call('ZCOUNT', expiry, now, '+inf') + held_count, past_grace, changed, newest,
  redis.call('ZCOUNT', due, '-inf', now), redis.call('ZCOUNT', subscribed, '-inf', '+inf'), to_reconcile,
  refreshable, running, first}
