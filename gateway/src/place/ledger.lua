-- The ledger of strict limits in Redis: what `ledger.rs` does, for many gateways at once. One call is one step, over all
-- accounts of a request.
--
-- KEYS: the mark that all of the past is counted; the reservation; the accounts.
-- ARGV: what to do; now (microseconds; 0: this server's own clock, which all gateways share); the reservation's time to
-- live; how long its end is remembered; then five for each account: amount, hard, kind of window (s: sliding, b: bucket,
-- c: calendar, f: what is in flight, of which nothing that was spent counts), its two numbers.
--
-- Of `clear` two more follow, the order's number and time, and the time to live is that of the mark it leaves.
--
-- An account is a hash (spent in the window, its newest slice, what is outstanding), a list of its older slices, and a
-- sorted set of what is outstanding by the time it ends; and where it was cleared, by which order and when. All numbers are
-- whole and below 2^53, so that they are exact.

local op, now, ttl, keep = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- A number as it is: Lua's own text has 14 digits.
local function text(n) return string.format('%.0f', n) end

local function number(field) return tonumber(field or '0') end

-- Drops what is outstanding in an account and has ended.
local function expire(key)
  local set = key .. ':o'
  repeat
    local due = redis.call('ZRANGEBYSCORE', set, '-inf', text(now), 'LIMIT', 0, 100)
    for _, member in ipairs(due) do
      redis.call('ZREM', set, member)
      redis.call('HINCRBY', key, 'out', '-' .. string.match(member, '%d+$'))
    end
  until #due == 0
end

local function load_slices(line)
  line.slice = math.max(math.floor(now / line.a), line.head)
  local oldest, list = line.slice - line.b, line.key .. ':s'
  while true do
    local run = redis.call('LINDEX', list, 0)
    if not run then break end
    local slice, amount = string.match(run, '^(%d+):(%d+)$')
    if oldest <= tonumber(slice) then
      line.first = tonumber(slice)
      break
    end
    redis.call('LPOP', list)
    line.spent = line.spent - tonumber(amount)
    line.let_go = true
  end
  if line.head < oldest and 0 < line.newest then
    line.spent, line.newest, line.let_go = 0, 0, true
  end
  if not line.first and 0 < line.newest then line.first = line.head end
  line.used = line.spent
end

local function store(line)
  local lasts
  if line.kind == 'f' then lasts = 0
  elseif line.kind == 's' then lasts = (line.b + 2) * line.a
  elseif line.kind == 'b' then lasts = line.spent / line.b
  else lasts = line.bounds[#line.bounds] - now end
  -- An hour more than its window: what is outstanding lasts no longer.
  local lasts_ms = text(math.ceil(math.max(lasts, 0) / 1000) + 3700000)
  redis.call('HSET', line.key, 'spent', text(line.spent), 'head', text(line.head), 'newest', text(line.newest))
  for _, part in ipairs({'', ':s', ':o'}) do redis.call('PEXPIRE', line.key .. part, lasts_ms) end
end

-- What an account holds now.
local function load(line)
  expire(line.key)
  local fields = redis.call('HMGET', line.key, 'spent', 'head', 'newest', 'out')
  line.spent, line.head = number(fields[1]), number(fields[2])
  line.newest, line.out = number(fields[3]), number(fields[4])
  if line.kind == 'f' then
    line.used = 0
  elseif line.kind == 's' then
    load_slices(line)
    if line.let_go then store(line) end
  elseif line.kind == 'b' then
    -- `spent` is the level at `head`, in parts: a unit has `a` of them, and `b` drain every microsecond.
    local at = math.max(now, line.head)
    line.spent, line.head = math.max(0, line.spent - (at - line.head) * line.b), at
    line.used = math.ceil(line.spent / line.a)
  else
    -- `head` is when the period began.
    local period = line.head
    for _, bound in ipairs(line.bounds) do
      if bound <= now then period = math.max(period, bound) elseif not line.ends then line.ends = bound end
    end
    if line.head < period then line.spent, line.head = 0, period end
    line.used = line.spent
  end
end

-- Counts what was spent.
local function spend(line)
  if line.kind == 'f' then return end
  if line.kind == 's' then
    if line.slice ~= line.head then
      if 0 < line.newest then
        redis.call('RPUSH', line.key .. ':s', text(line.head) .. ':' .. text(line.newest))
      end
      line.head, line.newest = line.slice, 0
    end
    line.newest = line.newest + line.amount
    line.spent = line.spent + line.amount
    line.used = line.spent
  elseif line.kind == 'b' then
    line.spent = line.spent + line.amount * line.a
    line.used = math.ceil(line.spent / line.a)
  else
    line.spent = line.spent + line.amount
    line.used = line.spent
  end
  store(line)
end

-- When no more than `room` is used, if nothing else comes; 0: never; -1: what is outstanding stands in the way, which
-- may end at any time.
local function falls_to(line, room)
  if room < 0 then return 0 end
  if line.used <= room then return -1 end
  if line.kind == 'b' then return line.head + math.ceil((line.spent - room * line.a) / line.b) end
  if line.kind == 'c' then return line.ends or 0 end
  local held = line.spent
  for _, run in ipairs(redis.call('LRANGE', line.key .. ':s', 0, -1)) do
    local slice, amount = string.match(run, '^(%d+):(%d+)$')
    held = held - tonumber(amount)
    if held <= room then return (tonumber(slice) + line.b + 1) * line.a end
  end
  return (line.head + line.b + 1) * line.a
end

-- When more is left than now; 0: nothing is used.
local function frees_at(line)
  if line.used == 0 then return 0 end
  if line.kind == 's' and line.first then return (line.first + line.b + 1) * line.a end
  return falls_to(line, line.used - 1)
end

local lines = {}
for i = 3, #KEYS do
  local at = 5 + (i - 3) * 5
  local line = {key = KEYS[i], amount = tonumber(ARGV[at]), hard = tonumber(ARGV[at + 1]), kind = ARGV[at + 2]}
  if line.kind == 'c' then
    line.bounds = {}
    for bound in string.gmatch(ARGV[at + 3], '%d+') do table.insert(line.bounds, tonumber(bound)) end
  else
    line.a, line.b = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  end
  load(line)
  lines[#lines + 1] = line
end

local function is_full(line) return line.hard < line.used + line.out + math.max(line.amount, 1) end

local function fits()
  for _, line in ipairs(lines) do
    if is_full(line) then return false end
  end
  return true
end

-- The code, now, when it expires, whether late and over; of each account what is taken, whether full, when it frees.
local function answer(code, expires, late, over)
  local told = {code, now, expires or 0, late or 0, over or 0}
  for _, line in ipairs(lines) do
    local full, frees = is_full(line), nil
    if code == 3 and full then
      frees = falls_to(line, line.hard - math.max(line.amount, 1))
    else
      frees = frees_at(line)
    end
    for _, value in ipairs({line.used + line.out, full and 1 or 0, frees}) do table.insert(told, value) end
  end
  return told
end

-- States: held, committed, released, expired.
local known = redis.call('HMGET', KEYS[2], 'state', 'expires', 'held', 'late', 'over')
local state, expires = known[1], number(known[2])
if state == 'held' and expires <= now then
  state = 'expired'
  redis.call('HSET', KEYS[2], 'state', state)
end

local function ended()
  if state == 'committed' then return answer(4, expires, number(known[4]), number(known[5])) end
  return answer(state == 'released' and 5 or 6, expires)
end

local function remember(named, late, over)
  redis.call('HSET', KEYS[2], 'state', named, 'expires', text(expires), 'late', late or 0, 'over', over or 0)
  redis.call('PEXPIRE', KEYS[2], text(math.ceil((math.max(expires - now, 0) + keep) / 1000)))
end

-- Takes what the reservation holds out of its accounts. Returns 1 if more is spent now than it held in any of them.
local function let_go()
  local held, over = {}, 0
  for _, part in ipairs(cjson.decode(known[3] or '[]')) do
    held[part[1]] = tonumber(part[2])
    if redis.call('ZREM', part[1] .. ':o', KEYS[2] .. ':' .. part[2]) == 1 then
      redis.call('HINCRBY', part[1], 'out', '-' .. part[2])
    end
  end
  for _, line in ipairs(lines) do
    if held[line.key] then
      line.out = line.out - held[line.key]
      if line.kind ~= 'f' and held[line.key] < line.amount then over = 1 end
    end
  end
  return over
end

local admits = op == 'reserve' or op == 'spend' or op == 'look'
if admits and redis.call('EXISTS', KEYS[1]) == 0 then return {0, now, 0, 0, 0} end

-- Once for all who say so: what was spent counts no more, what is outstanding stays.
if op == 'clear' then
  local seq, at = tonumber(ARGV[#ARGV - 1]), tonumber(ARGV[#ARGV])
  for _, line in ipairs(lines) do
    local mark = line.key .. ':c'
    local known = redis.call('HGET', mark, 'seq')
    if not known or tonumber(known) < seq then
      redis.call('HSET', mark, 'seq', text(seq), 'at', text(at))
      redis.call('PEXPIRE', mark, text(math.ceil(ttl / 1000)))
      redis.call('DEL', line.key .. ':s')
      line.spent, line.newest, line.used, line.first = 0, 0, 0, nil
      store(line)
    end
  end
  return answer(1)
end

if op == 'look' then return answer(fits() and 1 or 3) end

if op == 'reserve' or op == 'spend' then
  if state == 'held' or (state == 'committed' and op == 'spend') then return answer(2, expires) end
  if state then return ended() end
  if not fits() then return answer(3) end
  expires = now
  if op == 'spend' then
    for _, line in ipairs(lines) do spend(line) end
    remember('committed')
    return answer(1, now)
  end
  expires = now + ttl
  local held = {}
  for _, line in ipairs(lines) do
    if 0 < line.amount then
      redis.call('ZADD', line.key .. ':o', text(expires), KEYS[2] .. ':' .. text(line.amount))
      line.out = redis.call('HINCRBY', line.key, 'out', text(line.amount))
      store(line)
    end
    table.insert(held, {line.key, text(line.amount)})
  end
  if 0 < #held then redis.call('HSET', KEYS[2], 'held', cjson.encode(held)) end
  remember('held')
  return answer(1, expires)
end

if op == 'release' then
  if not state then return answer(7) end
  if state ~= 'held' then return ended() end
  let_go()
  remember('released')
  return answer(1, expires)
end

-- commit; and restore, a commit of which the log tells.
if state == 'committed' then return ended() end
local late, over = 0, 0
if state == 'held' then
  over = let_go()
elseif op == 'commit' then
  late = state == 'released' and 1 or state == 'expired' and 2 or 3
end
for _, line in ipairs(lines) do
  local cleared_at = op == 'restore' and number(redis.call('HGET', line.key .. ':c', 'at')) or 0
  if cleared_at <= now then spend(line) end
end
if expires == 0 then expires = now end
remember('committed', late, over)
return answer(1, expires, late, over)
