-- Rotates over the bodies of a file, which may be of any bytes. Arguments after `--`: the file, then
-- headers as `Name: value`. The file has for each body a line of its headers' values and length:
--   <bytes> [Name: value]
-- and then its bytes.
dofile(debug.getinfo(1, "S").source:match("^@(.*/)") .. "done.lua")

local requests, at = {}, 0

function init(args)
   wrk.method = "POST"
   for i = 2, #args do
      local name, value = args[i]:match("^([^:]+): (.*)$")
      wrk.headers[name] = value
   end
   local file = assert(io.open(args[1], "rb"))
   while true do
      local line = file:read("*l")
      if not line then
         break
      end
      local size, name, value = line:match("^(%d+) ?([^:]*):? ?(.*)$")
      if name ~= "" then
         wrk.headers[name] = value
      end
      requests[#requests + 1] = wrk.format(nil, nil, nil, file:read(tonumber(size)))
   end
   file:close()
end

function request()
   at = at % #requests + 1
   return requests[at]
end
