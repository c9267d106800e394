-- Credentials are revoked: under the name of whose they are, and in the log for nodes that do not hear of it.
-- KEYS: 1 name (up to which moment: until when it is kept), 2 log (sorted by number), 3 meta (n: last number, life).
-- ARGV: 1 moment, 2 how long, both in milliseconds, 3 revocation, 4 most in the log, 5 candidate life.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local moment, until_ms = tonumber(ARGV[1]), now + tonumber(ARGV[2])
for _, entry in ipairs(redis.call('ZRANGE', KEYS[2], 0, 15)) do
  if struct.unpack('>I6', entry) > now then break end
  redis.call('ZREM', KEYS[2], entry)
end
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[4]) then return redis.error_reply('FULL ' .. ARGV[4] .. ' revocations are kept already') end
local known, last, count = redis.call('HGETALL', KEYS[1]), until_ms, 0
for n = 1, #known, 2 do
  local ends = tonumber(known[n + 1])
  -- An older moment that is not kept longer says nothing more.
  if ends <= now or (tonumber(known[n]) <= moment and ends <= until_ms) then
    redis.call('HDEL', KEYS[1], known[n])
  else
    count, last = count + 1, math.max(last, ends)
  end
end
if count >= 64 then return redis.error_reply('FULL this is revoked up to 64 moments already') end
redis.call('HSET', KEYS[1], string.format('%.0f', moment), string.format('%.0f', math.max(until_ms, tonumber(redis.call('HGET', KEYS[1], string.format('%.0f', moment)) or '0'))))
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', last))
redis.call('HSETNX', KEYS[3], 'life', ARGV[5])
local number = redis.call('HINCRBY', KEYS[3], 'n', 1)
redis.call('ZADD', KEYS[2], number, struct.pack('>I6I6', until_ms, number) .. ARGV[3])
return number
