-- A user is joined to a group. KEYS: 1 groups (group: until when). ARGV: 1 group, 2 how long, in milliseconds, 3 most groups.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local until_ms = now + tonumber(ARGV[2])
local known, count, last, past = redis.call('HGETALL', KEYS[1]), 0, until_ms, {}
for n = 1, #known, 2 do
  local ends = tonumber(known[n + 1])
  if ends <= now then
    past[#past + 1] = known[n]
  elseif known[n] ~= ARGV[1] then
    count, last = count + 1, math.max(last, ends)
  end
end
if count >= tonumber(ARGV[3]) then return redis.error_reply('FULL the user is in ' .. count .. ' groups already') end
for _, group in ipairs(past) do redis.call('HDEL', KEYS[1], group) end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', until_ms))
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', last))
return 1
