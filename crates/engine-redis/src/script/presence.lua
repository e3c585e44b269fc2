-- The part that all scripts about presence begin with.
--
-- KEYS: times (sorted set: client by the millisecond its entry ends), entries (hash: client to entry), users and nodes
-- (hashes: how many entries each has), leases (sorted set: node by the millisecond it counts as dead).
--
-- An entry is the node's 16 letters, the length of the user, a colon, the user, and what only nodes read.
local times, entries, users, nodes, leases = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]

local clock = redis.call('time')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function owners(entry)
  local _, colon, length = string.find(entry, '^(%d+):', 17)
  if not colon then
    return string.sub(entry, 1, 16), ''
  end
  return string.sub(entry, 1, 16), string.sub(entry, colon + 1, colon + length)
end

local function count(entry, by)
  local node, user = owners(entry)
  if redis.call('hincrby', users, user, by) <= 0 then
    redis.call('hdel', users, user)
  end
  if redis.call('hincrby', nodes, node, by) <= 0 then
    redis.call('hdel', nodes, node)
  end
end

local function remove(client)
  local entry = redis.call('hget', entries, client)
  redis.call('zrem', times, client)
  if entry then
    redis.call('hdel', entries, client)
    count(entry, -1)
  end
end

-- Removes entries whose time is up, a bounded number of them; whether there are more.
local function sweep(most)
  local due = redis.call('zrangebyscore', times, '-inf', now, 'limit', 0, most)
  for _, client in ipairs(due) do
    remove(client)
  end
  return #due == most
end

-- Nodes with entries here whose lease has run out; nil if there are none. Their entries are only hidden: a node that
-- was thought dead takes up its lease again.
local function dead()
  local found
  for _, node in ipairs(redis.call('hkeys', nodes)) do
    local lease = redis.call('zscore', leases, node)
    if not lease or tonumber(lease) <= now then
      found = found or {}
      found[node] = true
    end
  end
  return found
end
