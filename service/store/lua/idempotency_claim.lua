-- Claim an idempotency key for one request, or find out what became of the request that claimed it before.
--
-- KEYS  1 the key (hash)
-- ARGV  1 fingerprint of the request  2 token of this claim: a repetition, after a lost reply, gets the same answer
--       3 life of the key, ms
-- Returns {outcome, answer}
--       outcome: 'claimed': the key is ours, 'running': another claim has it and no answer is known, 'answered': with
--       the first answer, 'other': it was claimed for another request. answer is '' except for 'answered'.
--
-- Hash: fingerprint, token; answer, once there is one.
-- The script always writes: WAIT covers only the writes of its own connection. A claim that is repeated on a new
-- connection and writes nothing would count as confirmed by replicas that do not have it. The call would then be
-- placed, and placed once more after a failover. Redis propagates an HSET even when it changes nothing.

local key, wanted_fingerprint, own_token, life = KEYS[1], unpack(ARGV)
local fingerprint, token, answer = unpack(redis.call('HMGET', key, 'fingerprint', 'token', 'answer'))
if not fingerprint then
  redis.call('HSET', key, 'fingerprint', wanted_fingerprint, 'token', own_token)
  redis.call('PEXPIRE', key, life)
  return {'claimed', ''}
end
redis.call('HSET', key, 'token', token)
if fingerprint ~= wanted_fingerprint then return {'other', ''} end
if answer then return {'answered', answer} end
return {token == own_token and 'claimed' or 'running', ''}
