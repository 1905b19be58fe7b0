"""
Any bytes, and what we promise of them. How to run it: docs/fuzzing.md.
"""
