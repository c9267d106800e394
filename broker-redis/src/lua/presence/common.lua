-- Opens every script of presence.
-- KEYS: 1 sessions (session: entry), 2 people (person: how many sessions), 3 lingering (person: until when, owner, session, entry),
-- 4 owned ("owner:s" .. session and "owner:p" .. person who lingers, all with score 0).
-- An entry begins with version, owner and user in every version of the format; the rest is not looked at here.
local sessions, people, lingering, owned = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local function owner_and_user(entry)
  local _, owner, user = struct.unpack('>I1I1c0I4c0', entry)
  return owner, user
end
-- Without a user, every session is somebody.
local function person_of(user, session)
  return user == '' and 's' .. session or 'u' .. user
end
-- Takes one session from somebody; whether that was the last.
local function one_less(person)
  if redis.call('HINCRBY', people, person, -1) > 0 then return false end
  redis.call('HDEL', people, person)
  return true
end
local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
