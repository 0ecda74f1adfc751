"""Benchmarks of the gateway: the time that it adds, what models cost, how soon a change counts, its peers."""
