-- Opens every script of a topic: is this still the history that its positions were given out for?
-- KEYS: 1 meta, 2 log, 3 rows, 4 their order, 5 their ends, 6 versions. ARGV: 1 candidate epoch, 2 channel, 3 PUBLISH or SPUBLISH,
-- 4 "1" in durable mode, 5 how long positions are remembered, in milliseconds, 6 "1" where the topic has rows.
-- Everything that can fail stands before the first write: a script that fails halfway is not rolled back.
local meta, log, rows, order, ends, versions = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local info = redis.call('INFO', 'replication')
if not string.find(info, 'role:master', 1, true) then
  return redis.error_reply('READONLY this server is a replica')
end
local generation = string.match(info, 'master_replid:(%x+)')
if ARGV[4] == '1' and string.find(info, 'second_repl_offset:-1', 1, true) then
  generation = 'durable'
end
local known = redis.call('HMGET', meta, 'e', 't', 'g', 'c', 'b', 'w')
local epoch, top, cumulated, row_bytes = known[1], tonumber(known[2] or '0'), tonumber(known[4] or '0'), tonumber(known[5] or '0')
-- By which offsets are compared across epochs: it changes only where they begin anew.
local offsets = known[6] or epoch
local fresh, is_unknown = 0, false
local has_rows = ARGV[6] == '1'
if epoch and has_rows then
  -- Rows that went without the rest were evicted: whoever comes back must hear of it.
  local count = redis.call('HLEN', rows)
  if count ~= redis.call('ZCARD', order) or count == 0 and row_bytes > 0 then epoch = false end
end
if not epoch then
  -- Nothing is known of what the positions named: all of it begins anew.
  -- Where memory is short, Redis refuses a write that needs some if it is the script's first one: a publish is to be refused, a read is not.
  if not KEYS[7] or redis.call('EXISTS', meta, log, rows, order, ends, versions) > 0 then
    redis.call('DEL', meta, log, rows, order, ends, versions)
  end
  top, cumulated, row_bytes = 0, 0, 0
  offsets, is_unknown = ARGV[1], true
end
if not epoch or known[3] ~= generation then
  -- Another life of the data. Log and offsets stay where they are known: a false alarm must not wipe a history.
  epoch, fresh = ARGV[1], 1
  if not KEYS[7] then redis.call('PEXPIRE', meta, ARGV[5]) end
  redis.call('HSET', meta, 'e', epoch, 't', top, 'g', generation, 'c', cumulated, 'b', row_bytes, 'w', offsets)
  redis.call('PEXPIRE', meta, ARGV[5])
  -- A user who may not send must not leave it half done; whoever compares positions finds out without the message.
  redis.pcall(ARGV[3], ARGV[2], struct.pack('>I1I1I6I2I1c0', 1, 1, top, 0, #epoch, epoch))
end
