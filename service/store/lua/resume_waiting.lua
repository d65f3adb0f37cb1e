-- A function for the scripts that make a record final, remove it, or learn that there will be none.
--
-- It makes all waiting subscriptions of the call due (see subscribe.lua) and removes the call from the subscribed
-- index, so that it is not reconciled any more.
-- due_callbacks: prefix of the due indices of callbacks, '' where this replica makes none due
-- Returns the queues in which something is due now: '' for executions, the tag of an origin for callbacks.
local function resume_waiting(subscriptions, due, due_callbacks, subscribed, id, now, index_ttl)
  local queues, states = {}, redis.call('HGETALL', subscriptions)
  local has_executions = false
  for i = 1, #states, 2 do
    local origin = string.match(states[i], '^callback:(%x+):')
    if states[i + 1] == 'waiting' then
      redis.call('ZADD', due, now, id .. ' ' .. states[i])
      has_executions = true
    elseif states[i + 1] == 'callback waiting' and origin and due_callbacks ~= '' then
      -- These indices are not declared, as only the subscriptions tell the origins. In a Cluster slot that is moving
      -- one may be missing; look_at_callbacks.lua repeats this then.
      if type(redis.pcall('ZADD', due_callbacks .. origin, now, id .. ' ' .. states[i])) == 'number' then
        redis.pcall('PEXPIRE', due_callbacks .. origin, index_ttl)
        queues[#queues + 1] = origin
      end
    end
  end
  if has_executions then queues[#queues + 1] = '' end
  redis.call('PEXPIRE', due, index_ttl)
  redis.call('ZREM', subscribed, id)
  return queues
end

