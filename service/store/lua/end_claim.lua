-- Record the result of one try to resume an execution.
--
-- KEYS  1 the call's subscriptions (hash, see subscribe.lua)  2 due index
-- ARGV  1 call id  2 execution id  3 number of the try  4 resumed, dropped, or retried  5 ms until the next try
-- Returns 1 when this try's result is recorded, also for a repetition; 0 when another try has the subscription.

local subscriptions, due = KEYS[1], KEYS[2]
local execution, try, result = ARGV[2], ARGV[3], ARGV[4]
local member = ARGV[1] .. ' ' .. execution
local state = redis.call('HGET', subscriptions, execution)
if state == result .. ' ' .. try then return 1 end
local tries = string.match(state or '', '^tried %d+ (%d+)$')
if not tries then return 0 end

if result == 'retried' then
  -- This try took too long: a later one holds the lease.
  if tries ~= try then return 0 end
  local time = redis.call('TIME')
  redis.call('ZADD', due, 'XX', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[5], member)
  return 1
end
redis.call('HSET', subscriptions, execution, result .. ' ' .. try)
redis.call('ZREM', due, member)
return 1
