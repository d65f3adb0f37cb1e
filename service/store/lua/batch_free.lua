-- Remove a batch whose beginning failed for its caller, so that the same request can begin it anew.
--
-- KEYS  1 the batch (hash, see batch_begin.lua)
-- ARGV  1 token of the request that began it
-- Returns 1 when that request began it and it is removed now, else 0.

if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
