"""How good a detector is, on what, how sure we are of it, and where it breaks.

Needs the ``evaluate`` extra. Everything here reads scores or :class:`faceproof.results.Report` objects; nothing here
decides a verdict.
"""
