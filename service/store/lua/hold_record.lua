-- Functions that end the hold of a record, or hold one that a merge did not (see record_life.lua).
--
-- names: the keys expiry, updates and held of the bucket, and the prefixes calls, subscriptions and phones

-- End the hold of a record that nothing needs any more. Call it after each step that may end a hold: it changes nothing
-- where the record is not held, or is still needed. A record whose own life is over is gone afterwards.
-- Returns 1 when the record was released, else 0.
local function release_record(names, id, now)
  local call = names.calls .. id
  local state, facts, unarchived = unpack(redis.call('HMGET', call, 'state', 'facts', 'unarchived'))
  if state and is_held(unarchived, names.subscriptions .. id) then return 0 end
  if redis.call('ZREM', names.held, id) == 0 or not state then return 0 end
  local phone, expires = phone_of(facts), life_of(state)
  local is_over = expires <= now
  if phone ~= '' and is_over then
    redis.call('ZREM', names.phones .. phone, id)
    redis.call('ZREM', names.updates .. ':' .. phone, id)
  elseif phone ~= '' then
    redis.call('ZADD', names.phones .. phone, expires, id)
  end
  if is_over then redis.call('ZREM', names.updates, id) else redis.call('ZADD', names.expiry, expires, id) end
  redis.call('PEXPIREAT', names.subscriptions .. id, expires)
  redis.call('PEXPIREAT', call, expires)
  return 1
end

-- Hold a final record that a replica which knows of no callbacks did not hold, or no longer holds.
-- last: ms of the call's last event  index_ttl: life of the indices, ms
local function hold_record(names, id, facts, last, index_ttl)
  local call, lives_until = names.calls .. id, string.format('%.0f', last + HELD_FOR_MS)
  -- A merge that ends a hold puts the call back into the expiry index.
  if redis.call('ZSCORE', names.held, id) and not redis.call('ZSCORE', names.expiry, id) then return end
  local phone = phone_of(facts)
  if phone ~= '' then redis.call('ZADD', names.phones .. phone, lives_until, id) end
  redis.call('ZADD', names.held, lives_until, id)
  redis.call('PEXPIRE', names.held, 2 * index_ttl)
  redis.call('ZREM', names.expiry, id)
  redis.call('PEXPIREAT', names.subscriptions .. id, lives_until)
  redis.call('PEXPIREAT', call, lives_until)
end
