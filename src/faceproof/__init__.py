"""Faceproof: says how likely a face was swapped, re-enacted or blended, where and when, and says when it cannot tell."""
__version__ = "0.1.0"
