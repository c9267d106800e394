-- Reads part of a topic's log. A write on purpose: a replica refuses it, so nothing stale is read; and it gives an unknown topic its epoch,
-- so that the position that it hands out holds.
-- ARGV after the fence's: 7 after or before which offset ("": from the end), 8 most entries, 9 most bytes, 10 "1" newest first.
-- Answers {epoch, top, first offset that is kept, fresh, now, entries}. At least one entry where there is one.
-- Of a topic that nothing was ever appended to little is remembered, but never less than somebody else wants to.
local remembered = tonumber(ARGV[5])
if top == 0 then
  remembered = math.min(remembered, 300000)
  if not is_unknown then remembered = math.max(remembered, redis.call('PTTL', meta)) end
end
redis.call('PEXPIRE', meta, string.format('%d', remembered))
local length = redis.call('LLEN', log)
local first = top - length + 1
local limit, bytes_max = tonumber(ARGV[8]), tonumber(ARGV[9])
local entries, bytes = {}, 0
local is_reverse = ARGV[10] == '1'
local index
if is_reverse then
  index = ARGV[7] == '' and length - 1 or math.min(length - 1, tonumber(ARGV[7]) - 1 - first)
else
  index = ARGV[7] == '' and 0 or math.max(0, tonumber(ARGV[7]) + 1 - first)
end
while #entries < limit and index >= 0 and index < length do
  local from, to
  if is_reverse then
    from, to = math.max(0, index - 15), index
    index = from - 1
  else
    from, to = index, math.min(index + 15, length - 1)
    index = to + 1
  end
  local chunk = redis.call('LRANGE', log, from, to)
  local begin, stop, step = 1, #chunk, 1
  if is_reverse then begin, stop, step = #chunk, 1, -1 end
  for n = begin, stop, step do
    bytes = bytes + #chunk[n]
    if #entries >= limit or (#entries > 0 and bytes > bytes_max) then
      limit = 0
      break
    end
    entries[#entries + 1] = chunk[n]
  end
end
local time = redis.call('TIME')
return { epoch, top, first, fresh, tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000), entries }
