//! Configuration, secrets, locks and liveness of the process.
