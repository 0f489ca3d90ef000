"""``python -m tilus``: the command line."""

from tilus.cli.main import main

if __name__ == "__main__":
    main()
