"""The compressed systems of the papers against products of dense weights and other libraries, on the CPU."""
