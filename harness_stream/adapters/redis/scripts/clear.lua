-- One short slice of forgetting a partition; called until it answers 0, so that no slice blocks the server for long.
--
-- KEYS[1]    hs:{realm/incarnation/partition}:head   HASH
-- KEYS[2]    hs:{realm/incarnation/partition}:units  SET of unit names
--
-- ARGV[1]    `1` in the first slice: delete the head. `0` later: stop if a new head exists, its units are not ours
-- ARGV[2]    units to forget in this slice
-- ARGV[3]    prefix of the units' keys; a name from KEYS[2] follows. They share the hash tag of KEYS, so they are in
--            the same slot although they are not declared
-- ARGV[4..6] verdict offset, epoch and header bytes the store must stand at in the first slice; empty: it has no head
--
-- Answers    how many unit names are left to forget; -1: nothing is forgotten, it stands elsewhere
--
-- The head goes first: from then on the partition counts as empty for everyone. Content is freed off the main thread.

if ARGV[1] == '1' then
  local stored = redis.call('HMGET', KEYS[1], 'offset', 'epoch', 'header', 'units')
  if tonumber(stored[4] or '-1') ~= redis.call('SCARD', KEYS[2]) then
    stored = {false, false, false}
  end
  if (stored[1] or '') ~= ARGV[4] or (stored[2] or '') ~= ARGV[5] or (stored[3] or '') ~= ARGV[6] then
    return -1
  end
  redis.call('UNLINK', KEYS[1])
elseif redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
for _, name in ipairs(redis.call('SPOP', KEYS[2], tonumber(ARGV[2]))) do
  redis.call('UNLINK', ARGV[3] .. name)
end
return redis.call('SCARD', KEYS[2])
