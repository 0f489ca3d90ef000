"""The version, apart from the package's face so that it is read without importing anything else."""

__version__ = "0.1.0"
