//! A job's log: masking, timestamps, limit, spool.
