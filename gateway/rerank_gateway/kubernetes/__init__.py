"""The gateway's source in a cluster: RerankModels and EndpointSlices, listed and watched.

`api` is the edge to the API server, `reflector` keeps one list of objects up to date, `objects` takes the few
fields that count from them, `world` makes views of those, and `source` is all of it as the agent's source.
`peers` says where the gateway's other replicas are.
"""
