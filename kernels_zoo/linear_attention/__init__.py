"""Attention without a softmax: its sums are a state that is carried along the sequence."""
