-- Begin a batch of calls, or find that it was begun already.
--
-- KEYS  1 the batch (hash)
-- ARGV  1 fingerprint of the request  2 token of this run: a repetition, after a lost reply, gets the same answer
--       3 number of calls  4 lease of the replica that dials them, ms  5 life of the batch, ms
-- Returns 'begun': we are to dial it, 'known': it was begun already, or 'other': its key was used for another request.
--
-- Hash: fingerprint, token, total, leased_until (ms); and per call, by its index from 0: nothing while it waits,
--       'dialling' from just before the request to VAPI, then its result (a JSON object).

local batch = KEYS[1]
local wanted_fingerprint, own_token, total, lease, life = unpack(ARGV)
local fingerprint, token = unpack(redis.call('HMGET', batch, 'fingerprint', 'token'))
if fingerprint and fingerprint ~= wanted_fingerprint then return 'other' end
if token and token ~= own_token then return 'known' end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', batch, 'fingerprint', wanted_fingerprint, 'token', own_token, 'total', total,
  'leased_until', string.format('%d', now + lease))
redis.call('PEXPIRE', batch, life)
return 'begun'
