"""The model of GPU kernels before they are compiled: from their tiles, with layouts and schedules."""
