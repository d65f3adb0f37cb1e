-- Free an idempotency key, for a request that was refused and had no effect.
--
-- KEYS  1 the key (hash, see idempotency_claim.lua)
-- ARGV  1 token of the claim that had it
-- Returns 1 when it was that claim's and is free now, else 0.

local token, answer = unpack(redis.call('HMGET', KEYS[1], 'token', 'answer'))
if token ~= ARGV[1] or answer then return 0 end
return redis.call('DEL', KEYS[1])
