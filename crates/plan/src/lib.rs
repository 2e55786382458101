//! Decides what a job needs: containers, volumes, networks, stages.
