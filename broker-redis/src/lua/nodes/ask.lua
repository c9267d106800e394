-- Sends a question, and tells which nodes are known in the moment of sending: in one step, so that no node is missed that comes meanwhile.
-- KEYS: 1 ends, 2 life of the data. ARGV: 1 channel, 2 question, 3 PUBLISH or SPUBLISH.
-- Answers {life, now, node, end, node, end, ...}.
local time = redis.call('TIME')
local answer = { redis.call('GET', KEYS[2]) or '', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) }
local known = redis.call('ZRANGE', KEYS[1], 0, 999, 'WITHSCORES')
for n = 1, #known, 2 do
  answer[#answer + 1] = known[n]
  answer[#answer + 1] = tonumber(known[n + 1])
end
redis.call(ARGV[3], ARGV[1], ARGV[2])
return answer
