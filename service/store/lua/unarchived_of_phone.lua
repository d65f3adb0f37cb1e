-- Find the calls of one phone number in one bucket whose last change is not in the archive yet, newest first.
--
-- KEYS  1 the number's calls by update
-- ARGV  1 prefix of this bucket's calls (same slot)  2 how many of the number's calls to look at
-- Returns their ids and their updated_at in ms by turns

local found = {}
local newest = redis.call('ZREVRANGE', KEYS[1], 0, ARGV[2] - 1, 'WITHSCORES')
for i = 1, #newest, 2 do
  if redis.call('HGET', ARGV[1] .. newest[i], 'unarchived') then
    found[#found + 1] = newest[i]
    found[#found + 1] = newest[i + 1]
  end
end
return found
