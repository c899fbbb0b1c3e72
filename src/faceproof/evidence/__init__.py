"""Show where, when and who, keep it, and let others check it.

Everything here starts from a finished report and the file it is about: heatmaps, the overlay video, the page, the
evidence folder and its verification. Only ``cam`` and ``watch`` scan by themselves.
"""
