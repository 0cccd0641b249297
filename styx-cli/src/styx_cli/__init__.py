"""The `styx` command. `styx_cli.main.main` is the entry point; each verb is a module of `styx_cli.commands`."""

__version__ = "0.2.0"
