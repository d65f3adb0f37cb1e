-- Read entries of the archive stream that no consumer has read yet, and say how long the stream is.
--
-- KEYS  1 archive stream
-- ARGV  1 consumer group  2 consumer: one process  3 how many at most (0: only look)
--       4 ms after which entries of another consumer are taken over, as it may be dead; '' to take none over
--       5 life of the stream after the last look at it, ms  6 prefix of this bucket's calls (same slot)
-- Returns {now in ms, entries in the stream, ms of the oldest or 0, entries: {id, {field, value, ...}} each}
--
-- Fields: layout (this version reads 1), and call: its id, where its record changed,
--         or deleted: the id of a deleted call, and at: the ms of its deletion.
-- An entry stays in the stream until it is done (archive_done.lua).

local stream, group, consumer, most = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local dead_after, stream_ttl, calls = ARGV[4], ARGV[5], ARGV[6]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Calls that still run but have had their time, see archive_later in record_life.lua.
local later = redis.pcall('ZRANGEBYSCORE', stream .. '_later', '-inf', now, 'LIMIT', 0, 100)
for _, id in ipairs(later) do
  if redis.call('HGET', calls .. id, 'unarchived') == 'later' then
    local entry = redis.call('XADD', stream, '*', 'layout', '1', 'call', id)
    redis.call('HSET', calls .. id, 'unarchived', entry)
  end
  redis.call('ZREM', stream .. '_later', id)
end

local length = redis.call('XLEN', stream)
redis.call('PEXPIRE', stream, stream_ttl)
local function oldest_ms()
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  return oldest and tonumber(string.match(oldest[1], '^%d+')) or 0
end
if length == 0 or most == 0 then return {now, length, oldest_ms(), {}} end

local function read()
  return redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', most, 'STREAMS', stream, '>')
end
local reply = read()
if type(reply) == 'table' and reply.err then
  redis.pcall('XGROUP', 'CREATE', stream, group, '0')
  reply = read()
  if type(reply) == 'table' and reply.err then return reply end
end
local entries = reply and reply[1] and reply[1][2] or {}

if dead_after ~= '' and #entries < most then
  local taken = redis.call('XAUTOCLAIM', stream, group, consumer, dead_after, '0-0', 'COUNT', most - #entries)[2]
  for _, entry in ipairs(taken) do
    if entry and entry[2] then entries[#entries + 1] = entry end
  end
end
return {now, length, oldest_ms(), entries}
