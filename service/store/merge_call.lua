-- Merge one event into a call's record, in one atomic step; also applies the end of the report grace.
-- The outcome does not depend on the order, the repetition or the interleaving of the events of one lifetime.
--
-- KEYS  1 call (hash)  2 expiry index  3 update index  4 partial index  5 deleted index (unused here)
-- ARGV  1 call id  2 channel  3 prefix of the phone index of this bucket (same slot as the keys)
--       4 life of a final record, ms  5 life of one that is not, ms  6 report grace, ms
--       7 '1' when an analysis is expected
--       8 stamp of the event, 17 digits: rank, then timestamp in ms; '' when there is no event, only time passing
--       9 status, 0 (none) upward  10 how far the event ends the call: 0 no, 1 over, 2 preliminary report, 3 full report
--       11 small facts, JSON fragments, each followed by \31; nothing before the \31 where the event gives none.
--          The first is the phone, in quotes. The second begins with '1' when no analysis can follow it.
--       12 token of this very request: when its reply got lost and it is sent again, it is told the same firsts
--       13... large facts, '' where the event gives none; the first is the transcript
-- Returns {result, now in ms, became final for the first time, became complete for the first time, state, small facts}
--       result: -1 the call is deleted, 0 nothing changed, 1 changed; the last two only with a first time, else ''.
--
-- Hash: state (11 numbers, see `numbers`), facts (as ARGV 11), stamps (17 digits a fact), 1... the large facts, final_by
--       and complete_by (tokens); or deleted.

local call, expiry, updates, partial = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, stamp, token = ARGV[1], ARGV[8], ARGV[12]
local result_ttl, pending_ttl, grace = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local is_event = stamp ~= ''
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local stored = redis.call('HMGET', call, 'state', 'facts', 'stamps', 'deleted', 'final_by', 'complete_by')
if stored[4] then
  if is_event then redis.call('PEXPIRE', call, result_ttl) end
  return {-1, now, 0, 0, '', ''}
end
if not stored[1] and not is_event then return {0, now, 0, 0, '', ''} end

local PENDING, PARTIAL, COMPLETE, FETCH_FAILED = 0, 1, 2, 3

