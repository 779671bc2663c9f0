"""The decisions, pure: no I/O, no clock, no environment. Everything comes in as an argument."""
