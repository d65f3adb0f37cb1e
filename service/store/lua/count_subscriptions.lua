-- Count the subscriptions of one bucket's calls. Whatever changes a record need not know that they are counted: each
-- entry is looked at now and then, and goes when its subscription expired with the record, or moves when the call that
-- nobody knew has a record by now. So the counts cannot drift.
--
-- KEYS  1 subscriptions of known calls  2 of calls that nobody knows
--       (zsets, `<call id> <execution id>` by the ms from which it is to be looked at)
-- ARGV  1 prefix of the subscriptions of this bucket's calls  2 prefix of its calls (both: same slot as the keys)
--       3 how often a known call's entry is looked at, ms  4 how many entries of each key are looked at, at most
--       5 life of the keys, ms
-- Returns {how many of known calls, how many of calls that nobody knows}

local known, unknown = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function look_through(index, is_known)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, ARGV[4])) do
    local id, execution = string.match(member, '^(%S+) (%S+)$')
    if not redis.call('HGET', ARGV[1] .. id, execution) then
      redis.call('ZREM', index, member)
    elseif is_known or redis.call('HGET', ARGV[2] .. id, 'state') then
      if not is_known then redis.call('ZREM', unknown, member) end
      redis.call('ZADD', known, now + ARGV[3], member)
    else
      redis.call('ZADD', unknown, now, member)  -- looked at each time, whoever was longest not looked at first
    end
  end
  redis.call('PEXPIRE', index, ARGV[5])
end

look_through(unknown, false)
look_through(known, true)
return {redis.call('ZCOUNT', known, '-inf', '+inf'), redis.call('ZCOUNT', unknown, '-inf', '+inf')}
