-- How many clients and users are present; nil if there is more to clear away first.
if sweep(500) then
  return false
end
local gone = dead()
if not gone then
  return {redis.call('hlen', entries), redis.call('hlen', users)}
end
local clients, distinct, seen = 0, 0, {}
for _, entry in ipairs(redis.call('hvals', entries)) do
  local node, user = owners(entry)
  if not gone[node] then
    clients = clients + 1
    if not seen[user] then
      seen[user] = true
      distinct = distinct + 1
    end
  end
end
return {clients, distinct}
