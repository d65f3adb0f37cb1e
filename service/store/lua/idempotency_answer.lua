-- Store the answer to the request that claimed an idempotency key. The key's life is not renewed.
--
-- KEYS  1 the key (hash, see idempotency_claim.lua)
-- ARGV  1 fingerprint of the request  2 token of its claim  3 the answer  4 life of the key, ms, if Redis lost it
-- Returns 1, or 0 when another claim has the key by now.

local token = redis.call('HGET', KEYS[1], 'token')
if token and token ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'token', ARGV[2], 'answer', ARGV[3])
if not token then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return 1
