-- A function for the scripts that make a record final, remove it, or learn that there will be none.
--
-- It makes all waiting subscriptions of the call due (see subscribe.lua) and removes the call from the subscribed
-- index, so that it is not reconciled any more. Returns 1 when something is to be resumed now, else 0.
local function resume_waiting(subscriptions, due, subscribed, id, now, index_ttl)
  local has_due, states = 0, redis.call('HGETALL', subscriptions)
  for i = 1, #states, 2 do
    if states[i + 1] == 'waiting' then
      redis.call('ZADD', due, now, id .. ' ' .. states[i])
      has_due = 1
    end
  end
  redis.call('PEXPIRE', due, index_ttl)
  redis.call('ZREM', subscribed, id)
  return has_due
end

