"""Run a network file: one protocol, several engines behind it."""

from faceproof.runtime.network import FakeNetwork, Network, load_network

__all__ = ["FakeNetwork", "Network", "load_network"]
