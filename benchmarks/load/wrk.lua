-- Rotates over the bodies of a file, one a line. With `stream`, sends the states of an answer back
-- with the next request; each `pieces`-th request starts a new sequence instead.
-- Arguments after `--`: file, `stream` or `plain`, pieces, what goes before and after each body.
dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "done.lua")

local requests, bodies, states = {}, {}, {}
local count, at, sent, oldest, newest, streaming, pieces = 0, 0, 0, 1, 0, false, 1
local before, after = "", ""

function init(args)
   wrk.method = "POST"
   wrk.headers["Content-Type"] = "application/json"
   streaming, pieces, before, after = args[2] == "stream", tonumber(args[3]), args[4], args[5]
   for line in io.lines(args[1]) do
      count = count + 1
      bodies[count] = line
      requests[count] = wrk.format(nil, nil, nil, before .. line .. after)
   end
   if streaming then
      response = take_states
   end
end

function request()
   at = at % count + 1
   if not streaming then
      return requests[at]
   end
   sent = sent + 1
   if oldest > newest then
      return requests[at]
   end
   local state = states[oldest]
   states[oldest] = nil
   oldest = oldest + 1
   if sent % pieces == 0 then
      return requests[at]
   end
   -- The body ends with a brace: the states go before it.
   local body = bodies[at]:sub(1, -2) .. ',"initial_states":' .. state .. "}"
   return wrk.format(nil, nil, nil, before .. body .. after)
end

function take_states(status, headers, body)
   if status == 200 then
      local _, place = body:find('"states":', 1, true)
      newest = newest + 1
      states[newest] = body:match("%b[]", place + 1)
   end
end
