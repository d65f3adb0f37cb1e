-- Functions for the scripts that decide how long a record lives.
--
-- A final record may be needed for longer than its life: until its last change is a row of the archive, and until its
-- callbacks are delivered. Then it is held. Its state keeps its own `expires_at`, but its keys and index entries live up
-- to HELD_FOR_MS longer, and it is in the held index (call id by the ms until which it lives) instead of the expiry
-- index. So the expiry index still tells records that are not final from final ones. hold_record.lua puts everything back.

local HELD_FOR_MS = 24 * 3600 * 1000

-- The longest life of a tombstone whose deletion is on the archive stream; the stream lives as long when nobody looks.
local UNARCHIVED_DELETION_LIFE_MS = 7 * 24 * 3600 * 1000

-- Whether a callback of the call is not delivered yet (see subscribe.lua).
local function is_undelivered(state) return state == 'callback waiting' or string.find(state, '^callback tried') end

local function has_undelivered(subscriptions)
  local states = redis.call('HGETALL', subscriptions)
  for i = 2, #states, 2 do
    if is_undelivered(states[i]) then return true end
  end
  return false
end

-- Whether something still needs a final record.
-- unarchived: the call's field of that name; nil or false when the archive has the call's last change.
-- subscriptions: the key of the call's subscriptions; '' where this replica knows of no callbacks
local function is_held(unarchived, subscriptions)
  return unarchived and true or subscriptions ~= '' and has_undelivered(subscriptions)
end

-- The ms until which the keys of a held record live; expires: its own expires_at, ms.
local function held_until(expires, now) return math.max(tonumber(expires), now + HELD_FOR_MS) end

-- A call that runs has time to become a row: most are final before, and are written once instead of at every change.
-- Its id is kept in `<archive stream>_later` by the ms when it is put on the stream (archive_entries.lua).
-- Returns true, or false when the index cannot be written, as in a Cluster slot that is moving.
local LATER_MS = 10 * 60 * 1000
local function archive_later(stream, id, now, pending_ttl)
  local later, due = stream .. '_later', now + math.min(LATER_MS, pending_ttl / 4)
  if type(redis.pcall('ZADD', later, 'NX', string.format('%.0f', due), id)) ~= 'number' then return false end
  redis.pcall('PEXPIRE', later, 2 * pending_ttl)
  return true
end
