-- Store the answer to the request that claimed an idempotency key. The key's life is not renewed.
--
-- KEYS  1 the key (hash, see idempotency_claim.lua)
-- ARGV  1 fingerprint of the request  2 token of its claim  3 the answer  4 life of the key, ms, if Redis lost it
-- Returns 1, or 0 when another claim has the key by now.

local key, fingerprint, own_token, answer, life = KEYS[1], unpack(ARGV)
local token = redis.call('HGET', key, 'token')
if token and token ~= own_token then return 0 end
redis.call('HSET', key, 'fingerprint', fingerprint, 'token', own_token, 'answer', answer)
if not token then redis.call('PEXPIRE', key, life) end
return 1
