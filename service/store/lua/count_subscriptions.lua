-- Count the subscriptions of one bucket's calls. Scripts that change a record do not update these counts. Instead each
-- entry is checked now and then: it is removed when its subscription has expired with the record, and moved when an
-- unknown call has a record by now. So the counts cannot drift.
--
-- KEYS  1 subscriptions of known calls  2 of unknown calls
--       (zsets, `<call id> <subscriber>` by the ms of its next check)
-- ARGV  1 prefix of the subscriptions of this bucket's calls  2 prefix of its calls (both: same slot as the keys)
--       3 pause between two checks of a known call's entry, ms  4 how many entries of each key to check at most
--       5 life of the keys, ms
-- Returns {how many of known calls, how many of unknown calls}

local known, unknown = KEYS[1], KEYS[2]
local subscriptions, calls, pause, most, index_ttl = unpack(ARGV)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function look_through(index, is_known)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, most)) do
    local id, subscriber = string.match(member, '^(%S+) (%S+)$')
    if not redis.call('HGET', subscriptions .. id, subscriber) then
      redis.call('ZREM', index, member)
    elseif is_known or redis.call('HGET', calls .. id, 'state') then
      if not is_known then redis.call('ZREM', unknown, member) end
      redis.call('ZADD', known, now + pause, member)
    else
      redis.call('ZADD', unknown, now, member)  -- looked at each time, longest ago first
    end
  end
  redis.call('PEXPIRE', index, index_ttl)
end

look_through(unknown, false)
look_through(known, true)
return {redis.call('ZCOUNT', known, '-inf', '+inf'), redis.call('ZCOUNT', unknown, '-inf', '+inf')}