local numbers = {}
for number in string.gmatch(stored[1] or '', '%d+') do numbers[#numbers + 1] = tonumber(number) end
local version, created, updated, expires = numbers[1] or 0, numbers[2] or now, numbers[3] or now, numbers[4] or 0
local status, level, over_at, data_status = numbers[5] or 0, numbers[6] or 0, numbers[7] or 0, numbers[8] or PENDING
local was_final, was_complete, has_transcript = numbers[9] or 0, numbers[10] or 0, numbers[11] or 0

local function split(text)
  local parts = {}
  for part in string.gmatch(text, '([^\31]*)\31') do parts[#parts + 1] = part end
  return parts
end

-- What is compared of a fragment: the ended reason without its mark, text without its closing quote, so that a text
-- is less than its continuation.
local function comparable(fragment, is_reason)
  local first = is_reason and 2 or 1
  return string.sub(fragment, first, string.sub(fragment, first, first) == '"' and -2 or -1)
end

-- By bytes: Lua's own comparison of strings follows the server's locale. (Stamps are digits of one length: safe.)
-- Equal stretches are skipped a thousand bytes at a time: two deliveries of a large report share nearly all of them.
local function is_greater(a, b)
  local at = 1
  while at <= #a and string.sub(a, at, at + 999) == string.sub(b, at, at + 999) do at = at + 1000 end
  for i = at, math.min(#a, #b, at + 999) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x > y end
  end
  return #a > #b
end

local is_new = not stored[1]
local is_changed = is_new
local facts_text, stamps_text = stored[2], stored[3]
local old_phone, large = '', {}

if is_event then
  local given = split(ARGV[11])
  local small, all = #given, #given + #ARGV - 12
  local facts = facts_text and split(facts_text) or {}
  local stamps, restamped = {}, false
  for i = 1, all do
    local held = stamps_text and string.sub(stamps_text, 17 * i - 16, 17 * i) or '00000000000000000'
    local value = given[i] or ARGV[12 + i - small]
    if value ~= '' and stamp >= held then
      local old = facts[i] or ''
      if i > small then old = not is_new and redis.call('HGET', call, i - small) or '' end
      if stamp > held or (value ~= old and is_greater(comparable(value, i == 2), comparable(old, i == 2))) then
        if value ~= old then
          is_changed = true
          if i > small then
            large[#large + 1] = i - small
            large[#large + 1] = value
          end
        else
          value = old
        end
        if i == 1 then old_phone = old end
        if i <= small then facts[i] = value end
        if stamp > held then
          held = stamp
          restamped = true
        end
      end
    end
    stamps[i] = held
    if i <= small and not facts[i] then facts[i] = '' end
  end
  if is_changed or restamped then
    facts_text = table.concat(facts, '\31') .. '\31'
    stamps_text = table.concat(stamps)
    redis.call('HSET', call, 'facts', facts_text, 'stamps', stamps_text, unpack(large))
  end
  if ARGV[13] ~= '' then has_transcript = 1 end
  if tonumber(ARGV[9]) > status then
    status = tonumber(ARGV[9])
    is_changed = true
  end
  level = math.max(level, tonumber(ARGV[10]))
  if level > 0 and over_at == 0 then over_at = now end
end

local phone, ending = string.match(facts_text, '^([^\31]*)\31([^\31]?)')
local derived = PENDING
if level == 3 or (level == 2 and (ending == '1' or ARGV[7] == '0')) then
  derived = COMPLETE
elseif level > 0 then
  derived = now >= over_at + grace and FETCH_FAILED or PARTIAL
end
local is_step = derived ~= data_status
is_changed = is_changed or is_step
if not is_event and not is_step and stored[5] ~= token then return {0, now, 0, 0, '', ''} end

local is_final = derived >= COMPLETE
expires = now + (is_final and result_ttl or pending_ttl)
local first_final = is_final and (was_final == 0 or stored[5] == token) and 1 or 0
local first_complete = derived == COMPLETE and (was_complete == 0 or stored[6] == token) and 1 or 0
if is_changed then
  version = version + 1
  updated = math.max(now, updated)
end
local state = string.format('%.0f %.0f %.0f %.0f %d %d %.0f %d %d %d %d', version, created, updated, expires, status,
  level, over_at, derived, math.max(was_final, first_final), math.max(was_complete, first_complete), has_transcript)
redis.call('HSET', call, 'state', state)
if first_final == 1 then redis.call('HSET', call, 'final_by', token) end
if first_complete == 1 then redis.call('HSET', call, 'complete_by', token) end
redis.call('PEXPIREAT', call, expires)

local dead = redis.call('ZRANGEBYSCORE', expiry, '-inf', '(' .. now, 'LIMIT', 0, 10)
if #dead > 0 then
  redis.call('ZREM', expiry, unpack(dead))
  redis.call('ZREM', updates, unpack(dead))
  redis.call('ZREM', partial, unpack(dead))
end
local index_ttl = math.max(result_ttl, pending_ttl)
redis.call('ZADD', expiry, expires, id)
redis.call('PEXPIRE', expiry, index_ttl)
if is_changed then redis.call('ZADD', updates, updated, id) end
redis.call('PEXPIRE', updates, index_ttl)
if derived == PARTIAL then
  redis.call('ZADD', partial, over_at, id)
  redis.call('PEXPIRE', partial, index_ttl)
elseif data_status == PARTIAL then
  redis.call('ZREM', partial, id)
end
if old_phone ~= '' and old_phone ~= phone then
  redis.call('ZREM', ARGV[3] .. string.sub(old_phone, 2, -2), id)
end
if phone ~= '' then
  local numbers_calls = ARGV[3] .. string.sub(phone, 2, -2)
  redis.call('ZREMRANGEBYSCORE', numbers_calls, '-inf', '(' .. now)
  redis.call('ZADD', numbers_calls, expires, id)
  redis.call('PEXPIRE', numbers_calls, index_ttl)
end
if is_changed then redis.call('PUBLISH', ARGV[2], id) end

local is_first = first_final + first_complete > 0
return {is_changed and 1 or 0, now, first_final, first_complete, is_first and state or '', is_first and facts_text or ''}
