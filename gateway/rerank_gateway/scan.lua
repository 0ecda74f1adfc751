-- Find the top-level `model` of a JSON body without building a document.
--
-- The grammar is RFC 8259 as orjson reads it, so that the gateway and the model servers never disagree:
-- strict UTF-8, no byte order mark, no lone surrogate, no number beyond a double, no nesting beyond 1,024,
-- and of a repeated key the last one counts. Offsets are counted from 0.
--
-- LuaJIT compiles the loops below to machine code as long as they allocate nothing and call no string
-- pattern. A Lua string ends with a NUL that its length does not count: reading one byte past the end is
-- safe, and since NUL is legal nowhere in JSON, it ends every loop.

local ffi = require("ffi")
local bit = require("bit")
local band, bor, bxor, rshift = bit.band, bit.bor, bit.bxor, bit.rshift

local MAX_DEPTH = 1024
local QUOTE, BACKSLASH, SLASH, MINUS, PLUS, POINT, ZERO, NINE = 34, 92, 47, 45, 43, 46, 48, 57
local COMMA, COLON, OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT = 44, 58, 91, 93, 123, 125

local bytes_t = ffi.typeof("const uint8_t *")
local int_t = ffi.typeof("const int32_t *")
local word_t = ffi.typeof("const uint64_t *")

local HIGH_BITS = 0x8080808080808080ULL
local ONES = 0x0101010101010101ULL
local TWOS = 0x0202020202020202ULL
local ABOVE_SPACES = 0x2121212121212121ULL
local BACKSLASHES = 0x5c5c5c5c5c5c5c5cULL
local INDEXES = 0x0001020304050607ULL -- times 2^(8i), its top byte is i

-- 1 for the bytes that stand for themselves in a string: ASCII without controls, quote and backslash.
local PLAIN = ffi.new("uint8_t[256]")
for c = 0x20, 0x7f do
  PLAIN[c] = (c == QUOTE or c == BACKSLASH) and 0 or 1
end

-- The value of a hexadecimal digit, -1 for every other byte.
local HEX = ffi.new("int8_t[256]")
for c = 0, 255 do
  HEX[c] = tonumber(string.match(string.char(c), "^%x$") or "-1", 16)
end

-- 1 for the letters that may follow a backslash, `u` apart.
local ESCAPED = ffi.new("uint8_t[256]")
for c in string.gmatch('"\\/bfnrt', ".") do
  ESCAPED[string.byte(c)] = 1
end

-- Whether the container at each depth is an object. One scan at a time runs in a Lua state.
local is_object = ffi.new("uint8_t[?]", MAX_DEPTH + 1)

-- A function below that moves an offset forward returns it, or failed(p): not valid JSON at p.
local function failed(p)
  return -1 - p
end

-- The 16 bits of the four hexadecimal digits at p, or a negative number.
local function hex4(s, p)
  local a = HEX[s[p]]
  if a < 0 then return -1 end
  local b = HEX[s[p + 1]]
  if b < 0 then return -1 end
  local c = HEX[s[p + 2]]
  if c < 0 then return -1 end
  local d = HEX[s[p + 3]]
  if d < 0 then return -1 end
  return a * 4096 + b * 256 + c * 16 + d
end

-- p: at a backslash. Returns the offset after the escape; a high surrogate takes its low one along.
local function after_escape(s, p)
  if ESCAPED[s[p + 1]] == 1 then return p + 2 end
  if s[p + 1] ~= 117 then return failed(p) end
  local unit = hex4(s, p + 2)
  if unit < 0 or band(unit, 0xfc00) == 0xdc00 then return failed(p) end
  if band(unit, 0xfc00) ~= 0xd800 then return p + 6 end
  if s[p + 6] ~= BACKSLASH or s[p + 7] ~= 117 then return failed(p) end
  if band(hex4(s, p + 8), -1024) ~= 0xdc00 then return failed(p) end
  return p + 12
end

-- p: at a byte above 0x7f. Returns the offset after the character (Unicode standard, table 3-7).
local function after_character(s, p)
  local a, b = s[p], s[p + 1]
  if band(b, 0xc0) ~= 0x80 then return failed(p) end
  if a < 0xe0 then return a >= 0xc2 and p + 2 or failed(p) end
  if band(s[p + 2], 0xc0) ~= 0x80 then return failed(p) end
  if a < 0xf0 then
    if (a == 0xe0 and b < 0xa0) or (a == 0xed and b > 0x9f) then return failed(p) end
    return p + 3
  end
  if band(s[p + 3], 0xc0) ~= 0x80 then return failed(p) end
  if a > 0xf4 or (a == 0xf0 and b < 0x90) or (a == 0xf4 and b > 0x8f) then return failed(p) end
  return p + 4
end

