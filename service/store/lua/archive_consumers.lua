-- Tidy the consumers of the archive stream: give back what this one has read but not done, or remove dead ones.
--
-- KEYS  1 archive stream
-- ARGV  1 consumer group  2 this consumer
--       3 'give_back': others may take over this consumer's entries at once, and it is removed if it has none;
--         'tidy': remove consumers without entries that are dead
--       4 give_back: for how long the entries are then taken to have been idle, ms
--         tidy: after how long without a command a consumer is dead, ms
-- Returns 1

local stream, group, consumer, action, idle_ms = KEYS[1], unpack(ARGV)
local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
if consumers.err then return 1 end  -- nothing was ever written, or read

for _, flat in ipairs(consumers) do
  local one = {}
  for i = 1, #flat, 2 do one[flat[i]] = flat[i + 1] end
  if action == 'tidy' then
    if tonumber(one.pending) == 0 and tonumber(one.idle) > tonumber(idle_ms) then
      redis.call('XGROUP', 'DELCONSUMER', stream, group, one.name)
    end
  elseif one.name == consumer then
    local pending = redis.call('XPENDING', stream, group, '-', '+', 1000, consumer)
    for _, entry in ipairs(pending) do
      redis.call('XCLAIM', stream, group, consumer, 0, entry[1], 'IDLE', idle_ms, 'JUSTID')
    end
    if #pending == 0 then redis.call('XGROUP', 'DELCONSUMER', stream, group, consumer) end
  end
end
return 1
