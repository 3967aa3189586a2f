-- Takes up to ARGV[2] tokens, and at least one, from the bucket KEYS[1], of which one
-- comes back every ARGV[1] nanoseconds. Gives how many were taken, and how many
-- nanoseconds of refilling the bucket then lacks; where none was left, what it would lack
-- after one, which is more than a minute's.
-- Kept is what it lacked, and when in microseconds: a number of Lua holds no more.
local minute, each, wanted = 60e9, tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] * 1e6 + clock[2]
local lacked, at = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+)$')
local lacks = 0
if lacked then
  -- A clock that was set back brings nothing, and takes nothing away.
  local passed = math.max(now - tonumber(at), 0) * 1000
  lacks = math.max(tonumber(lacked) - passed, 0)
end
local taken = math.min(wanted, math.floor((minute - lacks) / each))
if taken < 1 then
  return {0, lacks + each}
end
lacks = lacks + taken * each
-- A full bucket need not be remembered.
redis.call('SET', KEYS[1], string.format('%.0f %.0f', lacks, now), 'PX', math.ceil(lacks / 1e6))
return {taken, lacks}
