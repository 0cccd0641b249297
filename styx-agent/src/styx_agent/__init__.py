"""The Styx node agent: one zipapp, standard library only, Python >= 3.8."""

__version__ = "0.2.0"
