-- Prints what wrk saw as a line of JSON: every latency in microseconds and how often it was recorded.
function done(summary, latency, requests)
   local errors, found = summary.errors, {}
   for i = 1, #latency do
      local value, count = latency(i)
      found[i] = string.format("[%d,%d]", value, count)
   end
   io.write(string.format(
      '{"requests":%d,"duration_us":%d,"status_errors":%d,"socket_errors":%d,"latencies_us":[%s]}\n',
      summary.requests, summary.duration, errors.status,
      errors.connect + errors.read + errors.write + errors.timeout, table.concat(found, ",")))
end
