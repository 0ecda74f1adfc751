-- Replace the key that a request brings by its SHA-256, so that nothing behind this filter ever holds the key.
--
-- Whether the digest is one that counts is for the next filter to say; a request without one is refused there.
--   settings: key_header, longest_key

local sha256, settings = ...

-- The key in an Authorization header, the scheme in any case (RFC 9110, 11.1); nil where there is none.
local function bearer(value)
  if string.lower(string.sub(value, 1, 6)) ~= "bearer" then return nil end
  return string.match(value, "^ +([^ ]+)$", 7)
end

-- The one key of a request; nil where there is none, or where it is not clear which one counts.
local function key_of(headers)
  if headers:getNumValues("authorization") > 1 then return nil end
  local value = headers:get("authorization")
  local key = value and bearer(value)
  if value and not key then return nil end
  for i = 0, headers:getNumValues("x-api-key") - 1 do
    local other = headers:getAtIndex("x-api-key", i)
    if key and key ~= other then return nil end
    key = other
  end
  return key
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local key = key_of(headers)
  headers:remove("authorization")
  headers:remove("x-api-key")
  if key and key ~= "" and #key <= settings.longest_key then
    headers:replace(settings.key_header, sha256(key))
  end
end

return key_of
