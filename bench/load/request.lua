-- wrk's side of a load: sends the requests of a file as they are.
--   wrk ... -s request.lua http://HOST:PORT -- FILE
-- Where the file has @@@@@@@@ a number stands in each of its places, another one in each request. wrk itself counts as
-- many answers as there are requests in the file.
-- A file NAME.pool has requests that differ, each after its length (4 bytes, of which the least comes first): they are
-- sent one after the other, on whichever connection has its answer, and then from the first one on again.
-- At the end one line of JSON says what wrk counted (durations in microseconds; cpu_before: seconds of its own CPU time
-- before it began).

local first

function setup(thread) first = first or thread end

local function numbered(text)
  local parts, number, from = {}, 0, 1
  local at = text:find("@@@@@@@@", 1, true)
  if not at then
    wrk.format = function() return text end -- a global request() would be called for each request
    return
  end
  while at do
    parts[#parts + 1] = text:sub(from, at - 1)
    from = at + 8
    at = text:find("@@@@@@@@", from, true)
  end
  parts[#parts + 1] = text:sub(from)
  request = function()
    number = number + 1
    return table.concat(parts, string.format("%08d", number))
  end
end

local function one_after_the_other(text)
  local pool, count, at = {}, 0, 1
  while at <= #text do
    local a, b, c, d = text:byte(at, at + 3)
    local after = at + 4 + a + 256 * (b + 256 * (c + 256 * d))
    count = count + 1
    pool[count] = text:sub(at + 4, after - 1)
    at = after
  end
  local now = count -- wrk looks at one before it begins
  request = function()
    local each = pool[now]
    now = now % count + 1
    return each
  end
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local text = file:read("*a")
  file:close()
  if args[1]:find("%.pool$") then one_after_the_other(text) else numbered(text) end
  cpu_before = os.clock() -- done() is another Lua's, which can ask for what is global here
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "microseconds": %d, "bytes": %d, "connect": %d, "read": %d, "write": %d, "status": %d, ' ..
    '"timeout": %d, "cpu_before": %.6f, ' ..
    '"latency_us": {"50": %d, "75": %d, "90": %d, "99": %d, "99.9": %d, "max": %d}}\n',
    summary.requests, summary.duration, summary.bytes, e.connect, e.read, e.write, e.status, e.timeout,
    first:get("cpu_before"), latency:percentile(50), latency:percentile(75), latency:percentile(90),
    latency:percentile(99), latency:percentile(99.9), latency.max))
end
