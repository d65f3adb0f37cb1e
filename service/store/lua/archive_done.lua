-- The archive has these changes, or never will: remove their entries from the stream, and let go of their records.
--
-- KEYS  1 archive stream  2 expiry index  3 update index  4 held index
-- ARGV  1 consumer group  2 prefix of this bucket's calls, 3 of their subscriptions, 4 of its phone index (same slot)
--       5... by turns: id of an entry, the call it names
-- Returns how many records were released.

local stream, group = KEYS[1], ARGV[1]
local names = {expiry = KEYS[2], updates = KEYS[3], held = KEYS[4], calls = ARGV[2], subscriptions = ARGV[3],
  phones = ARGV[4]}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local released = 0

for i = 5, #ARGV, 2 do
  local entry, id = ARGV[i], ARGV[i + 1]
  -- A call that changed again since has a later entry, and stays unarchived until that one is done.
  local unarchived, life = unpack(redis.call('HMGET', names.calls .. id, 'unarchived', 'life'))
  if unarchived == entry then
    redis.call('HDEL', names.calls .. id, 'unarchived', 'life')
    if life then redis.call('PEXPIRE', names.calls .. id, life) end  -- the tombstone of a deleted call
    released = released + release_record(names, id, now)
  end
  redis.call('XACK', stream, group, entry)
  redis.call('XDEL', stream, entry)
end
return released
