"""`python -m shieldmesh` is the command line."""

from shieldmesh.cli import main

main()
