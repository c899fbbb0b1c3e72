"""Operations: watching, comparing, versioning and spreading detectors over machines. Extra: ``faceproof[ops]``."""
