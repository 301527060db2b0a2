"""What runs on the server, each in one atomic act. Redis 6.2 and later, Valkey too."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script and the name that the server knows it by."""

    text: str
    sha: str


def _script(text: str) -> Script:
    return Script(text, hashlib.sha1(text.encode()).hexdigest())


# KEYS: lease, checkpoint. ARGV: token, milliseconds. Gives the epoch, 0 when another holds it.
ACQUIRE = _script("""
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if holder then return tonumber(redis.call('HGET', KEYS[2], 'epoch') or 1) end
return redis.call('HINCRBY', KEYS[2], 'epoch', 1)
""")

# KEYS: lease, checkpoint, hash. ARGV: token, milliseconds.
# Gives: held, size of the hash, recorded size, stamp.
RENEW = _script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {0} end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local known = redis.call('HMGET', KEYS[2], 'documents', 'stamp')
return {1, redis.call('HLEN', KEYS[3]), known[1] or '', known[2] or ''}
""")

# KEYS: lease. ARGV: token.
RELEASE = _script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
""")

# KEYS: checkpoint, debts, hash.
LOAD = _script("""
return {redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]), redis.call('HLEN', KEYS[3])}
""")

# KEYS: hash, checkpoint, lease, and those that sections and feed name by number (the last: feed).
# ARGV: token, stamp to continue from, stamp of this write, number of sections, each section as
# command, number of its key, number of values; the values of all sections; length of the feed
# (0: none), entries of the feed. Gives: ok or why not, recorded size, size found, removed, size.
# Values go in pieces: unpack() takes fewer than 8000 (LUAI_MAXCSTACK). A repeated write whose
# reply was lost is recognized by its stamp.
APPLY = _script("""
if redis.call('GET', KEYS[3]) ~= ARGV[1] then return {'the lease is not ours'} end
local known = redis.call('HMGET', KEYS[2], 'stamp', 'documents')
local stamp = known[1] or ''
local found = redis.call('HLEN', KEYS[1])
local recorded = tonumber(known[2] or '0')
if stamp == ARGV[3] then return {'ok', found, found, 0, found} end
if stamp ~= ARGV[2] then return {'the checkpoint is not the one known'} end
local sections = tonumber(ARGV[4])
local value = 5 + 3 * sections
local removed = 0
for section = 1, sections do
  local at = 2 + 3 * section
  local command, key, count = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local last = value + count - 1
  for first = value, last, 4000 do
    local n = redis.call(command, KEYS[key], unpack(ARGV, first, math.min(first + 3999, last)))
    if command == 'HDEL' and key == 1 then removed = removed + n end
  end
  value = last + 1
end
local size = redis.call('HLEN', KEYS[1])
redis.call('HSET', KEYS[2], 'stamp', ARGV[3], 'documents', size)
local length = ARGV[value]
for entry = value + 1, #ARGV, 2 do
  redis.call('XADD', KEYS[8], 'MAXLEN', '~', length, '*',
    'written', ARGV[entry], 'removed', ARGV[entry + 1])
end
return {'ok', recorded, found, removed, size}
""")
