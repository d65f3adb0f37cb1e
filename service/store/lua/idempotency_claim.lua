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

local fingerprint, token, answer = unpack(redis.call('HMGET', KEYS[1], 'fingerprint', 'token', 'answer'))
if not fingerprint then
  redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'token', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {'claimed', ''}
end
redis.call('HSET', KEYS[1], 'token', token)
if fingerprint ~= ARGV[1] then return {'other', ''} end
if answer then return {'answered', answer} end
return {token == ARGV[2] and 'claimed' or 'running', ''}
