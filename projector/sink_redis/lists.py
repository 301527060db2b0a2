"""Lists of ids beside the hash: what scripts do with them.

`{name}:by:VIEW:VALUE` is a list (a sorted set), `{name}:listed` says of each id where it stands,
`{name}:lists:VIEW` has the size of each list of a view. A list whose oldest were cut has after its
size the score and id of the newest that was cut: nothing at or before it is put back. Writes of
versions that know no lists are told by the checkpoint's stamp, which is not the lists' then.

Lists are found by what is recorded of ids, so their keys cannot be declared. In a cluster one key
is declared that never exists: while a slot moves key by key, the server therefore refuses the whole
script (TRYAGAIN), and no script sees half of the lists.
"""

from __future__ import annotations

from projector.sink_redis.scripts import APPLY_TEXT, RENEW_TEXT, script

# As bytes: `<` on strings asks the locale.
_BEFORE = """
local function before(a, b)
  for at = 1, math.min(#a, #b) do
    local x, y = string.byte(a, at), string.byte(b, at)
    if x ~= y then return x < y end
  end
  return #a < #b
end
"""
_ENTRIES = """
local function entries(text)
  local found, last = {}, ''
  for score, list in string.gmatch(text, '([^ \\n]*) ([^\\n]+)') do
    if score == '' then score = last else last = score end
    if tonumber(score) and string.find(list, ':', 1, true) then found[list] = score end
  end
  return found
end
"""
_NAMES = """
local prefix, listed = string.sub(KEYS[2], 1, -#'checkpoint' - 1), KEYS[#KEYS - 2]
local function names(list)
  local view, value = string.match(list, '^([^:]*):(.*)$')
  return view, value, prefix .. 'by:' .. list, prefix .. 'lists:' .. view
end
local function numbers(text)
  local count, score, id = string.match(text or '', '^(%d+) ?([^ ]*) ?(.*)$')
  return tonumber(count) or 0, tonumber(score or ''), id
end
local function sized(list)
  local view, value, key, sizes = names(list)
  local count, score, id = numbers(redis.call('HGET', sizes, value))
  return {list = list, view = view, value = value, key = key, sizes = sizes, count = count,
    score = score, id = id, is_odd = redis.call('ZCARD', key) ~= count}
end
"""
_LOOK = """
local odd = {}
local function are_lost(fields)
  local lost, recorded, stamp, mine = false, '0', '', ''
  for at = 1, #fields, 2 do
    local view = string.match(fields[at], '^view:(.*)$')
    if fields[at] == 'listed' then recorded = fields[at + 1] end
    if fields[at] == 'stamp' then stamp = fields[at + 1] end
    if fields[at] == 'lists_stamp' then mine = fields[at + 1] end
    if fields[at] == 'lists_lost' and fields[at + 1] ~= '0' then lost = true end
    if view then
      local count = string.match(fields[at + 1], ' (%d+)$')
      odd[view] = redis.call('HLEN', prefix .. 'lists:' .. view) ~= tonumber(count)
      lost = lost or odd[view]
    end
  end
  return lost or stamp ~= mine or redis.call('HLEN', listed) ~= tonumber(recorded)
end
"""
# Where a key holds another type lists are lost, too: the walk that is owed for that names it.
_LOOK_ON = """
local fine, is_lost = pcall(are_lost, redis.call('HGETALL', KEYS[2]))
is_lost = is_lost or not fine
"""

# After the entries of the feed: ids with their places, ids to be struck off with their list, views
# with what they keep; then the numbers of these; 1 where every entry is rewritten; the mark of
# the views ('': as before); the key of a debt that covers lost lists ('' if none).
#
# What is to be struck off has its list counted, also an empty id; with a list without a value,
# `VIEW:`, all entries of the view are.
#
# First all is read, so that a key of another type is met before anything is written.
_PLAN = """
local tail = #ARGV
local is_forced, mark, covering = ARGV[tail - 2] == '1', ARGV[tail - 1], ARGV[tail]
local kept_at = tail - 5 - 2 * tonumber(ARGV[tail - 3])
local strays_at = kept_at - 2 * tonumber(ARGV[tail - 4])
local places_at = strays_at - 2 * tonumber(ARGV[tail - 5])
local is_lost = are_lost(redis.call('HGETALL', KEYS[2]))
if stamp == ARGV[3] then return {'ok', damage, 0, found, 0, is_lost and 1 or 0} end
local is_covered = covering ~= '' and is_new(covering)
local keep = {}
for at = kept_at, tail - 7, 2 do keep[ARGV[at]] = tonumber(ARGV[at + 1]) end
local touched, order, moved, emptied = {}, {}, {}, {}
local function touch(list)
  local known = touched[list]
  if not known then
    known = sized(list)
    known.add, known.drop = {}, {}
    is_lost = is_lost or known.is_odd
    touched[list] = known
    order[#order + 1] = known
  end
  return known
end
for at = places_at, strays_at - 2, 2 do
  local id, new = ARGV[at], ARGV[at + 1]
  local old = redis.call('HGET', listed, id) or ''
  if old ~= new or (is_forced and new ~= '') then
    local stands, stood = entries(new), entries(old)
    for list in pairs(stood) do
      if not stands[list] then local drop = touch(list).drop; drop[#drop + 1] = id end
    end
    for list, score in pairs(stands) do
      if is_forced or stood[list] ~= score then
        local add = touch(list).add
        add[#add + 1] = score
        add[#add + 1] = id
      end
    end
    if new == '' then
      emptied[#emptied + 1] = id
    elseif old ~= new then
      moved[#moved + 1] = id
      moved[#moved + 1] = new
    end
  end
end
for at = strays_at, kept_at - 2, 2 do
  local stands = entries(redis.call('HGET', listed, ARGV[at + 1]) or '')
  local drop = touch(ARGV[at]).drop
  if not stands[ARGV[at]] then drop[#drop + 1] = ARGV[at + 1] end
end
"""

