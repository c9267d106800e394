-- The time of somebody who lingers is over. ARGV: 1 session that left last, 2 user. Answers 1: left.
local person = person_of(ARGV[2], ARGV[1])
local lingers = redis.call('HGET', lingering, person)
if not lingers then return 0 end
local _, owner, session = struct.unpack('>I6I1c0I1c0', lingers)
if session ~= ARGV[1] then return 0 end
redis.call('HDEL', lingering, person)
redis.call('ZREM', owned, owner .. ':p' .. person)
return 1
