"""ShieldService over a real channel: what it answers, and how it refuses what it cannot use."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.shield.service import open_service
from shieldmesh import calls, channels, errors, server
from shieldmesh.profile import struct
from shieldmesh.v1 import policy_pb2, shield_pb2, shield_pb2_grpc
from tests.services.shield.examples import CARD, EMAIL
