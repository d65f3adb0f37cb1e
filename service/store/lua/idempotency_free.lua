-- Free an idempotency key, for a request that was refused and had no effect.
--
-- KEYS  1 the key (hash, see idempotency_claim.lua)
-- ARGV  1 token of the claim that had it
-- Returns 1 when the key is free now: that claim had it, or nobody. 0 when another claim has it.

local token, answer = unpack(redis.call('HMGET', KEYS[1], 'token', 'answer'))
if answer or (token and token ~= ARGV[1]) then return 0 end
-- If the key is free already: a DEL of a missing key is not propagated, so WAIT would confirm nothing
-- (idempotency_claim.lua).
if not token then redis.call('HSET', KEYS[1], 'token', ARGV[1]) end
return redis.call('DEL', KEYS[1])
