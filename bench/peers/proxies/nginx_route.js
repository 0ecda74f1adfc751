const LOCATIONS = { instant: "@instant" };

function pick(request) {
  let location;
  try {
    location = LOCATIONS[JSON.parse(request.requestText).model];
  } catch (error) {
    return request.return(400, "no JSON");
  }
  if (!location) return request.return(404, "no such model");
  request.internalRedirect(location);
}

export default { pick };
