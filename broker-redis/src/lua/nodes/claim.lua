-- Takes an owner whose entries are nobody's any more, to clear them away; nobody else takes it for a while. Owners that a node had before are
-- that node's to clear away, once it has said again what it says: until then its users have not left.
-- KEYS: 1 ends, 2 current, 3 owners, 4 claims (owner: until when it is taken).
-- ARGV: 1 how long, in milliseconds, 2 an owner that is taken already and held on to, or "", 3 the node that clears away its own, or "".
-- Answers the owner, or nothing.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if ARGV[2] ~= '' then
  redis.call('ZADD', KEYS[4], now + tonumber(ARGV[1]), ARGV[2])
  return ARGV[2]
end
local owners = redis.call('HGETALL', KEYS[3])
for n = 1, #owners, 2 do
  local owner, node = owners[n], owners[n + 1]
  local lease_end = tonumber(redis.call('ZSCORE', KEYS[1], node) or '0')
  local is_former = node == ARGV[3] and redis.call('HGET', KEYS[2], node) ~= owner
  if lease_end <= now or is_former then
    local taken_until = tonumber(redis.call('ZSCORE', KEYS[4], owner) or '0')
    if taken_until <= now then
      redis.call('ZADD', KEYS[4], now + tonumber(ARGV[1]), owner)
      return owner
    end
  end
end
return false
