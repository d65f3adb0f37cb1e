-- Merge one event into a call's record, in one atomic step. Also apply the end of the report grace.
-- The outcome does not depend on the order, the repetition or the interleaving of the events of one lifetime.
-- How the event's facts are taken is in take_facts.lua.
--
-- KEYS  1 call (hash)  2 expiry index  3 update index  4 partial index  5 deleted index (unused here)
--       6 due index  7 subscribed index  8 the call's subscriptions (hash, see subscribe.lua)
-- ARGV  1 call id  2 channel  3 prefix of the phone index of this bucket, and 4 its refresh index (same slot as the keys)
--       5 held index (same slot), '' where nothing holds records  6 archive stream (same slot), '' without an archive
--       7 forgotten numbers (hash, same slot; see forget_number.lua), '' without an archive
--       8 prefix of the due indices of callbacks (same slot), '' where this replica sends none
--       9 life of a final record, ms  10 life of one that is not, ms  11 report grace, ms
--       12 '1' when an analysis is expected
--       13 how long after completion VAPI may be asked once more for what the record lacks, ms; 0: never
--       14 stamp of the event, 17 digits: rank, then timestamp in ms; '' when there is no event, only time passing
--       15 status, 0 (none) upward  16 how far the event ends the call: 0 no, 1 over, 2 preliminary report, 3 full report
--       17 '1' when the event says that the call is over for a reason after which no analysis can come
--       18 facts of the first layout and 19 later ones: JSON fragments, each followed by \31; a fact that the event
--          does not give is empty. In 18 the 1st is the phone, in quotes; take_facts.lua names the places of the
--          others that the script knows.
--       20 token of this run: a repetition, after a lost reply, gets the same "for the first time" answers
--       21 digests of the event's phone numbers, each followed by a space, '-' for none; '' when they were not made
--       22 the event as the archive keeps it, '' where it keeps none
--       23... large facts, '' for those that the event does not give; the first is the transcript
-- Returns {result, the queues in which something is due now (see resume_waiting.lua), became final for the first time,
--         became complete for the first time, state, facts, facts2}
--       result: -2 nothing was done, as some numbers are forgotten: run it again with ARGV 21; -1 the call is deleted,
--       0 nothing changed, 1 changed. The last three are '' without a first time.
--
-- Hash: state (11 numbers, see the end), facts (as ARGV 18, but the ended reason after ARGV 17), stamps (17 digits per
--       fact of ARGV 18, then 17 per large fact), facts2 (as ARGV 19, but each fact after its stamp), 1... the large
--       facts, no_analysis ('1' once an event had ARGV 17), refresh ('1' once it was put on the refresh index),
--       final_by and complete_by (tokens); or deleted, see delete_call.lua. Only with an archive: unarchived (id of the
--       last entry of the archive stream for this call, until the archive has that change, or 'later', see
--       record_life.lua),
--       deleted_at_vapi ('1' once call.deleted came), raw and raw_stamp (ARGV 22 with the highest stamp).
--       Version 0.1.0 reads state, facts and stamps, and no number or fact may be added to them (call_codec.py).

local call, expiry, updates, partial, subscriptions = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[8]
local id, channel, phone_prefix, refresh = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local held, archive, forgotten, due_callbacks = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local result_ttl, pending_ttl, grace = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local expects_analysis, refresh_after = ARGV[12] == '1', tonumber(ARGV[13])
local given_status, given_ending = tonumber(ARGV[15]), tonumber(ARGV[16])
local token, digests, raw = ARGV[20], ARGV[21], ARGV[22]
local is_event = stamp ~= ''
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local state_text, deleted, final_by, complete_by, no_analysis, has_refresh, unarchived
state_text, facts_text, stamps_text, deleted, final_by, complete_by, later_text, no_analysis, has_refresh, unarchived =
  unpack(redis.call('HMGET', call, 'state', 'facts', 'stamps', 'deleted', 'final_by', 'complete_by', 'facts2',
    'no_analysis', 'refresh', 'unarchived'), 1, 10)

