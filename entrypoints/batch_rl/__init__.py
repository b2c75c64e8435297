"""Batch reinforcement learning: logged episodes in, a policy and estimates of its value out.

Nothing is imported here, so that ``batch_rl.presets`` stays cheap enough to check a preset before a job starts.
"""
