-- Reads part of a topic's rows, in the order of their offsets; what has passed its own end is left out.
-- ARGV after the fence's: 7 after which offset, 8 most rows, 9 most bytes.
-- Answers {epoch, top, fresh, now, next offset or -1, rows as key, entry}.
-- Of a topic that nothing was ever appended to little is remembered, but never less than somebody else wants to.
local remembered = tonumber(ARGV[5])
if top == 0 then
  remembered = math.min(remembered, 300000)
  if not is_unknown then remembered = math.max(remembered, redis.call('PTTL', meta)) end
end
redis.call('PEXPIRE', meta, string.format('%d', remembered))
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local limit, bytes_max = tonumber(ARGV[8]), tonumber(ARGV[9])
local given, bytes, last, next_offset = {}, 0, tonumber(ARGV[7]), -1
local count = 0
while next_offset < 0 do
  local listed = redis.call('ZRANGEBYSCORE', order, '(' .. string.format('%d', last), '+inf', 'WITHSCORES', 'LIMIT', 0, 16)
  if #listed == 0 then break end
  local keys = {}
  for n = 1, #listed, 2 do keys[#keys + 1] = listed[n] end
  local found = redis.call('HMGET', rows, unpack(keys))
  for n, row in ipairs(found) do
    local listed_at = tonumber(listed[2 * n])
    if row then
      local _, expires_at, weight = struct.unpack('>I6I6I4', row)
      if expires_at == 0 or expires_at > now then
        bytes = bytes + weight
        if count >= limit or (count > 0 and bytes > bytes_max) then
          next_offset = last
          break
        end
        given[#given + 1] = keys[n]
        given[#given + 1] = row
        count = count + 1
      end
    end
    -- By the list, not the row: whatever stands in a row, this comes to its end.
    last = listed_at
  end
end
return { epoch, top, fresh, now, next_offset, given }
