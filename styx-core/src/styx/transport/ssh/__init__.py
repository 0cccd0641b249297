"""SSH without an `ssh` program: logins that many commands share, keys, host keys, jump hosts, forwards, diagnosis.

Paramiko is imported by the modules that need it, and those are imported inside functions: see `styx.plugins.Hub.ssh`.
"""
