-- Up to which moments credentials are revoked. KEYS: names. Answers for each name its moments.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local answer = {}
for n, name in ipairs(KEYS) do
  local known, moments = redis.call('HGETALL', name), {}
  for i = 1, #known, 2 do
    if tonumber(known[i + 1]) > now then moments[#moments + 1] = known[i] end
  end
  answer[n] = moments
end
return answer
