-- Say how long to wait: on answers of this gateway to who calls too fast.
--
-- Where Envoy's rate limit has refused, it has written x-ratelimit-reset already; of a debt the name of the
-- refusal says until when, and what the limit is.
--   settings: metadata, refusal, owing

local settings = ...

function envoy_on_response(handle)
  local headers = handle:headers()
  if headers:get(":status") ~= "429" then return end
  local noted = handle:streamInfo():dynamicMetadata():get(settings.metadata)
  local refusal = noted and noted[settings.refusal]
  local ends, limit
  if refusal then ends, limit = string.match(refusal, settings.owing) end
  if ends then
    local wait = tostring(math.max(1, tonumber(ends) - os.time()))
    headers:replace("x-ratelimit-limit", limit)
    headers:replace("x-ratelimit-remaining", "0")
    headers:replace("x-ratelimit-reset", wait)
    headers:replace("retry-after", wait)
  elseif headers:get("x-ratelimit-remaining") == "0" and not headers:get("retry-after") then
    headers:replace("retry-after", headers:get("x-ratelimit-reset"))
  end
end