local function nothing_new(result) return {result, {}, 0, 0, '', '', ''} end
if deleted then
  if is_event then
    if not unarchived then redis.call('PEXPIRE', call, result_ttl) end  -- else it lives longer, see delete_call.lua
    redis.call('PEXPIRE', subscriptions, result_ttl)
  end
  return nothing_new(-1)
end
if not state_text and not is_event then return nothing_new(0) end

if archive ~= '' and is_event then
  -- Whether one of the event's numbers was forgotten after the event; nil when ARGV 21 is needed to tell. The key is not
  -- declared, because it is missing most of the time.
  local function is_forgotten()
    local count = redis.pcall('HLEN', forgotten)
    if type(count) ~= 'number' or count == 0 then return false end
    if digests == '' then return nil end
    local happened = tonumber(sub(stamp, 2)) % 9007199254740992
    for digest in string.gmatch(digests, '(%x+) ') do
      if happened <= tonumber(redis.call('HGET', forgotten, digest) or -1) then return true end
    end
    return false
  end
  local is_refused = is_forgotten()
  if is_refused ~= false then return nothing_new(is_refused and -1 or -2) end
end

local version, created, updated, status, level, over_at, data_status = 0, now, now, 0, 0, 0, PENDING
local was_final, was_complete, has_transcript = 0, 0, 0
if state_text then
  local v, c, u, s, l, o, d, f, k, t = string.match(state_text,
    '^(%d+) (%d+) (%d+) %d+ (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)')
  version, created, updated, status, level = tonumber(v), tonumber(c), tonumber(u), tonumber(s), tonumber(l)
  over_at, data_status, was_final, was_complete = tonumber(o), tonumber(d), tonumber(f), tonumber(k)
  has_transcript = tonumber(t)
end

local is_new = not state_text
is_changed = is_new
local old_facts, old_stamps, old_later = facts_text, stamps_text, later_text
local old_phone = phone_of(facts_text)
local is_raised = false  -- whether the event ends the call further than those before it

if is_event then
  if is_new then
    take_all()
  else
    take_large(take_small())
    if new_stamps then stamps_text = table.concat(new_stamps) end
  end
  take_later()
  if facts_text ~= old_facts then write('facts', facts_text) end
  if stamps_text ~= old_stamps then write('stamps', stamps_text) end
  if later_text ~= old_later then write('facts2', later_text) end
  if ARGV[FIRST_LARGE] ~= '' then has_transcript = 1 end
  if given_status > status then
    status = given_status
    is_changed = true
  end
  is_raised = given_ending > level
  level = math.max(level, given_ending)
  if level > 0 and over_at == 0 then over_at = now end
end

-- A call.deleted has the rank of a forwarding, and 2^53 added to its timestamp.
local FIRST_CALL_DELETED, FIRST_ENDED = '59007199254740992', '60000000000000000'
if archive ~= '' and is_event then
  if raw ~= '' then take_raw(raw) end
  if stamp >= FIRST_CALL_DELETED and stamp < FIRST_ENDED then write('deleted_at_vapi', '1') end
end

-- An analysis is ruled out once any applied event rules it out, whichever event's reason the record keeps. So the
-- result is the same in every order. For events that version 0.1.0 applied, see the mark before the reason.
if not no_analysis and (is_event and reason_mark == '1' or string.find(old_facts or '', '^[^\31]*\0311')) then
  no_analysis = '1'
  write('no_analysis', '1')
end

local phone = phone_of(facts_text)
local derived = PENDING
if was_complete == 1 or level == 3 or (level == 2 and (no_analysis or not expects_analysis)) then
  derived = COMPLETE
elseif level > 0 then
  derived = now >= over_at + grace and FETCH_FAILED or PARTIAL
end
local is_step = derived ~= data_status
is_changed = is_changed or is_step
if not is_event and not is_step and final_by ~= token then return nothing_new(0) end

