-- Prolongs the lease of a node in one part, and forgets nodes that have been dead for a day.
--
-- KEYS: leases. ARGV: node, lease in milliseconds; 0 ends it.
local clock = redis.call('time')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- First what needs no memory: behind a write, Redis refuses a script nothing for lack of it. A node does not die of that.
redis.call('zremrangebyscore', KEYS[1], '-inf', now - 86400000)
redis.call('zadd', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('pexpire', KEYS[1], 172800000)
return 0
