"""Chains of operations on images, fused into one kernel (the Fused Kernel Library of Amoros et al., 2025): what is read
is what the output's positions ask for, computations stay in registers, and one launch does any number of crops."""
