-- Some units as of one head, no more than a caller with 20 ms can take in.
--
-- KEYS[1]    hs:{realm/incarnation/partition}:head      HASH, exists if anything is stored
-- KEYS[2]    hs:{realm/incarnation/partition}:units     SET of unit names
-- KEYS[2+i]  hs:{realm/incarnation/partition}:u:<unit>  LIST `b`..base or `-`, then deltas; one key per unit asked for
--
-- ARGV[1]    bytes of content to answer with; the first unit comes whatever its size
-- ARGV[1+i]  name of the unit, in the order of KEYS
--
-- Answers    per unit, in that order, its list, or nothing for one that is unknown; it ends where the bytes do

local found, size = {}, 0
local any = redis.call('EXISTS', KEYS[1]) == 1
for i = 1, #KEYS - 2 do
  if any and redis.call('SISMEMBER', KEYS[2], ARGV[1 + i]) == 1 then
    local list = redis.call('LRANGE', KEYS[2 + i], 0, -1)
    for _, element in ipairs(list) do
      size = size + #element
    end
    if size > tonumber(ARGV[1]) and i > 1 then
      break
    end
    found[i] = list
  else
    found[i] = false
  end
end
return found
