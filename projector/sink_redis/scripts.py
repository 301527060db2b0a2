"""What runs on the server, each in one atomic act. Redis 6.2 and later, Valkey too."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_MARK = re.compile(r"--(\w+)--\n?")


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the name that the server knows it by."""

    text: str
    sha: str


def script(text: str, **parts: str) -> Script:
    """Return a script; in place of each mark `--name--` stands what is given for it, or nothing."""
    text = _MARK.sub(lambda found: parts.get(found[1], ""), text)
    return Script(text, hashlib.sha1(text.encode()).hexdigest())


# KEYS: lease, checkpoint. ARGV: token, milliseconds, an epoch that is over (it outlives a
# flushed Redis). Gives the epoch, 0 when another holds the lease.
#
# A lease without an end is nobody's: it is given one where the server can (NX: Redis 7). An epoch
# that is no number counts as none.
ACQUIRE = script("""
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  redis.pcall('PEXPIRE', KEYS[1], ARGV[2], 'NX')
  return 0
end
local epoch = tonumber(redis.call('HGET', KEYS[2], 'epoch') or '0') or 0
if not (epoch >= 0 and epoch < 2 ^ 53 and epoch == math.floor(epoch)) then epoch = 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if holder and epoch > 0 then return epoch end
epoch = math.max(tonumber(ARGV[3]), epoch) + 1
redis.call('HSET', KEYS[2], 'epoch', string.format('%.0f', epoch))
return epoch
""")

# KEYS: lease, checkpoint, hash, debts, daemon. ARGV: token, milliseconds, the holder's report ('':
# as before). A Redis out of memory takes it, for PEXPIRE has begun to write.
# Gives: held; the damage by the numbers recorded (model.Damage); stamp.
RENEW_TEXT = """--names--
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {0, 0, ''} end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if ARGV[3] ~= '' then redis.call('SET', KEYS[5], ARGV[3]) end
local known = redis.call('HMGET', KEYS[2], 'stamp', 'documents', 'owed', 'lost')
if not known[1] then return {1, 0, ''} end
local found = redis.call('HLEN', KEYS[3])
local recorded = tonumber(known[2] or '') or 2 ^ 53
local damage = (known[4] == '2' or found > recorded) and 2 or 0
if known[4] == '1' or not (found >= recorded)
  or redis.call('HLEN', KEYS[4]) ~= tonumber(known[3] or '') then damage = 1 end
--look--
return {1, damage, known[1]}
"""
RENEW = script(RENEW_TEXT)

# KEYS: lease. ARGV: token.
RELEASE = script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
""")

# KEYS: checkpoint, debts, hash. Gives all of the first two, and the size of the third.
LOAD = script("""
return {redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]), redis.call('HLEN', KEYS[3])}
""")

# KEYS: hash, checkpoint, lease, debts, quarantine, resync, requests, changes.
# ARGV: token, stamp to continue from, stamp of this write, the key of a debt that covers damage if
# this write records it ('' if not), number of sections, each section as command, number of its
# key, number of values; the values of all sections; length of the feed, entries of the feed.
# Gives: ok or why not, the damage found (model.Damage), removed, size, how many documents more than
# recorded were found.
#
# Values go in pieces: unpack() takes fewer than 8000 (LUAI_MAXCSTACK). A repeated write whose
# reply was lost is recognized by its stamp. Once hash or debts are not as large as recorded, the
# checkpoint says so (`lost`) until what covers it is owed: neither a crash nor who cancels what was
# requested can make it forgotten. What
# can fail comes before what writes: reads ask each key for its type, then the feed goes first.
APPLY_TEXT = """--names--
local function is_new(debt)
  local owed = redis.call('HGET', KEYS[4], debt)
  return not owed or string.find(owed, '"reason":"requested"', 1, true)
end
if redis.call('GET', KEYS[3]) ~= ARGV[1] then return {'the lease is not ours'} end
local known = redis.call('HMGET', KEYS[2], 'stamp', 'documents', 'owed', 'lost')
local stamp = known[1] or ''
local found = redis.call('HLEN', KEYS[1])
if stamp ~= ARGV[2] and stamp ~= ARGV[3] then return {'the checkpoint is not the one known'} end
if stamp == '' then redis.call('DEL', KEYS[4], KEYS[5], KEYS[6]) end
local recorded = tonumber(known[2] or '0') or 2 ^ 53
local damage = (known[4] == '2' or found > recorded) and 2 or 0
if known[4] == '1' or not (found >= recorded) or (stamp == '' and found > 0)
  or redis.call('HLEN', KEYS[4]) ~= tonumber(known[3] or '0') then damage = 1 end
--plan--
if stamp == ARGV[3] then return {'ok', damage, 0, found, 0} end
local left = damage
if ARGV[4] ~= '' and (ARGV[4] == 'all' or damage == 2)
  and is_new(ARGV[4]) then left = 0 end
local sections = tonumber(ARGV[5])
local value = 6 + 3 * sections
local feed = value
for section = 1, sections do
  redis.call('HLEN', KEYS[tonumber(ARGV[4 + 3 * section])])
  feed = feed + tonumber(ARGV[5 + 3 * section])
end
local feed_end = #ARGV
--feed--
for entry = feed + 1, feed_end, 2 do
  redis.call('XADD', KEYS[8], 'MAXLEN', '~', ARGV[feed], '*',
    'written', ARGV[entry], 'removed', ARGV[entry + 1])
end
--views--
local removed = 0
for section = 1, sections do
  local at = 3 + 3 * section
  local command, key, count = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local last = value + count - 1
  for first = value, last, 4000 do
    local n = redis.call(command, KEYS[key], unpack(ARGV, first, math.min(first + 3999, last)))
    if command == 'HDEL' and key == 1 then removed = removed + n end
  end
  value = last + 1
end
--move--
local size = redis.call('HLEN', KEYS[1])
redis.call('HSET', KEYS[2], 'stamp', ARGV[3], 'documents', size,
  'owed', redis.call('HLEN', KEYS[4]), 'lost', left)
--told--
return {'ok', damage, removed, size, math.max(0, found - recorded)}
"""
APPLY = script(APPLY_TEXT)

# KEYS: hash. ARGV: cursor, count. HSCAN without the values, for servers before Redis 7.4 and Valkey
# 8, which have no NOVALUES: they are copied into the script, but not sent. Gives: cursor, fields,
# bytes of values that were moved.
SCAN = script("""
local found = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local fields, moved = {}, 0
for place = 1, #found[2], 2 do
  fields[#fields + 1] = found[2][place]
  moved = moved + #found[2][place + 1]
end
return {found[1], fields, moved}
""")

# KEYS: hash. ARGV: ids. Gives the sizes of the documents in bytes, -1 where there is none.
SIZES = script("""
local sizes = {}
for place, id in ipairs(ARGV) do
  local size = redis.call('HSTRLEN', KEYS[1], id)
  if size == 0 and not redis.call('HGET', KEYS[1], id) then size = -1 end
  sizes[place] = size
end
return sizes
""")

# KEYS: hash. ARGV: a value. Writes nothing: tells whether the server reads what it is sent.
NOTHING = script("return 0")
