//! The Docker and Podman Engine API.