-- p: after an opening quote. Returns the offset of the closing one.
local function string_end(s, p, n)
  while true do
    -- Eight plain bytes at a time. An exclusive or with 2 puts the quote beside the controls, below 0x21. What is
    -- below borrows into its high bit, and so does a backslash, which an exclusive or turns into zero; a borrow
    -- may mark the bytes above it too, never one below.
    while p + 8 <= n do
      local w = ffi.cast(word_t, s + p)[0]
      local odd = bor(w, bxor(w, TWOS) - ABOVE_SPACES, bxor(w, BACKSLASHES) - ONES)
      odd = band(odd, HIGH_BITS)
      if odd ~= 0 then
        p = p + tonumber(rshift(rshift(band(odd, -odd), 7) * INDEXES, 56))
        break
      end
      p = p + 8
    end
    while PLAIN[s[p]] == 1 do
      p = p + 1
    end
    local c = s[p]
    if c == QUOTE then return p end
    if c == BACKSLASH then
      p = after_escape(s, p)
      if p < 0 then return p end
    elseif c < 0x80 then
      return failed(p)
    else
      -- Three-byte characters, among them all Chinese, Japanese and Korean; 0xe0 and 0xed need a closer look.
      while p + 4 <= n do
        local w = ffi.cast(int_t, s + p)[0]
        if band(w, 0xc0c0f0) ~= 0x8080e0 or band(w, 0xff) == 0xe0 or band(w, 0xff) == 0xed then break end
        p = p + 3
      end
      if s[p] >= 0x80 then
        p = after_character(s, p)
        if p < 0 then return p end
      end
    end
  end
end

local function after_digits(s, p)
  while s[p] >= ZERO and s[p] <= NINE do
    p = p + 1
  end
  return p
end

-- The smallest whole number that rounds to infinity instead of to the largest double: 2^1024 - 2^970.
local TOO_LARGE = "17976931348623158079372897140530341507993413271003782693617377898044496829276"
  .. "47509466490179775872070963302864166928879109465555478519404026306574886715058"
  .. "20681908902000708383676273854845817711531764475730270069855571366959622842914"
  .. "819860834936475292719074168444365510704342711559699508093042880177904174497792"
local too_large = ffi.cast(bytes_t, TOO_LARGE)

-- Whether the number from p to before q, checked for its form, rounds to infinity.
local function overflows(s, p, q)
  if s[p] == MINUS then p = p + 1 end
  local point = after_digits(s, p)
  local mantissa_end = s[point] == POINT and after_digits(s, point + 1) or point
  local exponent = 0
  if mantissa_end < q then
    local sign = s[mantissa_end + 1]
    local e = (sign == PLUS or sign == MINUS) and mantissa_end + 2 or mantissa_end + 1
    while e < q do
      exponent = math.min(exponent * 10 + (s[e] - ZERO), 1e15)
      e = e + 1
    end
    if sign == MINUS then exponent = -exponent end
  end
  local first = p
  while first < mantissa_end and (s[first] == ZERO or s[first] == POINT) do
    first = first + 1
  end
  if first == mantissa_end then return false end
  -- The value is 0.DIGITS * 10^magnitude, and its first digit is not zero.
  local magnitude = exponent + point - first + (first > point and 1 or 0)
  if magnitude ~= #TOO_LARGE then return magnitude > #TOO_LARGE end
  for i = 0, #TOO_LARGE - 1 do
    if first == point then first = first + 1 end
    local digit = first < mantissa_end and s[first] or ZERO
    if digit ~= too_large[i] then return digit > too_large[i] end
    first = first + 1
  end
  return true
end

-- p: at a minus or a digit. Returns the offset after the number.
local function number_end(s, p)
  local from = p
  if s[p] == MINUS then p = p + 1 end
  local q = after_digits(s, p)
  if q == p or (s[p] == ZERO and q > p + 1) then return failed(p) end
  local suspect = q - p >= #TOO_LARGE
  p = q
  if s[p] == POINT then
    q = after_digits(s, p + 1)
    if q == p + 1 then return failed(p) end
    p = q
  end
  if bor(s[p], 32) == 101 then
    p = p + 1
    if s[p] == PLUS or s[p] == MINUS then p = p + 1 end
    q = after_digits(s, p)
    if q == p then return failed(p) end
    p, suspect = q, true
  end
  if suspect and overflows(s, from, p) then return failed(from) end
  return p
end

-- p: at the first byte of true, false or null, or of anything that is no value. Returns the offset after it.
local function literal_end(s, p)
  local c = s[p]
  if c == 116 and s[p + 1] == 114 and s[p + 2] == 117 and s[p + 3] == 101 then return p + 4 end
  if c == 110 and s[p + 1] == 117 and s[p + 2] == 108 and s[p + 3] == 108 then return p + 4 end
  if c == 102 and s[p + 1] == 97 and s[p + 2] == 108 and s[p + 3] == 115 and s[p + 4] == 101 then return p + 5 end
  return failed(p)
