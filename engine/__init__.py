"""The headless engine: everything from a folder of pictures to a trained backbone and what it sees.

The folders are the verbs of the product. The engine never imports Qt nor the window.
"""

__version__ = "0.1.0"
