-- Store which pause of its execution a try is about to end.
--
-- KEYS  1 the call's subscriptions (hash, see subscribe.lua)
-- ARGV  1 execution id  2 number of the try  3 number of the pause  4 its task run id, '' where Kestra does not show it
-- Returns 1, or 0 when another try holds the subscription, or it is gone.

local execution = ARGV[1]
local state, meant = unpack(redis.call('HMGET', KEYS[1], execution, 'for:' .. execution))
if string.match(state or '', '^tried %d+ (%d+)$') ~= ARGV[2] then return 0 end
local subscribed_at = string.match(meant or '0', '^%d+')
redis.call('HSET', KEYS[1], 'for:' .. execution, subscribed_at .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
return 1
