-- Publishes with history.
--
-- KEYS: meta, log, and with an idempotency key what it answered.
-- ARGV: body, size, ttl, meta ttl, fresh epoch, where and how to announce, version in 20 digits or '', version epoch,
--       '1' if the publication before is announced too, life of the idempotency key. Times in milliseconds.
-- Returns: 0 published, 1 suppressed by the key, 2 suppressed by the version; offset and epoch in one; as open().
local meta, log, key = KEYS[1], KEYS[2], KEYS[3]

if key then
  local before = redis.call('get', key)
  if before then
    return {1, before, 0}
  end
end

local epoch, top, began = open(meta, log, ARGV[5])
if not epoch then
  return top
end

local suppressed = false
if ARGV[8] ~= '' then
  local stored = redis.call('hmget', meta, 'v', 'w')
  suppressed = stored[1] and ARGV[8] <= stored[1] and (ARGV[9] == '' or ARGV[9] == stored[2])
end

local place
if suppressed then
  place = whole(top) .. ' ' .. epoch
  touch(meta, log, ARGV[4])
else
  local offset = whole(top + 1)
  local previous = ''
  if ARGV[10] == '1' then
    local last = redis.call('xrevrange', log, '+', '-', 'count', 1)[1]
    previous = last and last[2][2] or ''
  end
  -- First what memory can be lacking for; a script is not rolled back.
  redis.call('xadd', log, 'maxlen', '=', ARGV[2], offset .. '-0', 'p', ARGV[1])
  redis.call('hset', meta, 'o', offset)
  if ARGV[8] ~= '' then
    redis.call('hset', meta, 'v', ARGV[8], 'w', ARGV[9])
  end
  redis.call('pexpire', log, ARGV[3])
  touch(meta, log, ARGV[4])
  place = offset .. ' ' .. epoch
  redis.call(ARGV[7], ARGV[6], 'p' .. place .. ' ' .. #previous .. '\n' .. previous .. ARGV[1])
end

if key then
  redis.call('set', key, place, 'px', ARGV[11])
end
return {suppressed and 2 or 0, place, began}
