-- Removes the entry of a client.
--
-- ARGV: client.
remove(ARGV[1])
sweep(16)
return 0
