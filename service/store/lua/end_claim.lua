-- Record the result of one try to resume an execution or to send a callback.
--
-- KEYS  1 the call's subscriptions (hash, see subscribe.lua)  2 due index  3 index of the calls with callbacks
-- ARGV  1 call id  2 subscriber  3 number of the try  4 resumed, delivered, dropped, or retried  5 ms until the next try
--       6 '' for an execution, 'callback ' for a callback
-- Returns 1 when this try's result is recorded, also for a repetition; 0 when another try has the subscription.

local subscriptions, due = KEYS[1], KEYS[2]
local subscriber, try, result, mark = ARGV[2], ARGV[3], ARGV[4], ARGV[6]
local member = ARGV[1] .. ' ' .. subscriber
local state = redis.call('HGET', subscriptions, subscriber)
if state == mark .. result .. ' ' .. try then return 1 end
local tries = string.match(state or '', '^' .. mark .. 'tried %d+ (%d+)$')
if not tries then return 0 end

if result == 'retried' then
  -- This try took too long: a later one holds the lease.
  if tries ~= try then return 0 end
  local time = redis.call('TIME')
  redis.call('ZADD', due, 'XX', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[5], member)
  return 1
end
redis.call('HSET', subscriptions, subscriber, mark .. result .. ' ' .. try)
redis.call('ZREM', due, member)
if mark ~= '' then redis.call('ZADD', KEYS[3], 'XX', 0, ARGV[1]) end  -- looked at soon, as its hold may end
return 1
