"""Measurements: real processes, real sockets, durable commits on. Every number says how it was made."""
