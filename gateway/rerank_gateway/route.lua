-- Decide which model a request is for, and say so in headers that pick its cluster.
--
-- The answers to callers are written where the gateway's configuration is built and come in `settings`:
--   face_paths      the paths that model servers answer, longest first
--   proxy_prefix    "/model/proxy/"
--   model_headers   the headers that may name the model, in lower case
--   cluster_header, and the beginnings of clusters' names: name_prefix, host_prefix
--   max_name_bytes, max_body_bytes
--   replies         name of a shape -> name of a problem -> {status, headers, body}; the body may hold the hole {at}
--   regions         path of a model server -> name of the shape of errors there; elsewhere it is "native"

local scan, settings = ...

-- `face` is nil where the path is none of a model server.
local function answer(handle, face, problem, holes)
  local reply = settings.replies[face and settings.regions[face] or "native"][problem]
  local body = holes and string.gsub(reply.body, "{(%l+)}", holes) or reply.body
  local headers = { [":status"] = reply.status, ["content-type"] = "application/json" }
  for name, value in pairs(reply.headers) do headers[name] = value end
  handle:respond(headers, body)
end

-- The grammar of public names, as rerank_api.names has it in Python.
local function is_name(text)
  return #text <= settings.max_name_bytes
    and string.find(text, "^%w[%w._:@/-]*$") ~= nil
    and string.find(text, "%w$") ~= nil
    and not string.find(text, "//", 1, true)
    and not string.find(text, "/.", 1, true)
end

-- Split "/model/proxy/<name><face path>?<query>". Returns the face path and the name still encoded, which is
-- nil where the path names no model, or nil where this is no path of a model server.
local function split(path)
  local named = string.sub(path, 1, #settings.proxy_prefix) == settings.proxy_prefix
  local rest = named and string.sub(path, #settings.proxy_prefix) or path
  for _, face in ipairs(settings.face_paths) do
    if rest == face then return face, named and "" or nil end
    if named and string.sub(rest, -#face) == face then return face, string.sub(rest, 2, -#face - 1) end
  end
end

-- Undo percent-encoding once; nil where a percent sign is not followed by two hexadecimal digits.
local function unquote(text)
  local rest = string.gsub(text, "%%%x%x", "")
  if string.find(rest, "%", 1, true) then return nil end
  return (string.gsub(text, "%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end))
end

-- The model that headers and path agree on; nil where none names one, or nil and what is wrong.
local function named_model(headers, in_path)
  local model
  for _, header in ipairs(settings.model_headers) do
    for i = 0, headers:getNumValues(header) - 1 do
      local value = headers:getAtIndex(header, i)
      if not is_name(value) then return nil, "bad_header" end
      if model and model ~= value then return nil, "names_differ" end
      model = value
    end
  end
  if not in_path then return model end
  local value = unquote(in_path)
  if not value or not is_name(value) then return nil, "bad_path" end
  if model and model ~= value then return nil, "names_differ" end
  return value
end

-- The model that the body names, or nil, what is wrong and where. Waits until the whole body is there.
local function scanned_model(handle)
  local buffer = handle:body()
  if not buffer then return nil, "no_body" end
  local model, problem, at = scan.model(buffer:getBytes(0, buffer:length()))
  if model == "" then return nil, "empty" end
  if model and not is_name(model) then return nil, "bad_name" end
  return model, problem, at
end

-- The host that the caller asks for: no port, lower case.
local function host_of(headers)
  return string.lower((string.gsub(headers:get(":authority") or "", ":%d*$", "")))
end

-- Whether there are several headers Host: Envoy joins what they say. No host has a comma in its name.
local function has_several_hosts(headers)
  return string.find(headers:get(":authority") or "", ",", 1, true) ~= nil
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path")
  if not path then return end
  local mark = string.find(path, "?", 1, true)
  local face, in_path = split(mark and string.sub(path, 1, mark - 1) or path)
  if has_several_hosts(headers) then return answer(handle, face, "several_hosts") end
  if not face then return end
  local rewritten = in_path and face .. (mark and string.sub(path, mark) or "")
  if headers:get(":method") ~= "POST" then
    if rewritten then headers:replace(":path", rewritten) end
    return
  end

  local encoding = headers:get("content-encoding")
  if encoding and encoding ~= "" and string.lower(encoding) ~= "identity" then return answer(handle, face, "encoded") end
  local length = headers:get("content-length")
  if length and tonumber(length) > settings.max_body_bytes then return answer(handle, face, "too_large") end

  local model, problem, at = named_model(headers, in_path)
  if problem then return answer(handle, face, problem) end
  if not model then
    model, problem, at = scanned_model(handle)
    if problem and problem ~= "missing" then return answer(handle, face, problem, { at = tostring(at) }) end
  elseif not length then
    handle:body() -- its size is not announced: have Envoy count it against the limit
  end

  -- Changing a header makes Envoy look for the route again. Doing so before the whole body is there would
  -- lose the body's limit, which comes from the first route; waiting for the body ends the life of `headers`.
  headers = handle:headers()
  if rewritten then headers:replace(":path", rewritten) end
  if model then
    headers:replace("x-rerank-model", model)
    headers:replace(settings.cluster_header, settings.name_prefix .. model)
  else
    headers:replace(settings.cluster_header, settings.host_prefix .. host_of(headers))
  end
end

return is_name
