-- Decide who may ask VAPI about a call, and when: by a lease in the call's own hash, and by the call's record.
--
-- KEYS  1 call (hash)  2 deleted index  3 due index  4 subscribed index  5 the call's subscriptions (see subscribe.lua)
-- ARGV  1 'claim', 'release' or 'missing' (VAPI does not know the call)  2 call id  3 channel
--       4 token of the lease: a repeated claim gets the same answer, and a release ends no other's lease
--       5 life of a record that is not final, ms  6 age from which VAPI is asked for a partial record, ms
--       7 silence after which VAPI is asked for a pending record, ms; from then on also the pause between two requests
--       8 first pause after a request, ms; each further pause is longer by this much  9 longest pause, ms
--       10 pause after a release, ms  11 how far apart two 404 must be, ms, before the call counts as gone
--       12 life of the hash of a call without a record, ms  13 how long 'gone' stays in the deleted index, ms
--       14 prefix of the due indices of callbacks (same slot as the keys), '' where this replica sends none
-- Returns {1 granted ('missing': the call now counts as gone) else 0, ms until it may be claimed next; -1 never,
--         the kind of record: 'unknown', 'pending', 'partial' or ''}
--
-- Hash: asked ("<kind> <how often> <may be claimed at, ms> <first 404 at, ms> <token>"), gone. A merge ignores both.

local call, deleted_index, due_index, subscribed_index, subscriptions = unpack(KEYS)
local action, id, channel, token = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local pending_ttl, partial_for, silent_for = ARGV[5], ARGV[6], tonumber(ARGV[7])
local first_pause, longest_pause, release_pause = ARGV[8], tonumber(ARGV[9]), ARGV[10]
local missing_for, unknown_ttl, gone_ttl, due_callbacks = tonumber(ARGV[11]), ARGV[12], ARGV[13], ARGV[14]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local state, deleted, asked, gone = unpack(redis.call('HMGET', call, 'state', 'deleted', 'asked', 'gone'))
local kind, due = 'unknown', 0
if state then
  local expires, over_at, data_status = life_of(state)
  if data_status == PENDING then
    kind, due = 'pending', expires - pending_ttl + silent_for
  elseif data_status == PARTIAL then
    kind, due = 'partial', over_at + partial_for
  else
    kind = ''
  end
end
if deleted or kind == '' then return {0, -1, ''} end

local held_kind, count, next_at, missing_at, holder = string.match(asked or '', '^(%a+) (%d+) (%d+) (%d+) (%x*)$')
if held_kind ~= kind then count, next_at, missing_at, holder = 0, 0, 0, '' end
count, next_at, missing_at = tonumber(count), tonumber(next_at), tonumber(missing_at)

local function keep()
  redis.call('HSET', call, 'asked', string.format('%s %d %.0f %.0f %s', kind, count, next_at, missing_at, holder))
  -- A lease that was released unused lives only for its pause. So polls of made-up ids keep no more hashes than VAPI
  -- gets requests.
  local is_unused = count == 0 and missing_at == 0
  if not state then redis.call('PEXPIRE', call, is_unused and release_pause or unknown_ttl) end
end

if action == 'claim' then
  if holder == token then return {1, next_at - now, kind} end
  local claimable_at = math.max(due, next_at)
  if now < claimable_at then return {0, claimable_at - now, kind} end
  count, holder = count + 1, token
  next_at = now + (kind == 'pending' and silent_for or math.min(count * first_pause, longest_pause))
  keep()
  return {1, next_at - now, kind}
end

if action == 'release' then
  if holder == token then
    count, next_at, holder = count - 1, now + release_pause, ''
    keep()
  end
  return {0, math.max(due, next_at) - now, kind}
end

if kind ~= 'unknown' or held_kind ~= kind then return {0, -1, kind} end
if missing_at == 0 then
  missing_at = now
  keep()
elseif not gone and now - missing_at >= missing_for then
  redis.call('HSET', call, 'gone', now)
  redis.call('ZREMRANGEBYSCORE', deleted_index, '-inf', now - gone_ttl)
  redis.call('ZADD', deleted_index, now, id)
  redis.call('PEXPIRE', deleted_index, gone_ttl)
  redis.call('PUBLISH', channel, id)
  gone = now
  -- Paused executions are resumed as well: there will be no record to wait for.
  resume_waiting(subscriptions, due_index, due_callbacks, subscribed_index, id, now, pending_ttl)
end
return {gone and 1 or 0, math.max(0, next_at - now), kind}
