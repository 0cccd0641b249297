"""`python -m styx_agent` and the zipapp start here."""

from styx_agent.main import main

if __name__ == "__main__":
    raise SystemExit(main())
