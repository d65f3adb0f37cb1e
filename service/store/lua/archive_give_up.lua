-- Give up changes that the archive could not take in time, the oldest first, and let go of their records.
-- Deletions are never given up, nor are entries of a layout that this version does not know.
--
-- KEYS  1 archive stream  2 expiry index  3 update index  4 held index
-- ARGV  1 consumer group  2 prefix of this bucket's calls, 3 of their subscriptions, 4 of its phone index (same slot)
--       5 entry from which to look, '-' at first  6 how many entries to look at
--       7 only entries from before this ms; '' for all  8 '1': only records whose own life is over, as only they free memory
-- Returns {how many calls were given up, entry from which to look next, '' when none is left}

local stream, group = KEYS[1], ARGV[1]
local names = {expiry = KEYS[2], updates = KEYS[3], held = KEYS[4], calls = ARGV[2], subscriptions = ARGV[3],
  phones = ARGV[4]}
local from, most, before = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]) or math.huge
local spares_alive = ARGV[8] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local given_up = 0

local entries = redis.call('XRANGE', stream, from, '+', 'COUNT', most)
for _, entry in ipairs(entries) do
  local entry_id, fields = entry[1], entry[2]
  if tonumber(string.match(entry_id, '^%d+')) >= before then return {given_up, ''} end
  if fields[2] == '1' and fields[3] == 'call' then
    local id = fields[4]
    local unarchived, state = unpack(redis.call('HMGET', names.calls .. id, 'unarchived', 'state'))
    local is_alive = unarchived == entry_id and (life_of(state)) > now
    if not (is_alive and spares_alive) then
      if unarchived == entry_id then
        redis.call('HDEL', names.calls .. id, 'unarchived')
        release_record(names, id, now)
        given_up = given_up + 1
      end
      redis.call('XACK', stream, group, entry_id)
      redis.call('XDEL', stream, entry_id)
    end
  end
end
if #entries < most then return {given_up, ''} end
return {given_up, '(' .. entries[#entries][1]}
