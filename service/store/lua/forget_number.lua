-- Refuse events of a phone number that are not later than now (see merge_call.lua).
--
-- KEYS  1 forgotten numbers (hash, digest of a number by the ms when it was forgotten)
-- ARGV  1 digest  2 how long a number stays forgotten, ms
-- Returns now in ms

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if tonumber(all[i + 1]) < now - ARGV[2] then redis.call('HDEL', KEYS[1], all[i]) end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return now
