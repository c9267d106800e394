-- Appends one batch of one topic and sends it.
-- KEYS after the fence's: 7 the batch, 8.. keys of callers against doubles.
-- ARGV after the fence's: 7 most entries (0: no log), 8 most bytes, 9 how long the log stays, 10 most rows, 11 most bytes of rows, 12 how long
-- rows stay, 13 how long the batch is remembered (0: not), 14 how long callers' keys are, 15 "1" where the batch may have been done before, 16 most
-- versions of keys, 17 number of items; then for each item: flags, weight, body, and by flag i: number of its KEY; v: number, epoch; k: key;
-- t: ttl. Flags: i idempotency key, v version, k key, r removal, t ttl, u not kept.
-- Answers {epoch, top before, top, fresh, receivers, codes or false}; codes: for each item code, offset. 0 taken, 1 duplicate, 2 outdated,
-- 3 too many rows, 4 too many bytes of rows, 5 too many versions; offset -1: not kept.
local size, bytes_max = tonumber(ARGV[7]), tonumber(ARGV[8])
if ARGV[15] == '1' then
  local before = redis.call('GET', KEYS[7])
  if before then
    -- It holds in another epoch too, as long as offsets go on: what was remembered and what was appended came and went in one step.
    local answer = cmsgpack.unpack(before)
    if answer[7] == offsets then
      return { epoch, answer[2], answer[3], fresh, answer[5], answer[6] }
    end
  end
end
local base = top
local codes, plain = {}, true
local entries, sent, writes = {}, {}, {}
local new_versions, version_count, new_rows, row_growth, row_count = {}, nil, {}, 0, nil
local seen, trimmed_rows = {}, false
local is_anything_taken = false
local now = nil
local function clock()
  if not now then
    local time = redis.call('TIME')
    now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  end
  return now
