-- Look through the calls of one bucket that have callbacks. It repeats what merges by other replicas may have left out,
-- as those of the previous version know of no callbacks: it makes callbacks of final calls due, and holds their records
-- (see record_life.lua). It also ends the hold once all callbacks of a call are delivered or dropped.
--
-- KEYS  1 index of the calls with callbacks (zset, call id by the ms of its next look)  2 expiry index  3 update index
--       4 held index
-- ARGV  1 prefix of this bucket's calls, 2 of their subscriptions, 3 of its phone index, 4 of its due indices of callbacks
--       (all: same slot as the keys)  5 how many calls at most  6 pause between two looks at a call, ms
--       7 life of the indices, ms  8 life of a final record, ms  9... tags of the origins whose due callbacks are counted
-- Returns {how many calls have callbacks that are not delivered, due callbacks of each origin...}

local index = KEYS[1]
local names = {expiry = KEYS[2], updates = KEYS[3], held = KEYS[4], calls = ARGV[1], subscriptions = ARGV[2],
  phones = ARGV[3]}
local index_ttl, result_ttl = tonumber(ARGV[7]), tonumber(ARGV[8])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- An entry of a due index is left as it is: a lease, or a pause. One that got lost is put back.
local function make_due(id, states)
  for i = 1, #states, 2 do
    local origin = string.match(states[i], '^callback:(%x+):')
    local state = states[i + 1]
    if origin and (state == 'callback waiting' or string.find(state, '^callback tried')) then
      redis.call('ZADD', ARGV[4] .. origin, 'NX', now, id .. ' ' .. states[i])
      redis.call('PEXPIRE', ARGV[4] .. origin, index_ttl)
    end
  end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, ARGV[5])) do
  local subscriptions = names.subscriptions .. id
  if not has_undelivered(subscriptions) then
    redis.call('ZREM', index, id)
    release_record(names, id, now)
  else
    local state, facts, deleted, gone = unpack(redis.call('HMGET', names.calls .. id, 'state', 'facts', 'deleted', 'gone'))
    local expires, data_status = string.match(state or '', '^%d+ %d+ %d+ (%d+) %d+ %d+ %d+ (%d+)')
    local is_final = state and tonumber(data_status) >= 2
    if is_final then hold_record(names, id, facts, expires - result_ttl, now, index_ttl) end
    if is_final or deleted or gone and not state then make_due(id, redis.call('HGETALL', subscriptions)) end
    redis.call('ZADD', index, now + ARGV[6], id)
  end
end
redis.call('PEXPIRE', index, index_ttl)

local counts = {redis.call('ZCOUNT', index, '-inf', '+inf')}
for i = 9, #ARGV do counts[#counts + 1] = redis.call('ZCOUNT', ARGV[4] .. ARGV[i], '-inf', now) end
return counts
