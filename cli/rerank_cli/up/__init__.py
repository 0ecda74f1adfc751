"""The local runner: manifests in, servers and a gateway out, as processes of this machine.

gather (manifests) → plan (pure) → supervisor (acts), round after round; see docs/local-runner.md.
"""
