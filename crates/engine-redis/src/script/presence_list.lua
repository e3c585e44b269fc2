-- Entries of everyone present; nil if there is more to clear away first.
if sweep(500) then
  return false
end
local all = redis.call('hvals', entries)
local gone = dead()
if not gone then
  return all
end
local present = {}
for _, entry in ipairs(all) do
  if not gone[string.sub(entry, 1, 16)] then
    present[#present + 1] = entry
  end
end
return present
