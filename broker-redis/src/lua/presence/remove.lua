-- A session listens no more. ARGV: 1 session, 2 how long its user lingers, in milliseconds. Answers 0: nobody left, 1: left, 2: lingers.
local session, linger = ARGV[1], tonumber(ARGV[2])
local entry = redis.call('HGET', sessions, session)
if not entry then return 0 end
local owner, user = owner_and_user(entry)
local person = person_of(user, session)
redis.call('HDEL', sessions, session)
redis.call('ZREM', owned, owner .. ':s' .. session)
if not one_less(person) then return 0 end
if linger == 0 or user == '' then return 1 end
redis.call('HSET', lingering, person, struct.pack('>I6I1c0I1c0', now_ms() + linger, #owner, owner, #session, session) .. entry)
redis.call('ZADD', owned, 0, owner .. ':p' .. person)
return 2
