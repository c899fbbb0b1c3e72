"""Training, importing and exporting networks. Needs the ``train`` extra; scanning does not."""
