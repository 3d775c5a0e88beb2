"""Offline reinforcement learning: the Decision Transformer on the twelve D4RL locomotion sets and their surrogates."""
