"""A stand-in for CuPy on machines without a GPU: the folder ``cupy`` on the path is a package of that name."""
