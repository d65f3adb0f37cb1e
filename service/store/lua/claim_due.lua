-- Claim subscriptions that are due: executions to be resumed, or callbacks of one origin to be sent. While the lease
-- lasts, nobody else gets them.
--
-- KEYS  1 due index (see subscribe.lua)  2 the last claim of this process in this bucket (string, lives for one lease)
-- ARGV  1 prefix of the subscriptions of this bucket's calls (same slot as the key)  2 how many at most  3 lease, ms
--       4 life of the index, ms  5 token of the claim; a repetition, after a lost reply, has the same token
--       6 '' for executions, 'callback ' for callbacks
-- Returns {how many more are due now, how many have expired untold, call id, subscriber, number of this try,
--         ms since the first one, ms when it was subscribed (0 unknown), the rest of its `for:` field, call id, ...}

local due, last = KEYS[1], KEYS[2]
local subscriptions, most, lease, index_ttl, token, mark = unpack(ARGV)
local tried = '^' .. mark .. 'tried (%d+) (%d+)$'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local claimed, members, expired = {0, 0}, {}, 0

local function add(member, id, subscriber, first, tries)
  redis.call('ZADD', due, now + lease, member)
  claimed[#claimed + 1] = id
  claimed[#claimed + 1] = subscriber
  claimed[#claimed + 1] = tries
  claimed[#claimed + 1] = math.max(0, now - first)
  local purpose = redis.call('HGET', subscriptions .. id, 'for:' .. subscriber) or '0'
  local subscribed_at, rest = string.match(purpose, '^(%d+) ?(.*)$')
  claimed[#claimed + 1] = tonumber(subscribed_at)
  claimed[#claimed + 1] = rest
  members[#members + 1] = member .. ' ' .. tries
end

-- What this claim took before its reply was lost, except what was ended or claimed by others since.
local kept_token, kept = string.match(redis.call('GET', last) or '', '^(%x+)\n(.*)$')
if kept_token == token then
  for id, subscriber, try in string.gmatch(kept, '(%S+) (%S+) (%d+)\n') do
    local first, tries = string.match(redis.call('HGET', subscriptions .. id, subscriber) or '', tried)
    if tries == try then add(id .. ' ' .. subscriber, id, subscriber, tonumber(first), tonumber(tries)) end
  end
end

local room = math.max(0, most - #members)
for _, member in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, room)) do
  local id, subscriber = string.match(member, '^(%S+) (%S+)$')
  local state = redis.call('HGET', subscriptions .. id, subscriber)
  local first, tries = string.match(state or '', tried)
  if not state then expired = expired + 1 end
  if state == mark .. 'waiting' then first, tries = now, 0 end
  if first then
    first, tries = tonumber(first), tries + 1
    redis.call('HSET', subscriptions .. id, subscriber, mark .. string.format('tried %.0f %d', first, tries))
    add(member, id, subscriber, first, tries)
  else
    redis.call('ZREM', due, member)
  end
end
if #members > 0 then
  redis.call('SET', last, token .. '\n' .. table.concat(members, '\n') .. '\n', 'PX', math.max(1, lease))
end
redis.call('PEXPIRE', due, index_ttl)
claimed[1], claimed[2] = redis.call('ZCOUNT', due, '-inf', now), expired
return claimed
