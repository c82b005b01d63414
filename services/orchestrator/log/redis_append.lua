-- Appends to a turn: all of it or nothing, and nothing twice.
--
-- KEYS[1] is the turn's stream. Its entry 0-1 says who writes it and whose it is, the entry SEQUENCE-0 holds an event,
-- and the last entry, whose id no event can have, says how the turn ended: nothing can be appended behind it.
--
-- ARGV: 1 the writer with its epoch, 2 tenant, 3 session, 4 whether the turn has been kept before ('1'), 5 the number of
-- the first event given, 6 the channel of its followers, 7 and 8 milliseconds that it is kept while it runs and after its
-- end, 9 whether it ends ('1'), 10 how, 11… the events.
--
-- Answers 'kept', or 'lost': the turn is another's, or has ended, or has not all that was kept before.
local stream, writer, channel, ended, ending = KEYS[1], ARGV[1], ARGV[6], ARGV[9] == '1', ARGV[10]
local first, last = tonumber(ARGV[5]), 0
local LAST = '9223372036854775808-0'

local function finish(field, value)
  redis.call('XADD', stream, LAST, field, value)
  redis.call('PEXPIRE', stream, ARGV[8])
  redis.call('PUBLISH', channel, '')
end

local begin = redis.call('XRANGE', stream, '0-1', '0-1')[1]
if begin then
  if begin[2][2] ~= writer then
    return 'lost'
  end
  local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  if newest[1] == LAST then
    -- Tried again, because the answer to the first time did not come.
    return ended and newest[2][1] == 'end' and newest[2][2] == ending and 'kept' or 'lost'
  end
  last = tonumber(string.match(newest[1], '^%d+'))
else
  redis.call('XADD', stream, '0-1', 'writer', writer, 'tenant', ARGV[2], 'session', ARGV[3])
end

if first > last + 1 or (ARGV[4] == '1' and not begin) then
  -- Redis has lost what it said it had kept.
  finish('lost', '')
  return 'lost'
end
for index = 11, #ARGV do
  local sequence = first + index - 11
  if sequence > last then
    redis.call('XADD', stream, string.format('%d-0', sequence), 'event', ARGV[index])
  end
end
if ended then
  finish('end', ending)
else
  redis.call('PEXPIRE', stream, ARGV[7])
  redis.call('PUBLISH', channel, '')
end
return 'kept'