_MOVE = """
local function called(command, key, values)
  for first = 1, #values, 4000 do
    redis.call(command, key, unpack(values, first, math.min(first + 3999, #values)))
  end
end
called('HSET', listed, moved)
called('HDEL', listed, emptied)
local members, cuts = {}, 5000
for _, known in ipairs(order) do
  local add, drop = known.add, known.drop
  if known.score then
    add = {}
    for at = 1, #known.add, 2 do
      local score, id = tonumber(known.add[at]), known.add[at + 1]
      if score > known.score or (score == known.score and before(known.id, id)) then
        add[#add + 1] = known.add[at]
        add[#add + 1] = id
      else
        drop[#drop + 1] = id
      end
    end
  end
  called('ZREM', known.key, drop)
  called('ZADD', known.key, add)
  local count, most = redis.call('ZCARD', known.key), keep[known.view]
  if known.score and (not most or count < most) then
    known.score, is_lost = nil, true
    is_covered = false
  elseif most and count > 2 * most and cuts > 0 then
    local last = math.min(count - 2 * most, cuts) - 1
    local cut = redis.call('ZRANGE', known.key, last, last, 'WITHSCORES')
    redis.call('ZREMRANGEBYRANK', known.key, 0, last)
    known.id, known.score, count, cuts = cut[1], cut[2], count - last - 1, cuts - last - 1
  end
  if count == 0 then
    redis.call('HDEL', known.sizes, known.value)
  else
    local said = string.format('%d', count)
    if known.score then
      local score = type(known.score) == 'number' and string.format('%.17g', known.score)
      said = said .. ' ' .. (score or known.score) .. ' ' .. known.id
    end
    redis.call('HSET', known.sizes, known.value, said)
  end
  members[known.view] = (members[known.view] or 0) + count - known.count
end
for view, grown in pairs(members) do
  local sum = numbers(redis.call('HGET', KEYS[2], 'view:' .. view)) + grown
  local lists = redis.call('HLEN', prefix .. 'lists:' .. view)
  if (odd[view] or touched[view .. ':']) and lists <= 10000 then
    sum = 0
    local sizes = redis.call('HGETALL', prefix .. 'lists:' .. view)
    for at = 2, #sizes, 2 do sum = sum + numbers(sizes[at]) end
  end
  if lists == 0 then
    redis.call('HDEL', KEYS[2], 'view:' .. view)
  else
    redis.call('HSET', KEYS[2], 'view:' .. view, string.format('%.0f %d', math.max(0, sum), lists))
  end
end
redis.call('HSET', KEYS[2], 'listed', redis.call('HLEN', listed),
  'lists_lost', (is_lost and not is_covered) and 1 or 0, 'lists_stamp', ARGV[3])
"""

APPLY_LISTS = script(
    APPLY_TEXT,
    names=_BEFORE + _ENTRIES + _NAMES + _LOOK,
    plan=_PLAN,
    feed="feed_end = places_at - 1\n",
    views="""
if mark ~= '' then
  redis.call('DEL', KEYS[11])
  redis.call('HSET', KEYS[2], 'views', mark)
end
""",
    move=_MOVE,
    told="if true then return {'ok', damage, removed, size, math.max(0, found - recorded),"
    " is_lost and 1 or 0} end\n",
)

