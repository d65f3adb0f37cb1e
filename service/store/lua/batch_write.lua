-- Keep results of a batch and renew the lease of the replica that dials its calls.
--
-- KEYS  1 the batch (hash, see batch_begin.lua)
-- ARGV  1 token of the request that began it  2 lease, ms  3, 4... index of a call and its result, by turns
-- Returns 1, or 0 when the batch is gone.

local batch, lease = KEYS[1], ARGV[2]
if redis.call('HGET', batch, 'token') ~= ARGV[1] then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', batch, 'leased_until', string.format('%d', now + lease), unpack(ARGV, 3))
return 1
