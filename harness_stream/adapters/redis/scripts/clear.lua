-- One short slice of forgetting a partition; called until it answers 0, so that no slice blocks the server for long.
--
-- KEYS[1]    hs:{realm/incarnation/partition}:head   HASH
-- KEYS[2]    hs:{realm/incarnation/partition}:units  SET of unit names
--
-- ARGV[1]    `1` in the first slice: delete the head. `0` later: stop if a new head exists, its units are not ours
-- ARGV[2]    units to forget in this slice
-- ARGV[3]    prefix of the units' keys; a name from KEYS[2] follows. They share the hash tag of KEYS, so they are in
--            the same slot although they are not declared
-- ARGV[4]    epoch of who asks
--
-- Answers    how many unit names are left to forget; -1: nothing is forgotten, an owner of a later epoch moved it
--
-- The head goes first: from then on the partition counts as empty for everyone. Content is freed off the main thread.

if ARGV[1] == '1' then
  if (tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0') or 0) > tonumber(ARGV[4]) then
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