# Beside what RENEW wants: a view ('' for none), a cursor, and about how many of its lists to look
# at. Gives whether lists are lost, and the cursor to go on with.
RENEW_LISTS = script(
    RENEW_TEXT,
    names=_NAMES + _LOOK,
    look=_LOOK_ON
    + """
local following = '0'
if ARGV[4] ~= '' then
  local some = redis.pcall('HSCAN', prefix .. 'lists:' .. ARGV[4], ARGV[5], 'COUNT', ARGV[6])
  following = some[1] or '0'
  for at = 1, #(some[2] or {}), 2 do
    local key = prefix .. 'by:' .. ARGV[4] .. ':' .. some[2][at]
    if redis.pcall('ZCARD', key) ~= numbers(some[2][at + 1]) then is_lost = true end
  end
end
if true then return {1, damage, known[1], is_lost and 1 or 0, following} end
""",
)

# KEYS: hash, checkpoint, and the last three. Gives whether lists are lost, as far as their numbers
# tell.
LOOK = script("--names--return is_lost and 1 or 0", names=_NAMES + _LOOK + _LOOK_ON)

# KEYS: the same. ARGV: ids with their places, views with what they keep, the number of the latter.
# Gives those ids that do not stand there. All of a list do not whose size is another than recorded,
# or that was cut and is too short now.
DISPLACED = script(
    """--names--
local kept_at = #ARGV - 2 * tonumber(ARGV[#ARGV])
local keep, known, found = {}, {}, {}
for at = kept_at, #ARGV - 2, 2 do keep[ARGV[at]] = tonumber(ARGV[at + 1]) end
local function look(list)
  if not known[list] then
    local at = sized(list)
    local most = keep[at.view]
    at.is_bad = at.is_odd or (at.score and (not most or at.count < most))
    known[list] = at
  end
  return known[list]
end
local function stands(id, place)
  if (redis.call('HGET', listed, id) or '') ~= place then return false end
  for list, score in pairs(entries(place)) do
    local at = look(list)
    if at.is_bad then return false end
    local stored, wanted = tonumber(redis.call('ZSCORE', at.key, id) or nil), tonumber(score)
    if stored then
      if stored ~= wanted then return false end
    elseif not at.score or wanted > at.score
      or (wanted == at.score and before(at.id, id)) then
      return false
    end
  end
  return true
end
for at = 1, kept_at - 2, 2 do
  if not stands(ARGV[at], ARGV[at + 1]) then found[#found + 1] = ARGV[at] end
end
return found
""",
    names=_BEFORE + _ENTRIES + _NAMES,
)

# KEYS: the same. ARGV: a cursor in the first list, about how many entries to look at, a view all
# of whose lists are known by then ('': none), lists. Gives how many lists are done, the cursor to
# go on with, how many lists and entries were looked at; and lists with ids whose record does not
# name them, or with an empty id where the list is not as recorded.
STRAYS = script(
    """--names--
local cursor, looked, found, at = ARGV[1], 0, {}, 4
while ARGV[at] and looked < tonumber(ARGV[2]) do
  local known = sized(ARGV[at])
  if known.is_odd then found[#found + 1], found[#found + 2] = known.list, '' end
  local some = redis.call('ZSCAN', known.key, cursor, 'COUNT', ARGV[2])
  for entry = 1, #some[2], 2 do
    local id = some[2][entry]
    if not entries(redis.call('HGET', listed, id) or '')[known.list] then
      found[#found + 1], found[#found + 2] = known.list, id
    end
  end
  cursor, looked = some[1], looked + 1 + #some[2] / 2
  if cursor == '0' then at = at + 1 end
end
if ARGV[3] ~= '' and not ARGV[at] then
  local count = string.match(redis.call('HGET', KEYS[2], 'view:' .. ARGV[3]) or ' 0', ' (%d+)$')
  if redis.call('HLEN', prefix .. 'lists:' .. ARGV[3]) ~= tonumber(count) then
    found[#found + 1], found[#found + 2] = ARGV[3] .. ':', ''
  end
end
return {at - 4, cursor, looked, found}
""",
    names=_ENTRIES + _NAMES,
)

# KEYS: the same. ARGV: lists. Gives those that are not recorded.
UNKNOWN = script(
    """--names--
local found = {}
for _, list in ipairs(ARGV) do
  local _, value, _, sizes = names(list)
  if not redis.call('HGET', sizes, value) then found[#found + 1] = list end
end
return found
""",
    names=_NAMES,
)

# KEYS: the same. ARGV: a list, the highest score, and how many to give. Gives ids and scores.
DUE = script(
    """--names--
local _, _, key = names(ARGV[1])
return redis.call('ZRANGE', key, '-inf', ARGV[2], 'BYSCORE', 'LIMIT', 0, ARGV[3], 'WITHSCORES')
""",
    names=_NAMES,
)
