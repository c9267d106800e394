-- Sessions listen. ARGV: 1 owner, then for each session: session, user, entry. Answers for each: joined, left.
local owner, answer = ARGV[1], {}
for n = 2, #ARGV, 3 do
  local session, user, entry = ARGV[n], ARGV[n + 1], ARGV[n + 2]
  local person, joined, left = person_of(user, session), 0, 0
  local before, is_same = redis.call('HGET', sessions, session), false
  if before then
    local owner_before, user_before = owner_and_user(before)
    if owner_before ~= owner then redis.call('ZREM', owned, owner_before .. ':s' .. session) end
    local person_before = person_of(user_before, session)
    is_same = person_before == person
    if not is_same and one_less(person_before) then left = 1 end
  end
  redis.call('HSET', sessions, session, entry)
  redis.call('ZADD', owned, 0, owner .. ':s' .. session)
  if not is_same and redis.call('HINCRBY', people, person, 1) == 1 then
    joined = 1
    local lingers = redis.call('HGET', lingering, person)
    if lingers then
      local until_ms, lingers_of = struct.unpack('>I6I1c0', lingers)
      if until_ms >= now_ms() then joined = 0 end
      redis.call('HDEL', lingering, person)
      redis.call('ZREM', owned, lingers_of .. ':p' .. person)
    end
  end
  answer[#answer + 1] = joined
  answer[#answer + 1] = left
end
return answer
