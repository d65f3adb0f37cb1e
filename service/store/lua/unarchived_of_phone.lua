-- Find the calls of one phone number in one bucket whose last change is not in the archive yet, newest first.
--
-- KEYS  1 the number's calls by update
-- ARGV  1 prefix of this bucket's calls (same slot)  2 how many of the number's calls to look at
-- Returns their ids

local found = {}
for _, id in ipairs(redis.call('ZREVRANGE', KEYS[1], 0, ARGV[2] - 1)) do
  if redis.call('HGET', ARGV[1] .. id, 'unarchived') then found[#found + 1] = id end
end
return found
