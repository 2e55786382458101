//! Messages between the executor and the helper.
