-- The groups of a user. KEYS: 1 groups.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local known, groups = redis.call('HGETALL', KEYS[1]), {}
for n = 1, #known, 2 do
  if tonumber(known[n + 1]) > now then groups[#groups + 1] = known[n] end
end
return groups
