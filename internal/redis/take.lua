-- Takes one token from the bucket KEYS[1], of which one comes back every ARGV[1]
-- nanoseconds. Gives how many nanoseconds of refilling the bucket would then lack;
-- more than a minute's means that nothing was taken.
-- Kept is what it lacked, and when in microseconds: a number of Lua holds no more.
local minute, each = 60e9, tonumber(ARGV[1])
local clock = redis.call('TIME')
local now = clock[1] * 1e6 + clock[2]
local lacked, at = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+)$')
local lacks = each
if lacked then
  -- A clock that was set back brings nothing, and takes nothing away.
  local passed = math.max(now - tonumber(at), 0) * 1000
  lacks = math.max(tonumber(lacked) - passed, 0) + each
end
if lacks <= minute then
  -- A full bucket need not be remembered.
  redis.call('SET', KEYS[1], string.format('%.0f %.0f', lacks, now), 'PX', math.ceil(lacks / 1e6))
end
return lacks