end

local function after_space(s, p)
  while s[p] == 32 or s[p] == 10 or s[p] == 13 or s[p] == 9 do
    p = p + 1
  end
  return p
end

local SHORT = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

local function utf8(code)
  if code < 0x80 then return string.char(code) end
  if code < 0x800 then return string.char(0xc0 + bit.rshift(code, 6), 0x80 + band(code, 63)) end
  local last, middle = 0x80 + band(code, 63), 0x80 + band(bit.rshift(code, 6), 63)
  if code < 0x10000 then return string.char(0xe0 + bit.rshift(code, 12), middle, last) end
  return string.char(0xf0 + bit.rshift(code, 18), 0x80 + band(bit.rshift(code, 12), 63), middle, last)
end

-- The text of a checked string, given without its quotes.
local function decode(raw)
  if not string.find(raw, "\\", 1, true) then return raw end
  local high
  return (string.gsub(raw, "\\(.)(%x?%x?%x?%x?)", function(letter, digits)
    if letter ~= "u" then return (SHORT[letter] or letter) .. digits end
    local unit = tonumber(digits, 16)
    if band(unit, 0xfc00) == 0xd800 then
      high = unit
      return ""
    end
    if band(unit, 0xfc00) == 0xdc00 then
      unit = 0x10000 + (high - 0xd800) * 1024 + (unit - 0xdc00)
    end
    return utf8(unit)
  end))
end

-- Whether the checked key from p to before q reads `model`. Escaped in full it has 30 bytes.
local function is_model_key(body, s, p, q)
  if q - p == 5 then
    return s[p] == 109 and s[p + 1] == 111 and s[p + 2] == 100 and s[p + 3] == 101 and s[p + 4] == 108
  end
  return q - p > 5 and q - p <= 30 and decode(string.sub(body, p + 1, q)) == "model"
end

local scan = {}

-- Check the whole body and return its top-level `model`, decoded, or nil with what is wrong:
--   "invalid_json", offset   the body is not JSON at this byte
--   "not_object"             it is JSON but has no keys
--   "missing"                it has no key `model`
--   "null", "not_string"     its `model` is null, or of another type than a string
function scan.model(body)
  local n = #body
  local s = ffi.cast(bytes_t, body)
  local depth, wanted = 0, false
  local found, from, to = 0, 0, 0 -- the first byte of the last value of `model`, and its text if a string
  local p = after_space(s, 0)
  local top = s[p]
  while true do
    -- A value begins at p.
    local c = s[p]
    local opened = false
    if wanted then found = c end
    if c == QUOTE then
      local q = string_end(s, p + 1, n)
      if q < 0 then return nil, "invalid_json", -1 - q end
      if wanted then from, to = p + 1, q end
      p = q + 1
    elseif c == OPEN_OBJECT or c == OPEN_ARRAY then
      depth = depth + 1
      if depth > MAX_DEPTH then return nil, "invalid_json", p end
      is_object[depth] = c == OPEN_OBJECT and 1 or 0
      p = after_space(s, p + 1)
      opened = true
    else
      local q = (c == MINUS or (c >= ZERO and c <= NINE)) and number_end(s, p) or literal_end(s, p)
      if q < 0 then return nil, "invalid_json", -1 - q end
      p = q
    end
    wanted = false
    -- A value has ended before p, or a container has just opened: go to where the next value begins.
    while true do
      if depth == 0 then break end
      if not opened then p = after_space(s, p) end
      local mark = s[p]
      if mark == (is_object[depth] == 1 and CLOSE_OBJECT or CLOSE_ARRAY) then
        depth = depth - 1
        p = p + 1
        opened = false
      else
        if not opened then
          if mark ~= COMMA then return nil, "invalid_json", p end
          p = after_space(s, p + 1)
        end
        if is_object[depth] == 1 then
          if s[p] ~= QUOTE then return nil, "invalid_json", p end
          local q = string_end(s, p + 1, n)
          if q < 0 then return nil, "invalid_json", -1 - q end
          wanted = depth == 1 and is_model_key(body, s, p + 1, q)
          p = after_space(s, q + 1)
          if s[p] ~= COLON then return nil, "invalid_json", p end
          p = after_space(s, p + 1)
        end
        break
      end
    end
    if depth == 0 then break end
  end
  p = after_space(s, p)
  if p ~= n then return nil, "invalid_json", p end
  if top ~= OPEN_OBJECT then return nil, "not_object" end
  if found == 0 then return nil, "missing" end
  if found == 110 then return nil, "null" end
  if found ~= QUOTE then return nil, "not_string" end
  return decode(string.sub(body, from + 1, to))
end

return scan
