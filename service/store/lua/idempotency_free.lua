-- Free an idempotency key, for a request that was refused and had no effect.
--
-- KEYS  1 the key (hash, see idempotency_claim.lua)
-- ARGV  1 token of the claim that had it
-- Returns 1 when it was that claim's, or nobody's, and is free now, else 0.

local token, answer = unpack(redis.call('HMGET', KEYS[1], 'token', 'answer'))
if answer or (token and token ~= ARGV[1]) then return 0 end
-- Where it is free already: a DEL of nothing is not propagated, and WAIT would confirm nothing (idempotency_claim.lua).
if not token then redis.call('HSET', KEYS[1], 'token', ARGV[1]) end
return redis.call('DEL', KEYS[1])
