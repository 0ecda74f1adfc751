"""The operator: from RerankModels to running servers, and back to a status that says in words what goes on.

`handlers` hears of changes and puts keys into `work_queue`; `reconcile` gathers what `world` knows, has the
pure modules decide (`accept`, `desired`, `drift`, `status`, `events`), and acts through `cluster`.
"""
