"""Python's garbage collector and a world of thousands of models.

A full collection looks at every object there is, which takes tens of milliseconds with what 5,000 models are
made of, and all of it stays anyway. A change that is told meanwhile waits.
"""

import gc


def spare_what_stays() -> None:
    """Have later collections pass over everything that there is now.

    What of it goes is freed all the same, as soon as nothing refers to it: models refer to one another in no
    circle.
    """
    gc.collect()
    gc.freeze()
