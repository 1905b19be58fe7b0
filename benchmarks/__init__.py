"""
What things cost: commands that anyone can rerun.
"""
