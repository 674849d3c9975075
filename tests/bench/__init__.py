"""Measurements behind the README's claims: `make bench` writes them to results/. None of them is a test."""
