-- Read how far a batch is and, when its replica is dead, give a result to every call that has none.
--
-- KEYS  1 the batch (hash, see batch_begin.lua)
-- ARGV  1 result for calls that a dead replica had not dialled, '' to read only  2 result for calls it was dialling
-- Returns {1 when the lease of its replica ended before all results were there else 0, result of each call or ''};
--         an empty list when there is no such batch.

local batch, not_placed, unknown = KEYS[1], ARGV[1], ARGV[2]
local total, leased_until = unpack(redis.call('HMGET', batch, 'total', 'leased_until'))
if not total then return {} end
local time = redis.call('TIME')
local is_over = time[1] * 1000 + math.floor(time[2] / 1000) > tonumber(leased_until)

local results, writes, is_left = {}, {}, 0
for index = 0, total - 1 do
  local result = redis.call('HGET', batch, index)
  local is_dialling = result == 'dialling'
  if (not result or is_dialling) and is_over then
    is_left = 1
    if not_placed ~= '' then
      result = is_dialling and unknown or not_placed
      is_dialling = false
      writes[#writes + 1] = index
      writes[#writes + 1] = result
    end
  end
  results[index + 1] = (result and not is_dialling) and result or ''
end
if #writes > 0 then redis.call('HSET', batch, unpack(writes)) end
return {is_left, results}
