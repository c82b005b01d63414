"""Who may use something of which there is not enough, who waits, and who is sent away."""

from shieldmesh.admission.places import MAX_RUNNING, MAX_WAITING, Place, Places

__all__ = ["MAX_RUNNING", "MAX_WAITING", "Place", "Places"]
