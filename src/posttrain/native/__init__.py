"""Kernels in C for CPUs, compiled when they are first wanted; where that cannot be, torch computes the same."""
