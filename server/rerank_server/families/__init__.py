"""Families: how a kind of checkpoint is recognised, fed with text, and read out as scores.

torch and transformers take seconds to import. They are imported where a checkpoint is opened, never at the
top of a module that the server imports when it starts: its HTTP side answers from the first moment.
"""
