-- A node says that it goes: nobody waits for it. What it owned stays in owners until somebody has cleared it away.
-- KEYS: 1 ends, 2 about, 3 current. ARGV: 1 node.
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
return 1
