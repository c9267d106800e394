-- The revocations after a number. In another life of the data, all of them: numbers of different lives say nothing about each other.
-- KEYS: 1 log, 2 meta. ARGV: 1 number, 2 life, 3 most, 4 candidate life. Answers {life, number read up to, last number, revocations}.
local info = redis.call('INFO', 'replication')
if not string.find(info, 'role:master', 1, true) then
  return redis.error_reply('READONLY this server is a replica')
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSETNX', KEYS[2], 'life', ARGV[4])
local meta = redis.call('HMGET', KEYS[2], 'life', 'n')
local life, last = meta[1] .. '-' .. string.match(info, 'master_replid:(%x+)'), tonumber(meta[2] or '0')
local after = life == ARGV[2] and tonumber(ARGV[1]) or 0
local entries, read, found = {}, after, redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. after, '+inf', 'LIMIT', 0, tonumber(ARGV[3]))
for _, entry in ipairs(found) do
  local until_ms, number = struct.unpack('>I6I6', entry)
  read = number
  if until_ms > now then entries[#entries + 1] = string.sub(entry, 13) end
end
if #found < tonumber(ARGV[3]) then read = last end
return { life, read, last, entries }
