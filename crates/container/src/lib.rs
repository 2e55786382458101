//! Image references, container, volume and network specifications.
