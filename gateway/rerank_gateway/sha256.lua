-- SHA-256 (FIPS 180-4) of a text of up to 2^29 bytes, as 64 lower-case hexadecimal digits. Returns the function.
--
-- Words are 32-bit integers with a sign, as LuaJIT's bit operations give them. A sum of a few of them is exact
-- in a double, and `tobit` cuts it back to 32 bits.

local bit, ffi = require("bit"), require("ffi")
local band, bnot, bxor, tobit = bit.band, bit.bnot, bit.bxor, bit.tobit
local ror, rshift, lshift, tohex = bit.ror, bit.rshift, bit.lshift, bit.tohex
local byte, char = string.byte, string.char

-- FIPS 180-4, 4.2.2.
local K = {
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
}
local k = ffi.new("int32_t[64]")
for i = 0, 63 do k[i] = tobit(K[i + 1]) end

local w = ffi.new("int32_t[64]") -- the message schedule of one block

-- 5.1.1: a one, zeros, and the length in bits, up to a whole number of blocks of 64 bytes.
local function padded(text)
  local bits = #text * 8
  return text .. "\128" .. string.rep("\0", (55 - #text) % 64 + 4)
    .. char(band(rshift(bits, 24), 255), band(rshift(bits, 16), 255), band(rshift(bits, 8), 255), band(bits, 255))
end

local function schedule(text, at) -- 6.2.2, step 1
  for t = 0, 15 do
    local a, b, c, d = byte(text, at + 4 * t, at + 4 * t + 3)
    w[t] = lshift(a, 24) + lshift(b, 16) + lshift(c, 8) + d
  end
  for t = 16, 63 do
    local x, y = w[t - 15], w[t - 2]
    local s0 = bxor(ror(x, 7), ror(x, 18), rshift(x, 3))
    local s1 = bxor(ror(y, 17), ror(y, 19), rshift(y, 10))
    w[t] = tobit(s1 + w[t - 7] + s0 + w[t - 16])
  end
end

return function(text)
  local message = padded(text)
  local h0, h1, h2, h3 = 0x6a09e667, tobit(0xbb67ae85), 0x3c6ef372, tobit(0xa54ff53a) -- 5.3.3
  local h4, h5, h6, h7 = 0x510e527f, tobit(0x9b05688c), 0x1f83d9ab, 0x5be0cd19
  for at = 1, #message, 64 do
    schedule(message, at)
    local a, b, c, d, e, f, g, h = h0, h1, h2, h3, h4, h5, h6, h7
    for t = 0, 63 do -- 6.2.2, step 3
      local t1 = h + bxor(ror(e, 6), ror(e, 11), ror(e, 25)) + bxor(band(e, f), band(bnot(e), g)) + k[t] + w[t]
      local t2 = bxor(ror(a, 2), ror(a, 13), ror(a, 22)) + bxor(band(a, b), band(a, c), band(b, c))
      h, g, f, e, d, c, b, a = g, f, e, tobit(d + t1), c, b, a, tobit(t1 + t2)
    end
    h0, h1, h2, h3 = tobit(h0 + a), tobit(h1 + b), tobit(h2 + c), tobit(h3 + d)
    h4, h5, h6, h7 = tobit(h4 + e), tobit(h5 + f), tobit(h6 + g), tobit(h7 + h)
  end
  return tohex(h0) .. tohex(h1) .. tohex(h2) .. tohex(h3) .. tohex(h4) .. tohex(h5) .. tohex(h6) .. tohex(h7)
end
