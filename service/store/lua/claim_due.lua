-- Claim subscriptions whose execution is to be resumed now. While the lease lasts, nobody else gets them.
--
-- KEYS  1 due index (see subscribe.lua)  2 the last claim of this process in this bucket (string, lives for one lease)
-- ARGV  1 prefix of the subscriptions of this bucket's calls (same slot as the key)  2 how many at most  3 lease, ms
--       4 life of the index, ms  5 token of the claim; a repetition, after a lost reply, has the same token
-- Returns {how many more are to be resumed now, call id, execution id, number of this try,
--         ms since the first one, ms when it was subscribed (0 unknown), number of the pause that an earlier try saw
--         (0 none), its task run id, call id, ...}

local due, last = KEYS[1], KEYS[2]
local token = ARGV[5]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local claimed, members = {0}, {}

local function add(member, id, execution, first, tries)
  redis.call('ZADD', due, now + ARGV[3], member)
  claimed[#claimed + 1] = id
  claimed[#claimed + 1] = execution
  claimed[#claimed + 1] = tries
  claimed[#claimed + 1] = math.max(0, now - first)
  local meant = redis.call('HGET', ARGV[1] .. id, 'for:' .. execution) or '0'
  local subscribed_at, pause, task_run = string.match(meant, '^(%d+) ?(%d*) ?(.*)$')
  claimed[#claimed + 1] = tonumber(subscribed_at)
  claimed[#claimed + 1] = tonumber(pause) or 0
  claimed[#claimed + 1] = task_run
  members[#members + 1] = member .. ' ' .. tries
end

-- What this claim took before its reply was lost, except what was ended or claimed by others since.
local kept_token, kept = string.match(redis.call('GET', last) or '', '^(%x+)\n(.*)$')
if kept_token == token then
  for id, execution, try in string.gmatch(kept, '(%S+) (%S+) (%d+)\n') do
    local state = redis.call('HGET', ARGV[1] .. id, execution) or ''
    local first, tries = string.match(state, '^tried (%d+) (%d+)$')
    if tries == try then add(id .. ' ' .. execution, id, execution, tonumber(first), tonumber(tries)) end
  end
end

local room = math.max(0, ARGV[2] - #members)
for _, member in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, room)) do
  local id, execution = string.match(member, '^(%S+) (%S+)$')
  local state = redis.call('HGET', ARGV[1] .. id, execution) or 'expired'
  local first, tries = string.match(state, '^tried (%d+) (%d+)$')
  if state == 'waiting' then first, tries = now, 0 end
  if first then
    first, tries = tonumber(first), tries + 1
    redis.call('HSET', ARGV[1] .. id, execution, string.format('tried %.0f %d', first, tries))
    add(member, id, execution, first, tries)
  else
    redis.call('ZREM', due, member)
  end
end
if #members > 0 then redis.call('SET', last, token .. '\n' .. table.concat(members, '\n') .. '\n', 'PX', math.max(1, ARGV[3])) end
redis.call('PEXPIRE', due, ARGV[4])
claimed[1] = redis.call('ZCOUNT', due, '-inf', now)
return claimed
