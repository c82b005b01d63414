"""A whole mesh on one machine: four processes joined by Unix sockets.

It needs what the services need (the extra `services` and a checkout): `checkout.find` says so before anything else here
is imported.
"""
