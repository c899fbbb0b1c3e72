"""Authors' checkpoints become detectors: read safely, checked key by key, converted, compared, installed."""
