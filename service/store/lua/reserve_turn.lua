-- Reserve the next turn of an action that all replicas together do at a bounded rate.
--
-- KEYS  1 when the next free turn is, us
-- ARGV  1 us from one turn to the next  2 longest wait for a turn, us
-- Returns the us until the reserved turn; -1 when the wait would be longer than ARGV 2, and no turn is reserved.

local apart, longest = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local turn = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0))
if turn - now > longest then return -1 end
redis.call('SET', KEYS[1], string.format('%.0f', turn + apart), 'PX', math.ceil((turn + apart - now) / 1000))
return turn - now
