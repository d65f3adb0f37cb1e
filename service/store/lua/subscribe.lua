-- Subscribe an execution or a callback to a call: it is resumed, or sent, once the call's record is final; now if the
-- record is final or never will be (the call was deleted, or VAPI does not know it). Once per call and subscriber.
--
-- KEYS  1 call (hash, see merge_call.lua)  2 the call's subscriptions (hash)  3 due index  4 subscribed index
--       5 subscriptions of known calls  6 of unknown calls (both: see count_subscriptions.lua)
--       7 index of the calls with callbacks (see look_at_callbacks.lua)
-- ARGV  1 call id  2 subscriber: execution id, or `callback:<tag of the origin>:<tag of the URL>`
--       3 life while there is no record yet, ms  4 life after its deletion, ms
--       5 life of the indices, ms  6 how many subscriptions a call may have
--       7 why no further subscription of a known call is taken, '' if one is  8 the same for an unknown call
--       9 '' for an execution, 'callback ' for a callback  10 '' or the callback's URL
--       11 '1' when the archive has the call's final record
-- Returns {'noted', also if it was before; 'due': to be tried now; 'call_is_full'; or the reason in ARGV 7 or 8,
--         'known' or 'unknown' call if the subscription is new, else ''}
--
-- Hash: `<subscriber>`: waiting (untried) · tried <ms of the first try> <tries> · <result> <try>, where the result is
--       resumed, delivered or dropped. The states of callbacks have `callback ` in front, so that replicas of version
--       0.1.0, which know only executions, neither make them due nor try them.
--       The due index has an entry, `<call id> <subscriber>` by the ms of the next try, from the step that makes the
--       record final (or removes it) until the subscriber has it or is dropped. Each origin of callbacks has its own.
--       `for:<subscriber>`: <ms when it was subscribed>, then the callback's URL; or, once the execution's pause was
--       seen, the pause's <number> <task run id>.

local call, subscriptions, due, subscribed, of_known_calls, of_unknown_calls, callback_calls = unpack(KEYS)
local id, subscriber, unknown_ttl, tombstone_ttl, index_ttl, most = unpack(ARGV, 1, 6)
local known_refusal, unknown_refusal, mark, url = ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local is_final_in_archive = ARGV[11] == '1'
local member = id .. ' ' .. subscriber
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local state, deleted, gone, unarchived = unpack(redis.call('HMGET', call, 'state', 'deleted', 'gone', 'unarchived'))
local expires, _, data_status = life_of(state)
local is_final = deleted
if state then is_final = data_status >= COMPLETE elseif gone then is_final = true end
local is_final_here = state and is_final
is_final = is_final or is_final_in_archive
if is_final_here and (mark ~= '' or is_held(unarchived, '')) then
  expires = string.format('%.0f', held_until(expires, now))
end

local known, added = redis.call('HGET', subscriptions, subscriber), ''
if not known then
  local is_known_call = state or deleted
  local refusal = is_known_call and known_refusal or unknown_refusal
  if redis.call('HLEN', subscriptions) >= 2 * most then return {'call_is_full', ''} end  -- two fields each
  if refusal ~= '' then return {refusal, ''} end
  local purpose = string.format('%.0f', now) .. (url ~= '' and ' ' .. url or '')
  redis.call('HSET', subscriptions, subscriber, mark .. 'waiting', 'for:' .. subscriber, purpose)
  if mark ~= '' then
    redis.call('ZADD', callback_calls, now, id)
    redis.call('PEXPIRE', callback_calls, index_ttl)
    -- Until look_at_callbacks.lua holds the whole record.
    if is_final_here then redis.call('PEXPIREAT', call, expires) end
  end
  if state then
    redis.call('PEXPIREAT', subscriptions, expires)
  else
    redis.call('PEXPIRE', subscriptions, deleted and tombstone_ttl or unknown_ttl)
  end
  added = is_known_call and 'known' or 'unknown'
  local counted = is_known_call and of_known_calls or of_unknown_calls
  redis.call('ZADD', counted, now, member)
  redis.call('PEXPIRE', counted, index_ttl)
else
  -- Write it again: without a write WAIT would confirm nothing for a repetition (idempotency_claim.lua).
  redis.call('HSET', subscriptions, subscriber, known)
  if known ~= mark .. 'waiting' then return {'noted', ''} end
end
if is_final then
  redis.call('ZADD', due, now, member)
  redis.call('PEXPIRE', due, index_ttl)
  return {'due', added}
end
redis.call('ZADD', subscribed, 'NX', now, id)
redis.call('PEXPIRE', subscribed, index_ttl)
return {'noted', added}
