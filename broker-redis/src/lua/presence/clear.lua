-- Clears away what an owner has said whose node has ended. ARGV: 1 owner, 2 most entries.
-- Answers {how many were looked at, then for each person who left by that: session, entry}.
local owner = ARGV[1]
local names = redis.call('ZRANGEBYLEX', owned, '[' .. owner .. ':', '(' .. owner .. ';', 'LIMIT', 0, tonumber(ARGV[2]))
local answer = { #names }
local function has_left(session, entry)
  answer[#answer + 1] = session
  answer[#answer + 1] = entry
end
for _, name in ipairs(names) do
  local what = string.sub(name, #owner + 3)
  if string.sub(name, #owner + 2, #owner + 2) == 's' then
    local entry = redis.call('HGET', sessions, what)
    if entry then
      local owner_of, user = owner_and_user(entry)
      if owner_of == owner then
        redis.call('HDEL', sessions, what)
        if one_less(person_of(user, what)) then has_left(what, entry) end
      end
    end
  else
    local lingers = redis.call('HGET', lingering, what)
    if lingers then
      local _, owner_of, session, at = struct.unpack('>I6I1c0I1c0', lingers)
      if owner_of == owner then
        redis.call('HDEL', lingering, what)
        has_left(session, string.sub(lingers, at))
      end
    end
  end
  redis.call('ZREM', owned, name)
end
return answer
