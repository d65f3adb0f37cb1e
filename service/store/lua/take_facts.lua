-- Functions for merge_call.lua that take the facts of an event into the call's record.
--
-- Of each fact the value with the highest stamp is kept, and of values with equal stamps the greater one. Its stamp is
-- kept with it. A higher stamp replaces the stored one even when the value stays.

-- The event, see ARGV of merge_call.lua.
local stamp, reason_mark, first_facts, later_facts = ARGV[14], ARGV[17], ARGV[18], ARGV[19]
local FIRST_LARGE = 23  -- in ARGV

-- Places of facts, in the order of service/calls/facts.py; a test compares them. Patterns use places without a name:
-- phone_of reads the 1st of first_facts, and take_all and merge_call.lua look for the mark of the reason in the 2nd.
local ENDED_REASON, RECORDING_URL = 2, 8  -- in first_facts
local CUSTOMER_SPOKE, RECORDING_ENABLED, OUTPUTS_AWAITED = 1, 4, 5  -- in later_facts
-- The later facts that a record does not show; they do not count as a change.
local NOT_SHOWN = {[RECORDING_ENABLED] = true, [OUTPUTS_AWAITED] = true}

-- The record: merge_call.lua sets it as it is stored, and the functions change it.
local facts_text, stamps_text, later_text  -- the fields facts, stamps and facts2; false in a new record
local is_changed = false  -- whether pollers see a change
local writes = {'state', ''}  -- fields and values of the one HSET in the end

local STAMP_DIGITS = 17
local BLANK = '00000000000000000'  -- the stamp where no fact is stored
local sub = string.sub

