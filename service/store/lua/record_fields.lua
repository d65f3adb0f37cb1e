-- Functions that read fields of a call's hash, for the scripts that need little of it (all fields: see merge_call.lua).

-- What `data_status` in the field `state` means; the last two are final.
local PENDING, PARTIAL, COMPLETE, FETCH_FAILED = 0, 1, 2, 3

-- From the field `state`: the record's own `expires_at` (ms), when the call was over (ms, 0 if it is not), data_status.
-- All are nil without a state.
local function life_of(state)
  local expires, over_at, data_status = string.match(state or '', '^%d+ %d+ %d+ (%d+) %d+ %d+ (%d+) (%d+)')
  return tonumber(expires), tonumber(over_at), tonumber(data_status)
end

-- From the field `facts`: the call's phone number, '' for none.
local function phone_of(facts) return string.match(facts or '', '^"?([^\31]-)"?\31') or '' end
