"""A back end in one folder: scalar C, for a few operations. It is registered by the test that uses it."""