local function write(field, value)
  writes[#writes + 1] = field
  writes[#writes + 1] = value
end

local function split(text)
  local parts, count = {}, 0
  for part in string.gmatch(text, '([^\31]*)\31') do
    count = count + 1
    parts[count] = part
  end
  return parts
end

-- The part of a fragment to compare: a reason without its mark, a text without its closing quote, so that it is less
-- than a longer text that begins with it.
local function comparable(fragment, is_reason)
  local first = is_reason and 2 or 1
  return sub(fragment, first, sub(fragment, first, first) == '"' and -2 or -1)
end

-- Compares bytes: Lua's own comparison of strings follows the server's locale. (That is safe for stamps, digits of one
-- length.) Skips equal parts a thousand bytes at a time: two deliveries of a large report are nearly the same.
local function is_greater(a, b)
  local at = 1
  while at <= #a and sub(a, at, at + 999) == sub(b, at, at + 999) do at = at + 1000 end
  for i = at, math.min(#a, #b, at + 999) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x > y end
  end
  return #a > #b
end

local function outweighs(value, old, is_higher, is_reason)
  return value ~= old and (is_higher or is_greater(comparable(value, is_reason), comparable(old, is_reason)))
end

-- The stored stamp of a small or large fact, by its place among both.
local function stamp_at(place) return sub(stamps_text, STAMP_DIGITS * (place - 1) + 1, STAMP_DIGITS * place) end

-- A later fact from its entry in facts2, where it stands behind its stamp.
local function without_stamp(stamped_fact) return sub(stamped_fact, STAMP_DIGITS + 1) end

-- A call's first event: take all its facts.
local function take_all()
  facts_text = string.gsub(first_facts, '^([^\31]*\31)([^\31])', '%1' .. reason_mark .. '%2')
  local stamps = string.gsub(string.gsub(first_facts, '[^\31]+\31', stamp), '\31', BLANK)
  for i = FIRST_LARGE, #ARGV do
    stamps = stamps .. (ARGV[i] ~= '' and stamp or BLANK)
    if ARGV[i] ~= '' then write(i - FIRST_LARGE + 1, ARGV[i]) end
  end
  stamps_text = stamps
end

local new_stamps  -- a list; nil until a stamp is replaced
local function stamp_anew(place)
  if not new_stamps then
    new_stamps = {}
    for n = 1, #stamps_text / STAMP_DIGITS do new_stamps[n] = stamp_at(n) end
  end
  new_stamps[place] = stamp
end

-- Take each small fact that outweighs the stored one; returns how many there are. The stored ones are split only when
-- a first one may have to be taken.
local function take_small()
  local count, facts, is_taken = 0, nil, false
  for value in string.gmatch(first_facts, '([^\31]*)\31') do
    count = count + 1
    local old_stamp = value ~= '' and stamp_at(count)
    if old_stamp and stamp >= old_stamp then
      if count == ENDED_REASON then value = reason_mark .. value end
      facts = facts or split(facts_text)
      if outweighs(value, facts[count] or '', stamp > old_stamp, count == ENDED_REASON) then
        facts[count], is_taken = value, true
      end
      if stamp > old_stamp then stamp_anew(count) end
    end
  end
  if is_taken then facts_text, is_changed = table.concat(facts, '\31') .. '\31', true end
  return count
end

-- The same for the large facts.
local function take_large(small_count)
  local rivals = {}  -- fields to be compared with what is there
  for i = FIRST_LARGE, #ARGV do
    local field = i - FIRST_LARGE + 1
    local old_stamp = ARGV[i] ~= '' and stamp_at(small_count + field)
    if old_stamp and stamp >= old_stamp then
      -- A blank stamp means that no fact is stored, unless its event had that very stamp. Once something has changed,
      -- writing an equal value is cheaper than reading the stored one to compare.
      if stamp > old_stamp and (old_stamp == BLANK or is_changed) then
        write(field, ARGV[i])
        is_changed = true
      else
        rivals[#rivals + 1] = field
      end
      if stamp > old_stamp then stamp_anew(small_count + field) end
    end
  end
  local old = #rivals > 0 and redis.call('HMGET', KEYS[1], unpack(rivals)) or {}
  for i, field in ipairs(rivals) do
    local value, is_higher = ARGV[FIRST_LARGE + field - 1], stamp > stamp_at(small_count + field)
    if outweighs(value, old[i] or '', is_higher) then
      write(field, value)
      is_changed = true
    end
  end
end

-- The same for the later facts, each of which stands behind its stamp. A later version may have written more of them
-- than we know: they stay as they are.
local stamped_facts  -- the later facts as they are now
local function take_later()
  stamped_facts = split(later_text or '')
  local count = 0
  for value in string.gmatch(later_facts, '([^\31]*)\31') do
    count = count + 1
    local stamped_fact = stamped_facts[count] or BLANK
    local old_stamp = value ~= '' and sub(stamped_fact, 1, STAMP_DIGITS)
    if old_stamp and stamp >= old_stamp then
      local old = without_stamp(stamped_fact)
      if not outweighs(value, old, stamp > old_stamp) then
        value = old
      elseif not NOT_SHOWN[count] then
        is_changed = true
      end
      stamped_fact = stamp .. value
    end
    stamped_facts[count] = stamped_fact
  end
  later_text = table.concat(stamped_facts, '\31') .. '\31'
end

-- Keep the raw event with the highest stamp.
local function take_raw(raw)
  local old_stamp = redis.call('HGET', KEYS[1], 'raw_stamp') or ''
  if stamp < old_stamp then return end
  if stamp == old_stamp and not is_greater(raw, redis.call('HGET', KEYS[1], 'raw')) then return end
  write('raw', raw)
  write('raw_stamp', stamp)
end

-- Whether VAPI may still add something: it adds recordings and structured outputs after the report. A recording is here
-- once its fact has a stamp. Awaited outputs may have come by another message; that is checked just before VAPI is
-- asked.
local function lacks_late_results()
  if without_stamp(stamped_facts[CUSTOMER_SPOKE]) ~= 'true' then return false end
  if without_stamp(stamped_facts[OUTPUTS_AWAITED]) == 'true' then return true end
  return stamp_at(RECORDING_URL) == BLANK and without_stamp(stamped_facts[RECORDING_ENABLED]) ~= 'false'
end
