"""The gRPC front: the services of proto/*.proto, embedded in a gateway's process."""
