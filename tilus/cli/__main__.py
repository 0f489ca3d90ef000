"""``python -m tilus.cli``."""

from tilus.cli.main import main

main()
