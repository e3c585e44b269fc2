-- Publishes without history, once for a key.
--
-- KEYS: what the idempotency key answered.
-- ARGV: announcement, where and how to announce, life of the key in milliseconds.
-- Returns: as publish.
local before = redis.call('get', KEYS[1])
if before then
  return {1, before, 0}
end
redis.call('set', KEYS[1], '', 'px', ARGV[4])
redis.call(ARGV[3], ARGV[2], ARGV[1])
return {0, '', 0}
