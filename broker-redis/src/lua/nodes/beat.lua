-- A node says that it is there, and learns which others are.
-- KEYS: 1 ends (node: when its lease ends), 2 about (node: what it says of itself), 3 current (node: the owner that its entries have),
-- 4 owners (owner: node), 5 life of the data.
-- ARGV: 1 node, 2 lease, 3 how long a node is remembered after its lease, 4 about, 5 owner, 6 candidate life, 7 "1": begin a lease,
-- otherwise only go on with one. Times are milliseconds.
-- Answers {1 or 0: there is no lease to go on with, life, now, {node, end, owner, about, ...}}.
local ends, about, current, owners, life_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local node, lease, remembered = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local info = redis.call('INFO', 'replication')
if not string.find(info, 'role:master', 1, true) then
  return redis.error_reply('READONLY this server is a replica')
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local life = redis.call('GET', life_key)
if not life then
  life = ARGV[6]
  redis.call('SET', life_key, life)
end
-- Another life of the data has another name: what is known may be older than what was said.
life = life .. '-' .. string.match(info, 'master_replid:(%x+)')
local lease_end = tonumber(redis.call('ZSCORE', ends, node) or '0')
if ARGV[7] ~= '1' and (lease_end <= now or redis.call('HGET', current, node) ~= ARGV[5]) then
  return { 0, life, now, {} }
end
redis.call('ZADD', ends, now + lease, node)
if ARGV[7] == '1' then
  redis.call('HSET', about, node, ARGV[4])
  redis.call('HSET', current, node, ARGV[5])
  redis.call('HSET', owners, ARGV[5], node)
end
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now - remembered, 'LIMIT', 0, 100)) do
  redis.call('ZREM', ends, gone)
  redis.call('HDEL', about, gone)
  redis.call('HDEL', current, gone)
end
local nodes = {}
local known = redis.call('ZRANGE', ends, 0, 999, 'WITHSCORES')
for n = 1, #known, 2 do
  nodes[#nodes + 1] = known[n]
  nodes[#nodes + 1] = tonumber(known[n + 1])
  nodes[#nodes + 1] = redis.call('HGET', current, known[n]) or ''
  nodes[#nodes + 1] = redis.call('HGET', about, known[n]) or ''
end
return { 1, life, now, nodes }
