-- Where a partition's confirmed state stands.
--
-- KEYS[1]    hs:{realm/incarnation/partition}:head   HASH offset, epoch, header, units
-- KEYS[2]    hs:{realm/incarnation/partition}:units  SET of unit names
--
-- Answers    {offset, epoch, header}, or {} if nothing is stored, or not as many units as the head was written with: a
--            server short of memory evicts whole keys, and state without names would be a history that forgot

local stored = redis.call('HMGET', KEYS[1], 'offset', 'epoch', 'header', 'units')
if tonumber(stored[4] or '-1') ~= redis.call('SCARD', KEYS[2]) then
  stored = {false, false, false}
end
if not stored[1] then
  return {}
end
return {stored[1], stored[2] or '', stored[3] or ''}
