"""Building the two images, and bringing them into the test cluster: `make images` and `make images-load`.

Standard library only, so that a machine without `.venv` can build. `__main__` tells the two stories.
"""
