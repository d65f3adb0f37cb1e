-- Sends one request again and again, each time for another call of a ring.
-- wrk ... -- TEMPLATE START RING RUN [ETAGS]
--   TEMPLATE  file with a whole HTTP request; @C@ call number (5 digits), @P@ last 4 digits of the phone,
--             @T@ timestamp (ms), @N@ run and round of the ring (8 digits), @E@ the call's ETag
--   START     number of the first request: the ring goes on where the last run ended
--   RING      number of calls
--   RUN       number of this run; with it, no two requests are ever the same
--   ETAGS     file with one ETag a line, in the order of the calls
-- Prints: RESULT requests microseconds bytes errors

local parts, slots, etags = {}, {}, {}
local number, ring, run

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local function split(text)
  local from = 1
  for before, name, after in text:gmatch("()@([CPTNE])@()") do
    parts[#parts + 1] = text:sub(from, before - 1)
    parts[#parts + 1] = ""
    slots[#parts] = name
    from = after
  end
  parts[#parts + 1] = text:sub(from)
end

function init(args)
  split(read(args[1]))
  number, ring, run = tonumber(args[2]), tonumber(args[3]), tonumber(args[4])
  if args[5] then
    for line in read(args[5]):gmatch("[^\n]+") do etags[#etags + 1] = line end
  end
end

function request()
  local call = number % ring
  local values = {
    C = string.format("%05d", call),
    P = string.format("%04d", call % 10000),
    T = string.format("%.0f", 1788264000000 + run * 10000000 + number),
    N = string.format("%04d%04d", run, math.floor(number / ring)),
    E = etags[call + 1],
  }
  for index, name in pairs(slots) do parts[index] = values[name] end
  number = number + 1
  return table.concat(parts)
end

function done(summary)
  local e = summary.errors
  local errors = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format("RESULT %d %d %.0f %d\n", summary.requests, summary.duration, summary.bytes, errors))
end
