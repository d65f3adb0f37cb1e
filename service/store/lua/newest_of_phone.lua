-- Find the newest calls of one phone number in one bucket, and count all of them.
--
-- KEYS  1 the number's calls by expiry  2 the number's calls by update  3 update index of the bucket
-- ARGV  1 how many are wanted  2 rank in KEYS[1] from which to look for calls that KEYS[2] lacks, 0 at first
--       3 life of KEYS[2] when it is completed, ms
-- Returns {next rank, or -1 when this is the answer, live calls, ids and their updated_at in ms by turns, newest first}
--         A next rank means that more tidying is left than one command should do: run it again from that rank.

local by_expiry, by_update, updates = unpack(KEYS)
local wanted, rank = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local STEP = 1000  -- entries that one command tidies up, less than a millisecond

local function size_of(index) return redis.call('ZCOUNT', index, '-inf', '+inf') end

-- The answer does not need the tidying. A Redis that takes no writes refuses it, hence pcall.
local dead = redis.call('ZRANGEBYSCORE', by_expiry, '-inf', '(' .. now, 'LIMIT', 0, STEP)
if #dead > 0 then
  redis.pcall('ZREM', by_update, unpack(dead))
  local dropped = redis.pcall('ZREM', by_expiry, unpack(dead))
  if dropped == STEP then return {rank, 0, {}} end
end

-- A replica of version 0.1.0 writes only the index by expiry. Its calls are added to KEYS[2] here.
if rank > 0 or size_of(by_update) < size_of(by_expiry) then
  local ids, missing = redis.call('ZRANGE', by_expiry, rank, rank + STEP - 1), {}
  for _, id in ipairs(ids) do
    local updated = not redis.call('ZSCORE', by_update, id) and redis.call('ZSCORE', updates, id)
    if updated then
      missing[#missing + 1] = updated
      missing[#missing + 1] = id
    end
  end
  if #missing > 0 then
    redis.pcall('ZADD', by_update, unpack(missing))
    redis.pcall('PEXPIRE', by_update, ARGV[3])
  end
  if #ids == STEP then return {rank + STEP, 0, {}} end
end

local newest, strays, at = {}, {}, 0
while #newest < 2 * wanted do
  local some = redis.call('ZREVRANGE', by_update, at, at + wanted - 1, 'WITHSCORES')
  if #some == 0 then break end
  for i = 1, #some, 2 do
    -- Absent when a replica of version 0.1.0 moved the call to another number.
    local expires = redis.call('ZSCORE', by_expiry, some[i])
    if not expires then
      if #strays < STEP then strays[#strays + 1] = some[i] end
    elseif tonumber(expires) >= now and #newest < 2 * wanted then
      newest[#newest + 1] = some[i]
      newest[#newest + 1] = some[i + 1]
    end
  end
  at = at + wanted
end
if #strays > 0 then redis.pcall('ZREM', by_update, unpack(strays)) end
return {-1, redis.call('ZCOUNT', by_expiry, now, '+inf'), newest}
