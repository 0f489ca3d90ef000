"""Cost models: what a compiled kernel takes, read from its machine code. Every figure is a model's."""
