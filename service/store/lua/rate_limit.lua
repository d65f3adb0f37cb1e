-- Count one request of a client and say whether it is within the limit, by a sliding window of two counters.
--
-- KEYS  1 counter of this window  2 counter of the one before
-- ARGV  1 limit per window  2 window, ms  3 ms since this window began
-- Returns 0 when it is within the limit, else the ms until the next request is allowed.

local limit, window, since = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local before = tonumber(redis.call('GET', KEYS[2]) or 0)
local now = tonumber(redis.call('GET', KEYS[1]) or 0)
local counted = now + before * (window - since) / window
if counted >= limit then
  -- The counter of the window before counts less and less; that of this window counts in full until its end.
  local until_less = now < limit and (counted - limit + 1) * window / before or window - since
  return math.max(1, math.ceil(math.min(until_less, window)))
end
redis.call('INCR', KEYS[1])
redis.call('PEXPIRE', KEYS[1], 2 * window)
return 0
