"""Engines: token ids in, one vector a row out. Nothing here knows HTTP, manifests or text."""
