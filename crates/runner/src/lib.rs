//! The service: slots, polling, reload, signals, sweep, outbox.
