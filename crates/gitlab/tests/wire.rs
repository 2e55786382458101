//! The client over real sockets, against the stand-in and against a mock from another project. Scenario numbers are those of
//! coordinator-api §17.

#[cfg(test)]
mod wire {
    pub(crate) mod fixture;

    mod delivery;
    mod environment;
    mod foreign_mock;
    mod job_calls;
    mod job_request;
    mod trust;
}
