-- Adds or replaces an entry.
--
-- ARGV: client, entry, ttl, lease of the entry's node, both in milliseconds.
local client, entry = ARGV[1], ARGV[2]
sweep(16)
local before = redis.call('hget', entries, client)
if before then
  -- Who is there stays there when memory is full: behind a write that needs none, Redis refuses a script nothing for lack
  -- of it.
  redis.call('zrem', times, '')
end
if before ~= entry then
  if before then
    count(before, -1)
  end
  redis.call('hset', entries, client, entry)
  count(entry, 1)
end
redis.call('zadd', times, now + ARGV[3], client)
local last = redis.call('zrange', times, -1, -1, 'withscores')[2]
for at = 1, 4 do
  redis.call('pexpireat', KEYS[at], last)
end
redis.call('zadd', leases, now + ARGV[4], string.sub(entry, 1, 16))
return 0
