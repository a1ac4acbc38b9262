-- wrk's side of a load: sends the requests of a file as they are.
--   wrk ... -s request.lua http://HOST:PORT -- FILE
-- Where the file has @@@@@@@@ a number stands in its place, another one in each request. wrk itself counts as many
-- answers as there are requests in the file.
-- At the end one line of JSON says what wrk counted (durations in microseconds).

local text, first, second
local number = 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  text = file:read("*a")
  file:close()
  local at = text:find("@@@@@@@@", 1, true)
  if at then
    first, second = text:sub(1, at - 1), text:sub(at + 8)
    request = function()
      number = number + 1
      return first .. string.format("%08d", number) .. second
    end
  else
    wrk.format = function() return text end -- a global request() would be called for each request
  end
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "microseconds": %d, "bytes": %d, "connect": %d, "read": %d, "write": %d, "status": %d, ' ..
    '"timeout": %d, "latency_us": {"50": %d, "75": %d, "90": %d, "99": %d, "99.9": %d, "max": %d}}\n',
    summary.requests, summary.duration, summary.bytes, e.connect, e.read, e.write, e.status, e.timeout,
    latency:percentile(50), latency:percentile(75), latency:percentile(90), latency:percentile(99),
    latency:percentile(99.9), latency.max))
end
