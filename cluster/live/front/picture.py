"""placeholder"""
from ....proto import admin_pb2 as pb
ROLES = {}
ROLE_OF = {}
def cluster_status(status, model): ...
