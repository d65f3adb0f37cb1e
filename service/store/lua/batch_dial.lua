-- Mark a call of a batch as being dialled. A call without this mark must not be dialled.
--
-- KEYS  1 the batch (hash, see batch_begin.lua)
-- ARGV  1 token of the request that began it  2 index of the call
-- Returns 1, or 0 when the call has a result already, because its replica counted as dead, or when the batch is gone.

local batch, index = KEYS[1], ARGV[2]
local token, state = unpack(redis.call('HMGET', batch, 'token', index))
if token ~= ARGV[1] or (state and state ~= 'dialling') then return 0 end
redis.call('HSET', batch, index, 'dialling')
return 1
