"""What the tests of a cluster have in common: asking it, waiting for it, sending it traffic."""
