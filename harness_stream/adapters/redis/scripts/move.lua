-- One atomic, monotonic step of a partition's confirmed state (PROTOCOL §6). No business logic: bytes in, bytes kept.
--
-- KEYS[1]    hs:{realm/incarnation/partition}:head      HASH offset, epoch, header, units (how many names there are)
-- KEYS[2]    hs:{realm/incarnation/partition}:units     SET of unit names
-- KEYS[2+i]  hs:{realm/incarnation/partition}:u:<unit>  LIST `b`..base or `-`, then deltas; one key per unit of this step
--
-- ARGV[1..3] verdict offset, epoch and header bytes the store must stand at; empty: it must have no head. The offset
--            alone would not tell: those that a log lost are taken again by other records
-- ARGV[4..6] the new ones
-- ARGV[7..]  per unit, in the order of KEYS: name, has_base (`1` or `0`), [base], number of deltas, deltas...
--
-- Answers    {1}                          applied
--            {0, offset, epoch, header}   refused, nothing changed; where the store stands (-1, 0, '' if it is empty)
--            {2}                          refused, nothing changed: no head, but units of an older one; clear first
--
-- The head is deleted before the first unit and written after the last: should a command fail half way (a foreign key
-- of another type), the partition has no head and counts as empty, so a torn state is never read as a whole one. So does
-- one whose names are not as many as the head was written with: a server short of memory evicts whole keys.

local stored = redis.call('HMGET', KEYS[1], 'offset', 'epoch', 'header', 'units')
if tonumber(stored[4] or '-1') ~= redis.call('SCARD', KEYS[2]) then
  stored = {false, false, false}
end
local at_offset = tonumber(stored[1] or '-1')
local at_epoch = tonumber(stored[2] or '0')
local at_expected = (stored[1] or '') == ARGV[1] and (stored[2] or '') == ARGV[2] and (stored[3] or '') == ARGV[3]
local forward = tonumber(ARGV[4]) > at_offset and tonumber(ARGV[5]) >= at_epoch
if not (at_expected and forward) then
  return {0, stored[1] or '-1', stored[2] or '0', stored[3] or ''}
end
if not stored[1] and redis.call('EXISTS', KEYS[2]) == 1 then
  return {2}
end

redis.call('DEL', KEYS[1])
local at = 7
for i = 3, #KEYS do
  local key, name, has_base = KEYS[i], ARGV[at], ARGV[at + 1] == '1'
  at = at + 2
  local is_new = redis.call('SADD', KEYS[2], name) == 1
  if has_base or is_new then
    redis.call('UNLINK', key)
  end
  if has_base then
    redis.call('RPUSH', key, 'b' .. ARGV[at])
    at = at + 1
  elseif is_new then
    redis.call('RPUSH', key, '-')
  end
  local last = at + tonumber(ARGV[at])
  for d = at + 1, last do
    -- RPUSHX answers 0 if the unit's list was evicted: its base is lost, and the mark says so.
    if redis.call('RPUSHX', key, ARGV[d]) == 0 then
      redis.call('RPUSH', key, '-', ARGV[d])
    end
  end
  at = last + 1
end
redis.call('HSET', KEYS[1], 'offset', ARGV[4], 'epoch', ARGV[5], 'header', ARGV[6],
  'units', redis.call('SCARD', KEYS[2]))
return {1}
