-- Reads part of a topic's rows, in the order of their offsets; what has passed its own end is left out.
-- ARGV after the fence's: 7 after which offset, 8 most rows, 9 most bytes.
-- Answers {epoch, top, fresh, now, next offset or -1, rows as key, entry}.
redis.call('PEXPIRE', meta, top == 0 and math.min(tonumber(ARGV[5]), 300000) or ARGV[5])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local limit, bytes_max = tonumber(ARGV[8]), tonumber(ARGV[9])
local given, bytes, last, next_offset = {}, 0, tonumber(ARGV[7]), -1
local count = 0
while next_offset < 0 do
  local keys = redis.call('ZRANGEBYSCORE', order, '(' .. string.format('%d', last), '+inf', 'LIMIT', 0, 16)
  if #keys == 0 then break end
  local found = redis.call('HMGET', rows, unpack(keys))
  for n, row in ipairs(found) do
    if row then
      local offset, expires_at, weight = struct.unpack('>I6I6I4', row)
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
      last = offset
    end
  end
end
return { epoch, top, fresh, now, next_offset, given }
