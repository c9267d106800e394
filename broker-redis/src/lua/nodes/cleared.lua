-- An owner's entries are cleared away.
-- KEYS: 1 owners, 2 claims. ARGV: 1 owner.
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
