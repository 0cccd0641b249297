"""What the nox sessions run: generators and checks of this repository, not part of any package."""
