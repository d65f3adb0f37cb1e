-- Copies one call's record to other calls, with the index entries that merge_call.lua keeps of a complete record.
-- KEYS  1 the call to be copied  2 expiry index  3 update index
-- ARGV  1 prefix of the calls' keys  2 prefix of the phone index  3 life of the index keys, ms
--       4... id, phone, id, phone, ...: all in the bucket of KEYS 2 and 3
-- Returns how many were made.

local state, facts = unpack(redis.call('HMGET', KEYS[1], 'state', 'facts'))
local updated, expires = string.match(state, '^%d+ %d+ (%d+) (%d+)')
local rest = string.sub(facts, (string.find(facts, '\31', 1, true)))
for i = 4, #ARGV, 2 do
  local id, phone = ARGV[i], ARGV[i + 1]
  redis.call('COPY', KEYS[1], ARGV[1] .. id, 'REPLACE')
  redis.call('HSET', ARGV[1] .. id, 'facts', '"' .. phone .. '"' .. rest)
  redis.call('ZADD', KEYS[2], expires, id)
  redis.call('ZADD', KEYS[3], updated, id)
  redis.call('ZADD', ARGV[2] .. phone, expires, id)
  redis.call('PEXPIRE', ARGV[2] .. phone, ARGV[3])
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('PEXPIRE', KEYS[3], ARGV[3])
return (#ARGV - 3) / 2
