-- Reads a part of a stream and its top.
--
-- KEYS: meta, log.
-- ARGV: meta ttl in milliseconds, fresh epoch, command ('' to read the top only), from, to, limit ('' for none).
-- Returns: epoch, top, as open(), entries.
local epoch, top, began = open(KEYS[1], KEYS[2], ARGV[2])
if not epoch then
  return top
end
touch(KEYS[1], KEYS[2], ARGV[1])
local entries = {}
if ARGV[3] ~= '' then
  if ARGV[6] ~= '' then
    entries = redis.call(ARGV[3], KEYS[2], ARGV[4], ARGV[5], 'count', ARGV[6])
  else
    entries = redis.call(ARGV[3], KEYS[2], ARGV[4], ARGV[5])
  end
end
return {epoch, whole(top), began, entries}
