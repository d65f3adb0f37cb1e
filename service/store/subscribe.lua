-- Note that an execution is to be resumed when the call's record is final, or now if it is or will never be: the call
-- was deleted, or VAPI does not know it. Once per call and execution.
--
-- KEYS  1 call (hash, see merge_call.lua)  2 the call's subscriptions (hash)  3 due index  4 subscribed index
-- ARGV  1 call id  2 execution id  3 life where there is no record yet, ms  4 life where it was deleted, ms
--       5 life of the indices, ms  6 how many subscriptions a call may have
-- Returns 0 when noted or known, 1 when it is to be resumed now, -1 when the call has too many.
--
-- The hash holds, by execution id: waiting (not tried yet) · tried <ms of the first try> <tries> · resumed <try>
--       · dropped <try>. Its entry in the due index, `<call id> <execution id>` by the ms when it may next be tried, is
--       there from the step that makes the record final (or removes it) until the execution is resumed or dropped.

local call, subscriptions, due, subscribed = unpack(KEYS)
local id, execution = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local state, deleted, gone = unpack(redis.call('HMGET', call, 'state', 'deleted', 'gone'))
-- Of the record's state, the fourth number is when it expires, the eighth its data_status; 2 and 3 are final.
local expires, data_status = string.match(state or '', '^%d+ %d+ %d+ (%d+) %d+ %d+ %d+ (%d+)')
local is_final = deleted
if state then is_final = tonumber(data_status) >= 2 elseif gone then is_final = true end

local known = redis.call('HGET', subscriptions, execution)
if not known then
  if redis.call('HLEN', subscriptions) >= tonumber(ARGV[6]) then return -1 end
  redis.call('HSET', subscriptions, execution, 'waiting')
  if state then
    redis.call('PEXPIREAT', subscriptions, expires)
  else
    redis.call('PEXPIRE', subscriptions, deleted and ARGV[4] or ARGV[3])
  end
else
  -- Written again, or WAIT would confirm nothing when this is sent a second time (idempotency_claim.lua).
  redis.call('HSET', subscriptions, execution, known)
  if known ~= 'waiting' then return 0 end
end
if is_final then
  redis.call('ZADD', due, now, id .. ' ' .. execution)
  redis.call('PEXPIRE', due, ARGV[5])
  return 1
end
redis.call('ZADD', subscribed, 'NX', now, id)
redis.call('PEXPIRE', subscribed, ARGV[5])
return 0