local is_final = derived >= COMPLETE
local expires = now + (is_final and result_ttl or pending_ttl)
local first_final = is_final and (was_final == 0 or final_by == token) and 1 or 0
local first_complete = derived == COMPLETE and (was_complete == 0 or complete_by == token) and 1 or 0
if is_changed then
  version = version + 1
  updated = math.max(now, updated)
end
-- A row keeps the stamps too, so the archive also needs a change of stamps alone, which is none for pollers.
local is_row_stale = is_changed or is_raised or #writes > 2
local expires_text, updated_text = string.format('%d', expires), is_changed and string.format('%d', updated)
local state = string.format('%d %d %d %s %d %d %d %d %d %d %d', version, created, updated, expires_text, status, level,
  over_at, derived, math.max(was_final, first_final), math.max(was_complete, first_complete), has_transcript)
writes[2] = state
if first_final == 1 then write('final_by', token) end
if first_complete == 1 then write('complete_by', token) end
local is_new_phone = phone ~= old_phone
local index_ttl = math.max(result_ttl, pending_ttl, held ~= '' and HELD_FOR_MS or 0)
if archive ~= '' and is_row_stale then
  local has_time = not is_final and (unarchived == 'later' or archive_later(archive, id, now, pending_ttl))
  local entry = has_time and 'later' or redis.call('XADD', archive, '*', 'layout', '1', 'call', id)
  if entry ~= unarchived then write('unarchived', entry) end
  unarchived = entry
end
local is_kept = held ~= '' and is_final and is_held(unarchived, due_callbacks ~= '' and subscriptions or '')
local lives_until = is_kept and string.format('%d', held_until(expires, now)) or expires_text
-- The phone's keys are not declared, as only the record tells its phone. While a Cluster slot is moving, Redis aborts
-- the script at the first missing key. So the phone's keys are written first and the record last: a merge that was
-- aborted and is repeated is then done as a whole.
index_phone(phone_prefix, updates, id, phone, old_phone, lives_until, updated_text, index_ttl)
-- Like the refresh index below, the held index may be missing in a slot that is moving.
if is_kept and type(redis.pcall('ZADD', held, lives_until, id)) == 'number' then
  redis.pcall('PEXPIRE', held, 2 * index_ttl)
  redis.call('ZREM', expiry, id)
else
  redis.call('ZADD', expiry, lives_until, id)
end
if is_changed then redis.call('ZADD', updates, updated_text, id) end
if derived == PARTIAL then
  redis.call('ZADD', partial, over_at, id)
elseif data_status == PARTIAL then
  redis.call('ZREM', partial, id)
end

-- The refresh index is not declared either: if it is missing, Redis would refuse every merge in a slot that is moving.
-- A failed write to it does not refuse the webhook: a later event may add the call.
if refresh_after > 0 and is_event and derived == COMPLETE and not has_refresh and lacks_late_results() and
  type(redis.pcall('ZADD', refresh, now + refresh_after, id)) == 'number' then
  redis.pcall('PEXPIRE', refresh, 2 * index_ttl)
  write('refresh', '1')
end

-- Not needed for every event. Each new call also drops some expired calls.
if is_new or is_step or is_new_phone or now - created > index_ttl then
  renew_indices(phone_prefix, expiry, updates, derived == PARTIAL and partial, phone, index_ttl)
end
if is_new or is_new_phone then
  drop_expired(expiry, {updates, partial}, now)
  if phone ~= '' then drop_expired(phone_prefix .. phone, {updates .. ':' .. phone}, now) end
end

redis.call('HSET', call, unpack(writes))
redis.call('PEXPIREAT', call, lives_until)

local queues = {}
if redis.call('PEXPIREAT', subscriptions, lives_until) == 1 and is_final then
  queues = resume_waiting(subscriptions, KEYS[6], due_callbacks, KEYS[7], id, now, index_ttl)
end
if is_changed then redis.call('PUBLISH', channel, id) end

local is_first = first_final + first_complete > 0
return {is_changed and 1 or 0, queues, first_final, first_complete, is_first and state or '',
  is_first and facts_text or '', is_first and later_text or ''}
