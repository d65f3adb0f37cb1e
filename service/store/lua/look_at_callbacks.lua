-- Look through the calls of one bucket that have callbacks. It repeats what merges by other replicas may have left out,
-- as those of version 0.1.0 know of no callbacks: it makes callbacks of final calls due, and holds their records
-- (see record_life.lua). It also ends the hold once all callbacks of a call are delivered or dropped.
--
-- KEYS  1 index of the calls with callbacks (zset, call id by the ms of its next look)  2 expiry index  3 update index
--       4 held index
-- ARGV  1 prefix of this bucket's calls, 2 of their subscriptions, 3 of its phone index, 4 of its due indices of callbacks
--       (all: same slot as the keys)  5 how many subscriptions at most, by whole calls
--       6 pause between two looks at a call, ms, and 7 for one whose callbacks were found due and its record held
--       8 life of the indices, ms  9 life of a final record, ms  10... tags of the origins whose due callbacks are counted
-- Returns {how many calls have callbacks that are not delivered, due callbacks of each origin...}

local index = KEYS[1]
local names = {expiry = KEYS[2], updates = KEYS[3], held = KEYS[4], calls = ARGV[1], subscriptions = ARGV[2],
  phones = ARGV[3]}
local due_callbacks, most, pause, pause_if_over = ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7]
local index_ttl, result_ttl = tonumber(ARGV[8]), tonumber(ARGV[9])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function undelivered_of(id)
  local found, states = {}, redis.call('HGETALL', names.subscriptions .. id)
  for i = 1, #states, 2 do
    local origin = string.match(states[i], '^callback:(%x+):')
    if origin and is_undelivered(states[i + 1]) then found[#found + 1] = {subscriber = states[i], origin = origin} end
  end
  return found
end

local looked_at = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, most)) do
  local undelivered = undelivered_of(id)
  looked_at = looked_at + 1 + #undelivered
  if #undelivered == 0 then
    redis.call('ZREM', index, id)
    release_record(names, id, now)
  else
    local state, facts, deleted, gone = unpack(redis.call('HMGET', names.calls .. id, 'state', 'facts', 'deleted', 'gone'))
    local expires, _, data_status = life_of(state)
    local is_final = state and data_status >= COMPLETE
    local is_over = is_final or deleted or gone and not state
    if is_final then hold_record(names, id, facts, expires - result_ttl, index_ttl) end
    for _, callback in ipairs(is_over and undelivered or {}) do
      -- An entry that is there, a lease or a pause, is left as it is; one that got lost is put back.
      redis.call('ZADD', due_callbacks .. callback.origin, 'NX', now, id .. ' ' .. callback.subscriber)
      redis.call('PEXPIRE', due_callbacks .. callback.origin, index_ttl)
    end
    redis.call('ZADD', index, now + (is_over and pause_if_over or pause), id)
  end
  if looked_at >= most then break end
end
redis.call('PEXPIRE', index, index_ttl)

local counts = {redis.call('ZCOUNT', index, '-inf', '+inf')}
for i = 10, #ARGV do counts[#counts + 1] = redis.call('ZCOUNT', due_callbacks .. ARGV[i], '-inf', now) end
return counts
