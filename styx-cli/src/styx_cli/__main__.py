"""`python -m styx_cli` is `styx`."""

from styx_cli.main import main

if __name__ == "__main__":
    main()
