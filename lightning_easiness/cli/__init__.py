"""The command line `lightning-easiness`."""