end
local at = 18
for n = 1, tonumber(ARGV[17]) do
  local flags, weight, body = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2]
  at = at + 3
  local code, offset = 0, -1
  local guard, number, number_epoch, key, ttl = nil, nil, nil, nil, 0
  local is_kept, is_removal = size > 0, false
  if flags ~= '' then
    if string.find(flags, 'u', 1, true) then is_kept = false end
    if string.find(flags, 'r', 1, true) then is_removal = true end
    if string.find(flags, 'i', 1, true) then guard = KEYS[tonumber(ARGV[at])]; at = at + 1 end
    if string.find(flags, 'v', 1, true) then number, number_epoch = ARGV[at], ARGV[at + 1]; at = at + 2 end
    if string.find(flags, 'k', 1, true) then key = ARGV[at]; at = at + 1 end
    if string.find(flags, 't', 1, true) then ttl = tonumber(ARGV[at]); at = at + 1 end
  end
  local has_row = is_kept and key and has_rows
  if guard then
    local first = seen[guard] or redis.call('GET', guard)
    if first then
      local first_offset, of_offsets = string.match(first, '^(%-?%d+)@(.*)$')
      if of_offsets == offsets then code, offset = 1, tonumber(first_offset) end
    end
  end
  local is_first_version = false
  if code == 0 and number then
    local field = key and 'k' .. key or 't'
    local newest = new_versions[field] or redis.call('HGET', versions, field)
    if newest and string.sub(newest, 21) == number_epoch and string.sub(newest, 1, 20) >= number then
      code, offset = 2, is_kept and top or -1
    elseif not newest then
      is_first_version = true
      version_count = version_count or redis.call('HLEN', versions)
      if version_count >= tonumber(ARGV[16]) then code = 5 end
    end
  end
  local growth, old = 0, nil
  if code == 0 and has_row then
    if not trimmed_rows then
      trimmed_rows = true
      row_count = redis.call('ZCARD', order)
      if redis.call('EXISTS', ends) == 1 then
        for _, gone in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', clock())) do
          local row = redis.call('HGET', rows, gone)
          if row then
            row_bytes = row_bytes - struct.unpack('>I4', row, 13)
            row_count = row_count - 1
            redis.call('HDEL', rows, gone)
            redis.call('ZREM', order, gone)
          end
          redis.call('ZREM', ends, gone)
        end
        redis.call('HSET', meta, 'b', row_bytes)
      end
    end
    old = new_rows[key]
    if old == nil then
      local row = redis.call('HGET', rows, key)
      old = row and struct.unpack('>I4', row, 13) or false
    end
    if is_removal then
      growth = old and -old or 0
    else
      growth = weight - (old or 0)
      if not old and row_count >= tonumber(ARGV[10]) then
        code = 3
      elseif growth > 0 and row_bytes + row_growth + growth > tonumber(ARGV[11]) then
        code = 4
      end
    end
  end
  if code == 0 then
    is_anything_taken = true
    local expires_at = ttl > 0 and clock() + ttl or 0
    if is_kept then
      top = top + 1
      offset = top
      entries[#entries + 1] = struct.pack('>I6I6I6', top, cumulated, expires_at) .. body
      cumulated = cumulated + weight
      sent[#sent + 1] = struct.pack('>I1I4', 1, #body) .. body
    else
      sent[#sent + 1] = struct.pack('>I1I4', 0, #body) .. body
    end
    if guard then
      seen[guard] = string.format('%d@%s', offset, offsets)
    end
    if number then
      local field = key and 'k' .. key or 't'
      if is_first_version then version_count = version_count + 1 end
      new_versions[field] = number .. number_epoch
    end
    if has_row then
      row_growth = row_growth + growth
      if is_removal then
        if old then row_count = row_count - 1 end
        new_rows[key] = false
        writes[key] = false
      else
        if not old then row_count = row_count + 1 end
        new_rows[key] = weight
        writes[key] = { struct.pack('>I6I6I4', top, expires_at, weight) .. body, top, expires_at }
      end
    end
  end
  if code ~= 0 or not is_kept then plain = false end
  codes[#codes + 1] = code
  codes[#codes + 1] = offset
end
if #entries > 0 then
  local length = redis.call('RPUSH', log, unpack(entries))
  redis.call('HSET', meta, 't', top, 'c', cumulated, 'b', row_bytes + row_growth)
  local excess = length - size
  if excess > 0 then
    redis.call('LTRIM', log, excess, -1)
    length = size
  end
  if bytes_max > 0 then
    while length > 1 do
      local oldest = redis.call('LINDEX', log, 0)
      if cumulated - struct.unpack('>I6', oldest, 7) <= bytes_max then break end
      redis.call('LPOP', log)
      length = length - 1
    end
  end
  -- Each time: a topic with a publication every few minutes must keep them as long as one with many. Positions outlive the log.
  redis.call('PEXPIRE', log, ARGV[9])
end
for key, row in pairs(writes) do
  if row then
    redis.call('HSET', rows, key, row[1])
    redis.call('ZADD', order, row[2], key)
    if row[3] > 0 then redis.call('ZADD', ends, row[3], key) else redis.call('ZREM', ends, key) end
  else
    redis.call('HDEL', rows, key)
    redis.call('ZREM', order, key)
    redis.call('ZREM', ends, key)
  end
end
-- By every publication, also one without a key: rows must outlive what is known of their history.
if has_rows and #entries > 0 then
  for _, name in ipairs({ rows, order, ends }) do redis.call('PEXPIRE', name, ARGV[12]) end
end
local wrote_versions = false
for field, version in pairs(new_versions) do
  wrote_versions = true
  redis.call('HSET', versions, field, version)
end
if wrote_versions then redis.call('PEXPIRE', versions, ARGV[5]) end
for guard, first in pairs(seen) do redis.call('SET', guard, first, 'PX', ARGV[14]) end
local answer = { epoch, base, top, fresh, 0, not plain and codes or false }
-- Before it is sent: without memory Redis refuses a first write that needs some, and what was sent would be answered with that error.
if ARGV[13] ~= '0' then
  redis.call('SET', KEYS[7], cmsgpack.pack({ epoch, base, top, fresh, 0, answer[6], offsets }), 'PX', ARGV[13])
end
-- Also where nothing is kept: versions and callers' keys mean nothing without it.
if is_anything_taken then redis.call('PEXPIRE', meta, ARGV[5]) end
if #sent > 0 then
  local head = struct.pack('>I1I1I6I2I1c0', 1, 0, base, #sent, #epoch, epoch)
  local receivers = redis.pcall(ARGV[3], ARGV[2], head .. table.concat(sent))
  if type(receivers) == 'number' then
    answer[5] = receivers
  elseif #entries == 0 then
    -- It was not sent and is not kept: it has not happened.
    redis.call('DEL', KEYS[7])
    for guard in pairs(seen) do redis.call('DEL', guard) end
    return receivers
  end
  -- What is kept and could not be sent is found by whoever compares positions.
end
return answer
