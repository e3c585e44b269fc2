"""The real binary, the official Python client, and connections that are lost on command."""
