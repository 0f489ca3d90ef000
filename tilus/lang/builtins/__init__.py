"""The functions a kernel may call; :mod:`tilus` exports them."""
