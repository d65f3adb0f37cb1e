-- Functions for merge_call.lua that write a record's entries in the indices of its bucket.
--
-- updates: key of the update index, and prefix of those of phone numbers
-- phones: prefix of the phone numbers' indices by expiry  index_ttl: longest life of a record, ms
-- Moments and lives come as text: Redis would format a number anew for each command, with seventeen digits.

-- Index the call by its phone number, and no longer by its old one; '' for none.
-- lives_until: ms until which the record's keys live  updated: ms of the change; nil when nothing has changed
local function index_phone(phones, updates, id, phone, old_phone, lives_until, updated, index_ttl)
  if phone ~= old_phone and old_phone ~= '' then
    redis.call('ZREM', phones .. old_phone, id)
    redis.call('ZREM', updates .. ':' .. old_phone, id)
  end
  if phone == '' then return end
  redis.call('ZADD', phones .. phone, lives_until, id)
  local by_update = updates .. ':' .. phone
  if updated and redis.call('ZADD', by_update, updated, id) == 1 then
    redis.call('PEXPIRE', by_update, 2 * index_ttl)
  end
end

-- Renew the indices for twice the longest life of a record. So they outlive their entries even if this is done seldom.
-- partial: key of the partial index; nil or false where the record is not in it
local function renew_indices(phones, expiry, updates, partial, phone, index_ttl)
  local life = string.format('%d', 2 * index_ttl)
  redis.call('PEXPIRE', expiry, life)
  redis.call('PEXPIRE', updates, life)
  if partial then redis.call('PEXPIRE', partial, life) end
  if phone ~= '' then
    redis.call('PEXPIRE', phones .. phone, life)
    redis.call('PEXPIRE', updates .. ':' .. phone, life)
  end
end

-- Drop some expired calls from an index by expiry, and from other indices.
local function drop_expired(by_expiry, others, now)
  local dead = redis.call('ZRANGEBYSCORE', by_expiry, '-inf', '(' .. now, 'LIMIT', 0, 10)
  if #dead == 0 then return end
  redis.call('ZREM', by_expiry, unpack(dead))
  for _, index in ipairs(others) do redis.call('ZREM', index, unpack(dead)) end
end
